"""The page in a real browser: steps, numbers against the graph's, keyboard, themes, phone."""

import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import funcnet as fn
from funcnet.graph._notation import summary

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

PHOTOGRAPH = pathlib.Path(__file__).parents[2] / "scripts" / "photograph.py"

VISIBLE = "element => getComputedStyle(element).visibility === 'visible'"


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, driven by Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no browser: no playwright")
    if CHROMIUM is None:
        pytest.skip("no browser: apt-get install chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser, tmp_path):
    """Opens the page of a graph; it must load nothing, and complain of nothing."""
    contexts, requests, complaints = [], [], []

    def show(graph, *, width=1200, height=700, **options):
        fn.render.html(graph, tmp_path / "page.html")
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"file://{tmp_path}/page.html")
        contexts.append(context)
        return page

    yield show
    for context in contexts:
        context.close()
    assert {url for url in requests if not url.startswith("data:")} <= {
        f"file://{tmp_path}/page.html"
    }
    assert complaints == []


VALUES = {"w1": 1, "w2": 2, "w3": 3, "w4": 4, "a": 5, "b": 5, "c": 10, "d": 55, "L": -45}
ADJOINTS = {"L": 1, "d": -1, "c": -4, "b": -3, "a": -11, "w4": -10, "w3": -5, "w2": -20, "w1": -15}


@pytest.fixture(scope="module")
def network():
    """The graph of a small MLP on four images of digits."""
    model = fn.models.mlp((64, 8, 10))
    params = model.init(jax.random.key(0))
    batch = fn.data.load("digits").train

    def cost(params, x, y):
        return fn.losses.softmax_cross_entropy(model.apply(params, x), y).mean()

    return fn.trace(cost)(params, batch.inputs[:4], batch.targets[:4])


def number(text):
    """`−4` as −4: what stands last."""
    return float(text.split("=")[-1].replace("−", "-").replace("∂", ""))


def equation(page):
    return page.locator("#equation").text_content()


def shown(page, row):
    """Of every box, by name, the line that it shows: its value, or its adjoint."""
    return {
        node.locator(".name").text_content().split(" = ")[0]: node.locator(row).text_content()
        for node in page.locator(".node").all()
        if node.locator(row).evaluate(VISIBLE)
    }


def walk(page, graph):
    """Presses → to the end; after each step yields the name of its node."""
    computed = [node for node in graph.nodes if not node.is_leaf]
    received = [node for node in reversed(graph.nodes) if node.adjoint is not None]
    for node in computed:
        page.keyboard.press("ArrowRight")
        yield "forward", node
    for node in received:
        page.keyboard.press("ArrowRight")
        yield "backward", node


@pytest.mark.slow
def test_every_step_shows_the_graphs_numbers(show, lecture):
    page = show(lecture)
    values = {name: VALUES[name] for name in ("w1", "w2", "w3", "w4", "a")}
    adjoints = {}
    for at, (phase, node) in enumerate(walk(page, lecture), start=1):
        known, exact = (values, node.value) if phase == "forward" else (adjoints, node.adjoint)
        known[node.name] = float(exact)
        assert {name: number(text) for name, text in shown(page, ".value").items()} == values
        assert {name: number(text) for name, text in shown(page, ".adjoint").items()} == adjoints
        assert number(equation(page)) == known[node.name]
        assert page.locator("#count").text_content() == f"{phase} · {at} / 17"
        assert page.locator("#panel h2").text_content() == node.name
    assert {name: values[name] for name in VALUES} == VALUES
    assert {name: adjoints[name] for name in ADJOINTS} == ADJOINTS


def test_the_equations_are_those_of_the_slide(show, lecture):
    page = show(lecture)
    written = [equation(page) for _ in walk(page, lecture)]
    assert written == [
        "b=w1 · a=1 · 5=5",
        "c=w2 · a=2 · 5=10",
        "v1=w3 · b=3 · 5=15",
        "v2=w4 · c=4 · 10=40",
        "d=v1 + v2=15 + 40=55",
        "L=10 − d=10 − 55=−45",
        "∂L∂L=1",
        "∂L∂d=∂L∂L·∂L∂d=(1)(−1)=−1",
        "∂L∂v2=∂L∂d·∂d∂v2=(−1)(1)=−1",
        "∂L∂v1=∂L∂d·∂d∂v1=(−1)(1)=−1",
        "∂L∂c=∂L∂v2·∂v2∂c=(−1)(4)=−4",
        "∂L∂b=∂L∂v1·∂v1∂b=(−1)(3)=−3",
        "∂L∂a=∂L∂b·∂b∂a+∂L∂c·∂c∂a=(−3)(1)+(−4)(2)=(−3)+(−8)=−11",
        "∂L∂w4=∂L∂v2·∂v2∂w4=(−1)(10)=−10",
        "∂L∂w3=∂L∂v1·∂v1∂w3=(−1)(5)=−5",
        "∂L∂w2=∂L∂c·∂c∂w2=(−4)(5)=−20",
        "∂L∂w1=∂L∂b·∂b∂w1=(−3)(5)=−15",
    ]
    assert page.locator(".chain").text_content() == str(lecture.chain_rule("w1"))
    slopes = [slope for slope in page.locator(".slope").all() if slope.evaluate(VISIBLE)]
    assert sorted(number(slope.text_content()) for slope in slopes) == [
        *(-1, 1, 1, 1, 2, 3, 4, 5, 5, 5, 10)
    ]


@pytest.mark.slow
def test_the_steps_of_a_network(show, network):
    page = show(network)
    for phase, node in walk(page, network):
        array = node.value if phase == "forward" else node.adjoint
        assert equation(page).endswith(f"={summary(array)}")
        panel = dict(
            zip(
                page.locator("dt").all_text_contents(),
                page.locator("dd").all_text_contents(),
                strict=True,
            )
        )
        assert panel["value" if phase == "forward" else "adjoint"] == summary(array)
        if node.value.ndim and node.value.dtype == jnp.float32:
            mean, norm = float(node.value.mean()), float(np.linalg.norm(node.value))
            assert number(panel["mean"]) == pytest.approx(mean, rel=1e-3, abs=1e-7)
            assert number(panel["norm"]) == pytest.approx(norm, rel=1e-3)


@pytest.mark.slow
def test_an_array_is_a_heat_map(show):
    page = show(fn.trace(lambda x: jnp.sum(x * x))(jnp.array([[-2.0, 0.0, 1.0], [0.0, 0.0, 2.0]])))
    page.locator(".node").first.focus()
    pixels = page.locator("aside canvas").first.evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    colours = np.array(pixels).reshape(2, 3, 4)[..., :3].tolist()
    blue, vermilion, white = [0, 114, 178], [213, 94, 0], [255, 255, 255]
    assert colours[0][0] == blue
    assert colours[1][2] == vermilion
    assert np.abs(np.array(colours[1][:2]) - white).max() <= 2


def test_the_buttons_and_the_keyboard(show, lecture):
    page = show(lecture)
    forward, backward = page.locator("#forward"), page.locator("#backward")
    for _ in range(6):
        forward.click()
    assert forward.is_disabled()
    assert equation(page).startswith("L=")
    backward.click()
    assert equation(page) == "∂L∂L=1"
    page.keyboard.press("ArrowLeft")
    assert equation(page).startswith("L=")
    page.keyboard.press("End")
    assert equation(page).startswith("∂L∂w1")
    assert backward.is_disabled()
    page.locator("#undo").click()
    assert equation(page).startswith("∂L∂w2")
    page.keyboard.press("Home")
    assert "Forward computes the values" in equation(page)
    assert shown(page, ".adjoint") == {}
    page.keyboard.press("b")  # straight to the gradients
    assert equation(page) == "∂L∂L=1"
    page.locator("#reset").click()
    page.locator(".node").nth(4).focus()
    assert page.locator("#panel h2").text_content() == "a"
    page.keyboard.press("Tab")
    assert page.locator("#panel h2").text_content() == "b"
    assert "value" not in page.locator("dt").all_text_contents()  # it is not computed yet


@pytest.mark.slow
def test_tab_brings_a_node_into_sight(show, network):
    page = show(network)
    last = page.locator(".node").last
    canvas = page.locator("#canvas").bounding_box()
    assert last.bounding_box()["x"] > canvas["x"] + canvas["width"]
    page.locator("#theme").focus()
    for node in network.nodes:
        page.keyboard.press("Tab")
        assert page.locator("#panel h2").text_content() == node.name
        box = page.locator(".node:focus rect").bounding_box()
        assert canvas["x"] <= box["x"]
        assert box["x"] + box["width"] <= canvas["x"] + canvas["width"] + 1


@pytest.mark.slow
def test_zoom_pan_and_fit(show, lecture):
    page = show(lecture)
    view = lambda: [float(x) for x in page.locator("svg").get_attribute("viewBox").split()]  # noqa: E731
    whole = view()
    page.mouse.move(300, 300)
    page.mouse.wheel(0, -250)
    page.wait_for_function("x => Number(svg.viewBox.baseVal.width) < x", arg=whole[2])
    zoomed = view()
    page.mouse.down()
    page.mouse.move(350, 320)
    page.mouse.up()
    assert view()[0] < zoomed[0]
    assert view()[1] < zoomed[1]
    assert view()[2:] == zoomed[2:]
    page.keyboard.press("f")
    assert view() == whole


HOSTILE = "<img src=x onerror=hacked=1>"


def test_names_and_source_are_never_markup(show, tmp_path):
    source = tmp_path / "hostile.py"
    source.write_text(
        "def function(p):\n"
        "    return p[NAME] * 2 + float('1')  # </script><script>hacked = 1</script> {{data}}\n"
    )
    namespace = {"NAME": HOSTILE}
    exec(compile(source.read_text(), source, "exec"), namespace)
    function = namespace["function"]
    function.__name__ = "</title><script>hacked=1</script>"
    graph = fn.trace(function)({HOSTILE: 3.0})
    page = show(graph)
    for _ in walk(page, graph):
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 2
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.title() == page.locator("h1").text_content() == "</title><script>hacked=1</script>"
    page.locator(".node").first.click()
    assert page.locator("#panel h2").text_content() == f"p['{HOSTILE}']"
    page.locator(".node").nth(1).click()
    assert "</script><script>hacked = 1</script> {{data}}" in page.locator("#panel").text_content()


def many_steps(x):
    for _ in range(99):
        x = jnp.sin(x) * x + 0.1
    return x


TIME_THE_STEPS = """async () => {
  const frame = () => new Promise(requestAnimationFrame), times = [];
  while (at < steps.length) {
    const start = performance.now();
    go(at + 1);
    svg.getBoundingClientRect();  // the layout is part of the step
    times.push(performance.now() - start);
  }
  const frames = [];
  for (let last = await frame(), i = 0; i < 30; i++) {
    zoomCenter(i % 2 ? 1.25 : .8);
    const now = await frame();
    frames.push(now - last);
    last = now;
  }
  return {times, frames};
}"""


@pytest.mark.slow
def test_three_hundred_nodes_stay_fluid(show):
    graph = fn.trace(many_steps)(0.5)
    assert 290 <= len(graph.nodes) <= 300
    page = show(graph)
    assert page.locator(".node").count() == len(graph.nodes)
    measured = page.evaluate(TIME_THE_STEPS)
    assert len(measured["times"]) == 2 * len(graph.nodes) - 1
    assert statistics.median(measured["times"]) < 50
    assert statistics.median(measured["frames"]) < 100


@pytest.mark.slow
def test_a_larger_graph_is_folded_by_source_line(show):
    def function(x):
        for _ in range(120):
            x = jnp.sin(x) * 2
            x = jnp.cos(x) + x
        return x

    graph = fn.trace(function)(0.5)
    page = show(graph)
    assert len(graph.nodes) > 300
    assert page.locator(".node").count() <= 300
    page.keyboard.press("ArrowRight")
    assert ": 2 operations" in page.locator(".node.now .name").text_content()
    assert re.search(r"v1.*sin\(x\)", page.locator("#panel").text_content())


CONTRASTS = """() => {
  const channel = c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) =>
    .2126 * channel(r / 255) + .7152 * channel(g / 255) + .0722 * channel(b / 255);
  const parse = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const of = (text, ground) => {
    const [a, b] = [light(parse(text)), light(parse(ground))];
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  };
  const paper = getComputedStyle(document.body).backgroundColor;
  const inside = e => getComputedStyle(e.closest(".node")?.querySelector("rect") ?? e);
  const drawn = [...svg.querySelectorAll("text")].map(
    e => of(getComputedStyle(e).fill, e.closest(".node") ? inside(e).fill : paper));
  const said = [...document.querySelectorAll("h1, h2, dt, dd, #count, #equation")].map(
    e => of(getComputedStyle(e).color, paper));
  return [...drawn, ...said];
}"""


@pytest.mark.slow
def test_both_themes_can_be_read(show, lecture):
    grounds = []
    for scheme in ("light", "dark"):
        page = show(lecture, color_scheme=scheme)
        page.keyboard.press("End")
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        assert min(page.evaluate(CONTRASTS)) >= 4.5
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    page.keyboard.press("t")
    grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] == grounds[2] != grounds[1]


@pytest.mark.parametrize("which", ["lecture", "network"])
@pytest.mark.slow
def test_a_phone(show, request, which):
    graph = request.getfixturevalue(which)
    page = show(graph, width=375, height=667, has_touch=True, is_mobile=True)
    for _ in walk(page, graph):
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        box, view = page.locator(".node.now rect").bounding_box(), page.locator("#canvas")
        canvas = view.bounding_box()
        assert canvas["x"] <= box["x"]
        assert box["x"] + box["width"] <= canvas["x"] + canvas["width"] + 1
        assert page.evaluate("16 / scale()") >= 11  # pixels a letter is high
        assert page.evaluate("$('equation').scrollWidth") <= 375
    page.locator("#reset").tap()
    page.locator(".node").first.tap()
    assert page.locator("#panel h2").text_content() == graph.nodes[0].name


def test_a_notebook_shows_the_page(browser, lecture):
    page = browser.new_page()
    page.set_content(lecture._repr_html_())
    frame = page.frame_locator("iframe")
    frame.locator("#forward").click()
    assert frame.locator("#equation").text_content() == "b=w1 · a=1 · 5=5"
    page.close()


@pytest.mark.usefixtures("browser")
@pytest.mark.slow
def test_the_pictures_of_the_readme_are_taken(tmp_path):
    subprocess.run([sys.executable, PHOTOGRAPH, tmp_path], check=True)
    assert plt.imread(tmp_path / "graph.png").shape[:2] == (640, 1100)
    sheet = plt.imread(tmp_path / "graph-steps.png")
    light, dark = np.split(sheet[..., :3], 2, axis=1)
    assert np.median(light) > 0.9 > 0.1 > np.median(dark)
    failed = subprocess.run(
        [sys.executable, PHOTOGRAPH, tmp_path / "none"], capture_output=True, text=True
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: folder: expected one that exists; got ")

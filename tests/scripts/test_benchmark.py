"""The benchmark: contestants that fail at any moment, its figures, its peers' learning."""

import importlib
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time

import benchmark
import contestants
import goals
import jax
import jax.numpy as jnp
import limits
import measuring
import numpy as np
import peers
import pytest
import reporting
from measuring import Growth, Record, WholeProcess
from peers import Data, Task
from reporting import Report, Workload

import funcnet as fn

SOFTMAX = Task(sizes=(784, 10), batch_size=32)
LIMITS = limits.Limits(matrix_rate=1e9, read_bandwidth=1e9)


def random_data(count=256):
    rng = np.random.default_rng(0)
    x = rng.integers(256, size=(count, 784), dtype=np.uint8)
    y = rng.integers(10, size=count, dtype=np.int32)
    return Data(x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])


@pytest.fixture
def data(tmp_path):
    return contestants.save(random_data(), tmp_path / "data.npz")


# --- races, of contestants that are made up ------------------------------------------------------

FAKE = """
import os, signal, sys, time

def start(task, data, weights):
    epoch = 0
    {start}

    def train_epoch():
        nonlocal epoch
        epoch += 1
        {train}

    def learned():
        {learned}
        return weights

    return train_epoch, learned
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Writes a contestant's module, with a statement at one of its moments; its name."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def fake(name, **statements):
        moments = dict.fromkeys(["start", "train", "learned"], "pass") | statements
        (tmp_path / f"{name}.py").write_text(FAKE.format(**moments))
        return name

    return fake


FAILING = {  # what each does, and how far it comes: start, first epoch, epochs that are timed
    "not_installed": ({"start": "import no_such_library"}, "no_such_library is not installed", -1),
    "unable": ({"start": "raise NotImplementedError('linear')"}, "linear", -1),
    "start": ({"start": r"raise KeyError('a\nb')"}, r"KeyError: 'a\nb'", -1),
    "syntax": ({"start": "("}, "SyntaxError: '(' was never closed (syntax.py, line 6)", -1),
    "exits": ({"start": "sys.exit('enough')"}, "ended with exit code 1: enough", -1),
    "first": ({"train": r"raise ValueError('no\nmore')"}, "ValueError: no", 0),
    "silent": ({"train": "raise ValueError"}, "ValueError: ", 0),
    "dies": ({"train": "os._exit(3)"}, "ended with exit code 3", 0),
    "later": ({"train": "if epoch == 5: raise MemoryError('full')"}, "MemoryError: full", 2),
    "killed": (
        {"train": "if epoch == 2: os.kill(os.getpid(), signal.SIGKILL)"},
        "killed by SIGKILL",
        1,
    ),
    "end": ({"learned": "raise OSError('lost')"}, "OSError: lost", 5),
    "segfault": (
        {"learned": "print('bad', file=sys.stderr); os.kill(os.getpid(), signal.SIGSEGV)"},
        "killed by SIGSEGV: bad",
        5,
    ),
}


def test_who_fails_is_left_out_with_the_reason_and_all_others_are_measured(fake, data):
    names = {name: fake(name, **statements) for name, (statements, _, _) in FAILING.items()}
    names = {"first in line": fake("talkative", train="print('{'); os.write(1, b'}')"), **names}
    names |= {"last in line": fake("slow", train="time.sleep(0.02)")}
    records = measuring.race(SOFTMAX, names, data, rounds=4)
    assert list(records) == list(names)
    for name, (_, reason, epochs) in FAILING.items():
        record = records[name]
        assert record.left_out == reason
        assert len(record.epochs) == max(epochs - 1, 0)
        assert math.isnan(record.start) == (epochs < 0)
        assert math.isnan(record.first_epoch) == (epochs < 1)
        assert math.isnan(record.accuracy)
    of_class_0 = (random_data().y_test == 0).mean()  # linear models begin at 0
    for name in ("first in line", "last in line"):
        record = records[name]
        assert (record.left_out, len(record.epochs)) == ("", 4)
        assert 0 < record.start < 60
        assert record.accuracy == pytest.approx(of_class_0)
        assert 10e6 < record.peak_bytes < 10e9
    assert records["last in line"].steady >= 0.02 <= records["last in line"].first_epoch


def test_who_does_not_answer_is_given_up(fake, data, monkeypatch):
    monkeypatch.setattr(contestants, "PATIENCE", 2.0)
    names = {"hangs": fake("hangs", train="time.sleep(1000)")}
    record = measuring.race(SOFTMAX, names, data, rounds=5)["hangs"]
    assert record.left_out == "no answer in 2 s"


def test_turns_are_of_two_epochs(fake, data, tmp_path):
    log = tmp_path / "log"
    for name in "ab":
        fake(name, train=f"print('{name}', end='', file=open({str(log)!r}, 'a'))")
    measuring.race(SOFTMAX, {"a": "a", "b": "b"}, data, rounds=3)
    assert log.read_text() == "abaabbaabbaabb"  # the first epochs, then two in every turn


def test_a_single_output_learns_whether_a_class_is_0():
    data = random_data()
    binary = contestants.examples_of(Task(sizes=(784, 1)), data)
    assert binary.y_train.tolist() == [int(label == 0) for label in data.y_train]
    assert binary.y_test.tolist() == binary.y_train[:100].tolist()
    assert contestants.examples_of(SOFTMAX, data) is data


def test_the_first_weights_are_hes():
    assert not any(np.any(leaf) for layer in contestants.first_weights((784, 10)) for leaf in layer)
    (W, b), (V, c) = contestants.first_weights((784, 400, 10))
    assert (W.shape, b.shape, V.shape, c.shape) == ((400, 784), (400,), (10, 400), (10,))
    assert W.var() == pytest.approx(2 / 784, rel=0.01)
    assert V.var() == pytest.approx(2 / 400, rel=0.1)
    assert not b.any()


# --- figures -------------------------------------------------------------------------------------


def test_median_and_spread():
    record = Record(epochs=(0.3, 0.1, 0.2, 0.5, 0.4))
    assert record.steady == 0.3
    assert record.spread == pytest.approx((0.4 - 0.2) / 2 / 0.3)
    assert math.isnan(Record().steady)
    assert math.isnan(Record(epochs=(1.0,)).spread)


def test_the_operations_are_those_that_xla_counts():
    sizes, batch = (784, 512, 256, 10), 512
    model = fn.models.mlp(sizes)
    cost = fn.training.mean_loss(model.apply, fn.losses.softmax_cross_entropy)
    params = jax.eval_shape(model.init, jax.random.key(0))
    x, y = (
        jax.ShapeDtypeStruct((batch, 784), jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
    )
    analysis = jax.jit(jax.grad(cost)).lower(params, x, y).compile().cost_analysis()
    assert limits.operations(sizes, batch) == pytest.approx(analysis["flops"], rel=0.02)


def test_the_floor_is_computing_or_reading():
    slow_memory = limits.Limits(matrix_rate=1e12, read_bandwidth=1e6)
    assert limits.floor(SOFTMAX, 1000, slow_memory) == pytest.approx(0.784)  # a byte an intensity
    slow_products = limits.Limits(matrix_rate=1e6, read_bandwidth=1e12)
    operations = 2 * 2 * 784 * 10 * 1000  # a multiplication and an addition, forward and backward
    assert limits.floor(SOFTMAX, 1000, slow_products) == pytest.approx(operations / 1e6)


def test_the_limits_are_those_of_a_computer():
    measured = limits.measure(fn.devices.select_device("cpu"))
    assert 1e8 < measured.read_bandwidth < 1e13
    assert 1e9 < measured.matrix_rate < 1e15


def test_the_products_alone_are_those_of_a_step(monkeypatch):
    """Timed by a clock that counts operations, their rate is 1."""

    def count(arrays, device, *, on_device, on_host, repeats):
        a, b = arrays
        product = on_host(a, b)  # of [i, k] and [k, j], in whatever order of the axes
        np.testing.assert_allclose(jax.jit(on_device)(a, b), product, rtol=1e-4)
        common = math.sqrt(a.size * b.size / product.size)
        return 2 * product.size * common

    monkeypatch.setattr(limits, "_least_seconds", count)
    cpu = fn.devices.select_device("cpu")
    for sizes in [(784, 10), (784, 1), (784, 512, 256, 10)]:
        assert limits.products_rate(Task(sizes=sizes), cpu) == pytest.approx(1)


def test_the_exponent():
    sizes = np.array([15, 30, 60, 240])
    assert measuring.fitted_exponent(sizes, 3 * sizes**1.5) == pytest.approx(1.5)
    assert measuring.fitted_exponent(sizes, np.full(4, 2.0)) == pytest.approx(0)
    assert math.isnan(measuring.fitted_exponent(sizes, [1, 2, math.nan, 3]))


def test_growth_counts_examples_batches_and_widths(data, monkeypatch):
    def race(task, contestants_, path, *, rounds):
        count = len(contestants.load(path).y_train)
        seconds = count * task.batch_size**-0.5 * task.sizes[1] ** 0.25
        return {"funcnet": Record(epochs=[seconds] * rounds, accuracy=0.9)}

    monkeypatch.setattr(measuring, "race", race)
    grown = dict(measuring.growth("cpu", data))
    assert {axis: round(g.exponent, 6) for axis, g in grown.items()} == {
        "examples": 1.0, "batch size": -0.5, "width": 0.25
    }  # fmt: skip
    assert min(grown["examples"].records), max(grown["examples"].records) == (15_000, 240_000)
    rows = contestants.load(data.with_name("15000.npz"))
    np.testing.assert_array_equal(rows.x_train[256:512], random_data().x_train)  # around again


def test_whole_processes(tmp_path):
    runs = tmp_path / "runs"

    def python(code):
        return [sys.executable, "-c", code]

    measured = measuring.cold(
        {
            "funcnet": python(
                "import time; time.sleep(0.05)\n"
                f"print('.', file=open({str(runs)!r}, 'a'))\n"
                "print('test accuracy: 0.10\\ntest accuracy: 0.93 (93 of 100)')"
            ),
            "fails": python("1 / 0"),
            "mute": python("pass"),
        },
        rounds=2,
    )
    ours = measured["funcnet"]
    assert (ours.accuracies, len(ours.seconds), ours.left_out) == ((0.93, 0.93), 2, "")
    assert min(ours.seconds) >= 0.05
    assert len(runs.read_text().splitlines()) == 3  # once more before, which prepares
    reason = "ended with exit code 1: ZeroDivisionError: division by zero"
    assert measured["fails"] == WholeProcess(left_out=reason)
    assert measured["mute"].left_out == "ended with exit code 0"


# --- the report ----------------------------------------------------------------------------------


def a_record(milliseconds, accuracy=0.92):
    return Record(
        start=1.0, first_epoch=0.5, epochs=[milliseconds / 1000] * 5, accuracy=accuracy,
        peak_bytes=500_000_000,
    )  # fmt: skip


RECORDS = {
    "funcnet": a_record(40),
    "PyTorch, in memory": a_record(260, accuracy=0.9249),
    "PyTorch, DataLoader": a_record(440),
    "Equinox": a_record(10, accuracy=0.9147),
    "NumPy by hand": Record(first_epoch=0.5, left_out="killed by SIGKILL"),
    goals.SWEEP: a_record(8),
}


def a_report(records=RECORDS, **parts):
    workload = Workload(
        task=SOFTMAX, examples=1000, floor=0.01, products_rate=7e8, contestants=records
    )
    return Report(about="today", limits=LIMITS, workloads={goals.SOFTMAX: workload}, **parts)


def test_the_table_of_a_race():
    workload = a_report().workloads[goals.SOFTMAX]
    rows = reporting.race("softmax", workload, LIMITS).strip().splitlines()
    cells = {row[:34].strip(): row[34:].split() for row in rows[2:-1]}
    assert rows[0] == "softmax: floor 10.0 ms an epoch"
    assert cells["funcnet"] == ["40.0", "0%", "1.0", "4.0", "0.50", "1.00", "0.9200", "500"]
    assert cells["PyTorch, in memory"][2:4] == ["6.5", "26.0"]
    assert cells["Equinox"][-2:] == ["void:", "accuracy"]
    assert cells["NumPy by hand"] == ["left", "out:", "killed", "by", "SIGKILL"]
    share = limits.operations((784, 10), 1000) / 0.04 / 1e9  # of the examples that there were
    expected = f"funcnet's products: {share:.0%} of the matrix rate; the products alone: 70%"
    assert rows[-1] == expected


def test_the_summary_holds_no_void_figure():
    rows = reporting.summary(a_report()).splitlines()
    assert rows[1] == "| --- | ---: |"
    assert rows[2:] == [
        "| funcnet | 40 (1.0, 4.0) |",
        "| PyTorch, in memory | 260 (6.5, 26) |",
        "| PyTorch, DataLoader | 440 (11, 44) |",
        "| Equinox | void |",
        "| NumPy by hand |  |",
        f"| {goals.SWEEP} | 8.0 (0.2, 0.8) |",
        "| floor | 10.0 |",
    ]


def test_limits_seen_later_count_for_all_workloads():
    report = a_report().with_limits(limits.Limits(matrix_rate=4e9, read_bandwidth=5e8))
    assert report.limits == limits.Limits(matrix_rate=4e9, read_bandwidth=1e9)
    operations = 2 * 2 * 784 * 10 * 1000
    assert report.workloads[goals.SOFTMAX].floor == pytest.approx(operations / 4e9)


def test_the_goals():
    cold = {
        "funcnet": WholeProcess(seconds=(2.0, 3.0, 4.0), accuracies=(0.93, 0.926, 0.93)),
        "PyTorch, in memory": WholeProcess(seconds=(9.0,), accuracies=(0.93,)),
    }
    growth = {"examples": Growth(records={}, exponent=1.06)}
    found = list(goals.goals(a_report(cold=cold, growth=growth)))
    missing = {"Equinox", "Flax (nnx)", "JAX, from scratch", "NumPy by hand"}  # or void
    assert missing == {
        goal.figure.removeprefix("times faster than ")
        for goal in found
        if goal.verdict == "not measured"
    }
    verdicts = {
        (goal.what, goal.figure): (goal.measured, goal.verdict)
        for goal in found
        if not math.isnan(goal.measured)
    }
    softmax, sweep, process = goals.SOFTMAX, "sweep of 64 softmax models", "cold process to 92 %"
    assert verdicts == {
        (softmax, "times faster than PyTorch, DataLoader"): (pytest.approx(11), "missed"),
        (softmax, "times faster than PyTorch, in memory"): (pytest.approx(6.5), "reached"),
        (softmax, "times the floor"): (pytest.approx(4), "reached"),
        (sweep, "times faster, a model, than PyTorch, in memory"): (pytest.approx(32.5), "reached"),
        (sweep, "times as long as one model"): (pytest.approx(12.8), "reached"),
        ("growth in examples", "exponent"): (1.06, "missed"),
        (process, "times faster than PyTorch, in memory"): (3.0, "reached"),
        (process, "seconds"): (3.0, "reached"),
    }
    assert (
        f"| {softmax} | times faster than PyTorch, DataLoader | ≥ 12 | 11 | missed |"
        in goals.table(a_report())
    )


def test_what_has_not_learned_is_void():
    records = {10: a_record(1), 20: a_record(2, accuracy=0.79), 40: Record(left_out="OSError: x")}
    lines = reporting.growth("width", Growth(records=records, exponent=1.0)).splitlines()
    assert [line.split("  ")[-1] for line in lines[2:]] == [
        "accuracy 0.9200", "void: it learns less than 80%", "left out: OSError: x"
    ]  # fmt: skip
    processes = {
        "funcnet": WholeProcess(seconds=(2.0, 4.0), accuracies=(0.92, 0.93)),
        "hasty": WholeProcess(seconds=(1.0, 1.0), accuracies=(0.93, 0.91)),
        "broken": WholeProcess(left_out="ended with exit code 1"),
        "other": WholeProcess(seconds=(3.0,), accuracies=(0.926,)),
    }
    lines = reporting.cold(processes).strip().splitlines()
    assert lines[0].startswith("whole process, ten epochs of softmax regression to at least 92%")
    assert lines[2].split() == ["funcnet", "3.00", "1.0", "0.9200"]
    assert lines[3].endswith("1.00    0.3    0.9100  void: less than 92%")
    assert lines[4].endswith("left out: ended with exit code 1")
    assert lines[5].endswith("1.0    0.9260  void: accuracy")
    for theirs, measured in {"funcnet": 1.0, "hasty": None, "broken": None, "other": None}.items():
        cold = {"funcnet": processes["funcnet"], goals.IN_MEMORY: processes[theirs]}
        goal = list(goals.goals(a_report(cold=cold)))[-2]
        assert goal.what == goals.COLD
        assert math.isnan(goal.measured) if measured is None else goal.measured == measured


def test_the_json_says_null_of_what_is_missing():
    written = json.loads(reporting.as_json(a_report()))
    workload = written["workloads"][goals.SOFTMAX]
    assert workload["task"]["sizes"] == [784, 10]
    assert workload["contestants"]["funcnet"]["epochs"] == [0.04] * 5
    assert workload["contestants"]["NumPy by hand"]["accuracy"] is None
    assert written["limits"] == {"matrix_rate": 1e9, "read_bandwidth": 1e9}


def test_the_picture_is_a_png_of_what_is_comparable():
    picture = reporting.picture(a_report())
    assert picture.startswith(b"\x89PNG")
    void = {**RECORDS, "Equinox": a_record(10, accuracy=0.1), "more": Record(left_out="gone")}
    assert reporting.picture(a_report(void)) == picture  # the void and the left out are no bars
    assert reporting.picture(a_report({**RECORDS, "funcnet": a_record(41)})) != picture


# --- the program ---------------------------------------------------------------------------------


def as_mnist(data):
    """What `fn.data.load` would return."""
    train = fn.Examples(inputs=data.x_train, targets=data.y_train)
    test = fn.Examples(inputs=data.x_test, targets=data.y_test)
    return fn.data.Dataset(train, test, 10, tuple("0123456789"), (28, 28))


@pytest.fixture
def program(monkeypatch, capsys, fake):
    """Runs the script with made-up contestants, funcnet's and one that is called "peer"."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")  # leaves this process as it is
    monkeypatch.setattr(fn.data, "load", lambda *args, **options: as_mnist(random_data()))
    monkeypatch.setattr(limits, "measure", lambda device: LIMITS)

    def program(*arguments, **modules):
        everyone = {"funcnet": fake("good"), "peer": fake("fine"), **modules}
        monkeypatch.setattr(benchmark, "CONTESTANTS", everyone)
        monkeypatch.setattr(measuring, "race", with_one_model(measuring_race))
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
        try:
            benchmark.run_program(benchmark.BenchmarkConfig, benchmark.main)
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return program


measuring_race = measuring.race


def with_one_model(race):
    """A race in which the sweep is funcnet's."""

    def replaced(task, names, data, **options):
        names = {n: m.replace("peers.funcnet_sweep", names["funcnet"]) for n, m in names.items()}
        return race(task, names, data, **options)

    return replaced


def test_a_quick_run(program, tmp_path):
    out = tmp_path / "bench.json"
    code, printed, errors = program("--quick", "--out", out)
    assert (code, errors) == (0, "")
    written = json.loads(out.read_text())
    assert list(written["workloads"]) == list(benchmark.QUICK)
    softmax, perceptron = written["workloads"].values()
    assert list(softmax["contestants"]) == ["funcnet", "peer", goals.SWEEP]
    assert list(perceptron["contestants"]) == ["funcnet", "peer"]
    assert all(len(r["epochs"]) == 3 for r in softmax["contestants"].values())
    assert softmax["examples"] == 256
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert printed.count("at most 1 GFLOP/s of a matrix product, 1.0 GB/s read") == 2
    assert "| funcnet |" in printed
    assert "growth" not in printed
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("bench")) == [
        "bench.json", "bench.png"
    ]  # fmt: skip


def test_a_whole_run_says_what_it_leaves_out(program, monkeypatch):
    grown = Growth(records={1: a_record(1)}, exponent=1.0)
    monkeypatch.setattr(measuring, "growth", lambda device, data, watch: [("examples", grown)])
    monkeypatch.setattr(benchmark, "WORKLOADS", {"small": Task(sizes=(784, 10))})
    code, printed, errors = program("--rounds", 5)
    assert (code, errors) == (0, "")
    assert "growth in examples: exponent 1.00" in printed
    assert "whole processes: left out, as they need --manual-dir and --device cpu" in printed
    cold = dict.fromkeys(["funcnet", "PyTorch, in memory"], WholeProcess((2.0,), (0.93,)))
    monkeypatch.setattr(measuring, "cold", lambda commands, watch: cold)
    code, printed, errors = program("--manual-dir", "somewhere")
    assert (code, errors) == (0, "")
    assert "| cold process to 92 % | seconds | ≤ 3.5 | 2 | reached |" in printed


def test_funcnets_own_failure_is_said(program, fake, tmp_path):
    failing = fake("failing", train="raise ValueError('lost its way')")
    out = tmp_path / "bench.json"
    code, printed, errors = program("--quick", "--out", out, funcnet=failing)
    assert code == 1
    assert errors == (
        "error: expected funcnet to train; it failed: "
        f"{goals.SOFTMAX}: ValueError: lost its way; mlp 784-128-10: ValueError: lost its way\n"
    )
    assert printed.count("funcnet failed: there is nothing to compare with") == 2
    assert len(json.loads(out.read_text())["workloads"]) == 2


BAD = {
    "--rounds 0": "--rounds: expected at least 5; got 0. Try --quick.",
    "--rounds -3": "--rounds: expected at least 5; got -3. Try --quick.",
    "--rounds 4": "--rounds: expected at least 5; got 4. Try --quick.",
    "--out bench.txt": "--out: expected a name ending in .json; got 'bench.txt'.",
    "--out nowhere/bench.json": "--out: expected a file in a folder that exists; got 'nowhere/",
    "--device foo": "device: expected one of ",
    "--device gpu": "device: expected a gpu that JAX can see; ",
}


@pytest.mark.parametrize("command", BAD)
def test_bad_options_are_one_line(program, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if command == "--device gpu" and jax.default_backend() != "cpu":
        pytest.skip("there is a GPU")
    code, printed, errors = program(*command.split())
    assert (code, printed) == (2, "")
    assert errors.startswith(f"error: {BAD[command]}")
    assert errors.count("\n") == 1


INTERRUPTED = """
import sys, pathlib
sys.path[:0] = [{scripts!r}, {tests!r}]
import benchmark, limits, test_benchmark
benchmark.fn.data.load = lambda *a, **o: test_benchmark.as_mnist(test_benchmark.random_data())
limits.measure = lambda device: test_benchmark.LIMITS
benchmark.CONTESTANTS = {{"funcnet": "good", "slow": "slow"}}
benchmark.WORKLOADS = dict.fromkeys(["first", "second"], test_benchmark.SOFTMAX)
sys.argv[1:] = ["--out", {out!r}]
benchmark.run_program(benchmark.BenchmarkConfig, benchmark.main)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_what_was_measured_and_no_process(fake, tmp_path, number, code):
    """The second workload never ends: its contestant sleeps, having said which process it is."""
    pids, out, temporary = tmp_path / "pids", tmp_path / "bench.json", tmp_path / "temporary"
    temporary.mkdir()
    write = f"print(os.getpid(), file=open({str(pids)!r}, 'a'), flush=True)"
    fake("good", start=write)
    fake("slow", start=write, train=f"if len(open({str(pids)!r}).readlines()) > 2: time.sleep(999)")
    driver = INTERRUPTED.format(
        scripts=os.path.dirname(benchmark.__file__), tests=os.path.dirname(__file__), out=str(out)
    )
    process = subprocess.Popen(
        [sys.executable, "-c", driver], env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not pids.exists() or len(pids.read_text().splitlines()) < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, "error: interrupted\n")
    assert "second" not in printed
    assert list(json.loads(out.read_text())["workloads"]) == ["first"]
    assert not list(temporary.iterdir())
    for pid in map(int, pids.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# --- the peers, against NumPy by hand ------------------------------------------------------------

LINEAR, LOGISTIC = Task(sizes=(784, 10)), Task(sizes=(784, 1))
DEEP = Task(sizes=(784, 16, 10))
SHARING_AN_ORDER = ("numpy_by_hand", "jax_from_scratch", "equinox_loop", "flax_nnx")
PEERS = (
    *SHARING_AN_ORDER, "funcnet_epoch", "pytorch_in_memory", "pytorch_dataloader",
    "pytorch_compile",
)  # fmt: skip
NEEDS = {"equinox_loop": "equinox", "flax_nnx": "flax"} | {
    name: "torch" for name in PEERS if name.startswith("pytorch")
}


@pytest.fixture
def learn(monkeypatch):
    """Trains a peer as its process would, in this one; what it has learned."""
    monkeypatch.setenv("PJRT_NPROC", os.environ.get("PJRT_NPROC", "1"))  # not to be set by a peer

    def learn(name, task, data, *, epochs=1):
        if name in NEEDS:
            pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is in the extra [bench]")
        if name == "pytorch_compile":  # the same steps, without the half minute of a compiler
            monkeypatch.setattr("torch.compile", lambda function: function)
        data = contestants.examples_of(task, data)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            start = importlib.import_module(f"peers.{name}").start
            train_epoch, learned = start(task, data, contestants.first_weights(task.sizes))
            for _ in range(epochs):
                train_epoch()
            return learned()

    return learn


def assert_layers_close(layers, expected, atol=1e-6):
    assert len(layers) == len(expected)
    for (W, b), (V, c) in zip(layers, expected, strict=True):
        assert (W.shape, b.shape) == (V.shape, c.shape)
        np.testing.assert_allclose(W, V, rtol=1e-4, atol=atol)
        np.testing.assert_allclose(b, c, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("task", [LINEAR, LOGISTIC, DEEP], ids=["softmax", "logistic", "mlp"])
@pytest.mark.parametrize("name", PEERS)
def test_a_step_on_all_examples_is_that_of_the_formula(name, task, learn):
    data, task = random_data(64), task._replace(batch_size=64)
    layers = [(W.astype(float), b.astype(float)) for W, b in contestants.first_weights(task.sizes)]
    x, y = data.x_train / 255, data.y_train
    values = [x]
    for W, b in layers[:-1]:
        values.append((values[-1] @ W.T + b).clip(0))
    W, b = layers[-1]
    z = values[-1] @ W.T + b
    if task.sizes[-1] == 1:
        delta = 1 / (1 + np.exp(-z)) - (y == 0)[:, None]
    else:
        delta = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) - np.eye(10)[y]
    expected = []
    for (W, b), h in zip(layers[::-1], values[::-1], strict=True):
        mean = delta / len(x)
        expected.insert(0, (W - 0.1 * mean.T @ h, b - 0.1 * mean.sum(axis=0)))
        delta = delta @ W * (h > 0)
    learned = learn(name, task, data)
    assert_layers_close(learned, expected)
    assert {leaf.dtype for layer in learned for leaf in layer} == {np.dtype(np.float32)}


@pytest.mark.parametrize("task", [LINEAR, LOGISTIC, DEEP], ids=["softmax", "logistic", "mlp"])
def test_numpy_computes_in_float32(task, learn):
    """Its updates are in place, so that the weights alone would not tell."""
    seen = set()

    class Watched(np.ndarray):
        def __array_finalize__(self, of):
            seen.add(self.dtype)

    data = random_data(8)
    learn("numpy_by_hand", task, data._replace(x_train=data.x_train.view(Watched)))
    floats = {dtype for dtype in seen if dtype.kind == "f"}
    assert floats == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", PEERS)
def test_every_batch_is_a_step_the_ragged_one_too(name, learn):
    """Of one example, over and over, any order has the same batches: 3 of 4, and 1 of 2."""
    one = random_data(1)
    data = Data(*(np.repeat(array[:1], 14, axis=0) for array in one))
    expected = learn("numpy_by_hand", DEEP._replace(batch_size=1), Data(*(a[:4] for a in data)))
    assert_layers_close(learn(name, DEEP._replace(batch_size=4), data), expected)


@pytest.mark.parametrize("name", [*PEERS, "sklearn_sgd"])
def test_every_example_is_seen_once_an_epoch(name, learn):
    """Each lights a pixel of its own, whose weight tells how often it was seen."""
    count = 24
    x = np.zeros((count, 784), np.uint8)
    x[np.arange(count), np.arange(count)] = 255
    y = (np.arange(count) % 2).astype(np.int32)
    data = Data(x_train=x, y_train=y, x_test=x, y_test=y)
    task = LOGISTIC._replace(batch_size=4, learning_rate=0.01)
    ((W, _),) = learn(name, task, data, epochs=3)
    a_visit = 0.01 / 4 * 0.5  # the rate, over the batch, times y − σ(0)
    assert W.dtype == np.float32
    np.testing.assert_allclose(W[0, :count], 3 * a_visit * (1 - 2 * y), rtol=0.02)
    assert not W[0, count:].any()


@pytest.mark.parametrize("name", SHARING_AN_ORDER[1:])
def test_with_the_same_order_the_same_is_learned(name, learn):
    data, task = random_data(100), DEEP._replace(batch_size=32)
    expected = learn("numpy_by_hand", task, data, epochs=2)
    assert_layers_close(learn(name, task, data, epochs=2), expected, atol=1e-5)


def test_the_models_of_the_sweep_learn_from_all_examples(learn):
    data = random_data(64)
    ((W, b),) = learn("funcnet_sweep", LINEAR._replace(batch_size=16), data, epochs=30)
    assert (W.shape, b.shape, W.dtype) == ((64, 10, 784), (64, 10), np.float32)
    assert peers.accuracy([(W, b)], data.x_train, data.y_train) > 0.9
    assert len({model.tobytes() for model in W}) == 64


@pytest.mark.parametrize("sizes", [(784, 10), (784, 1), (784, 16, 8, 10)])
def test_accuracy_is_that_of_funcnets_evaluation(sizes):
    data = contestants.examples_of(Task(sizes=sizes), random_data())
    rng = np.random.default_rng(1)
    layers = [
        (rng.normal(size=W.shape).astype(np.float32), rng.normal(size=b.shape).astype(np.float32))
        for W, b in contestants.first_weights(sizes)
    ]
    start = importlib.import_module("peers.funcnet_epoch").put_together
    model, loss, params = start(Task(sizes=sizes), layers)
    examples = fn.Examples(inputs=data.x_train, targets=data.y_train)
    expected = fn.training.evaluate(model.apply, loss, params, examples).accuracy
    assert peers.accuracy(layers, data.x_train, data.y_train) == pytest.approx(float(expected))
    stacked = [(np.stack([W, W]), np.stack([b, b])) for W, b in layers]
    assert peers.accuracy(stacked, data.x_train, data.y_train) == pytest.approx(float(expected))


def test_a_perceptron_is_nothing_for_sklearn():
    sklearn_sgd = importlib.import_module("peers.sklearn_sgd")
    with pytest.raises(NotImplementedError, match="SGDClassifier is a linear model"):
        sklearn_sgd.start(DEEP, random_data(), contestants.first_weights(DEEP.sizes))


def test_every_contestant_is_a_file_and_every_file_one(request):
    folder = request.config.rootpath / "scripts" / "peers"
    files = {f"peers.{path.stem}" for path in folder.glob("*.py")}
    apart = {"peers.__init__", "peers.funcnet_sweep", "peers.pytorch_cold"}
    assert files - apart == set(benchmark.CONTESTANTS.values())


def test_the_readme_shows_the_tables_that_are_printed(request):
    readme = (request.config.rootpath / "README.md").read_text()
    lines = readme[readme.index("## Speed") :].splitlines()
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert cells[0][1:] == list(benchmark.WORKLOADS)
    names = [row[0] for row in cells[2 : 2 + len(benchmark.CONTESTANTS) + 2]]
    assert names == [*benchmark.CONTESTANTS, goals.SWEEP, "floor"]
    workloads = {
        name: Workload(task=task, examples=1, floor=1.0, products_rate=1.0, contestants={})
        for name, task in benchmark.WORKLOADS.items()
    }
    cold = dict.fromkeys(["funcnet", goals.IN_MEMORY], WholeProcess())
    growth = {"examples": Growth(records={}, exponent=1.0)}
    report = Report(about="", limits=LIMITS, workloads=workloads, growth=growth, cold=cold)
    asked = [[goal.what, goal.figure, goal.asked] for goal in goals.goals(report)]
    first = 2 + len(names) + 2
    assert [row[:3] for row in cells[first : first + len(asked)]] == asked

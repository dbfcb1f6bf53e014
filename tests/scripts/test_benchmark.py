"""The benchmark: contestants that fail at any moment, its figures, its report, its program."""

import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmark import __main__ as benchmark
from benchmark import cold, contestants, limits, races, report, tables, workloads
from benchmark.cold import WholeProcess
from benchmark.picture import picture
from benchmark.races import Growth, Record
from benchmark.report import Report, Workload
from benchmark.workloads import SOFTMAX, Data, Task

import funcnet as fn

ROOT = pathlib.Path(__file__).parents[2]
SMALL = Task(sizes=(784, 10), batch_size=32)
LIMITS = limits.Limits(matrix_rate=1e9, read_bandwidth=1e9)


def random_data(count=256):
    rng = np.random.default_rng(0)
    x = rng.integers(256, size=(count, 784), dtype=np.uint8)
    y = rng.integers(10, size=count, dtype=np.int32)
    return Data(x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])


@pytest.fixture
def data(tmp_path):
    return workloads.save(random_data(), tmp_path / "data.npz")


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
    alone = "assert not {'jax', 'torch', 'tyro'} & set(sys.modules)"  # but for its own library
    talks = "print('{'); os.write(1, b'}')"
    names = {"first in line": fake("talkative", start=alone, train=talks), **names}
    names |= {"last in line": fake("slow", train="time.sleep(0.02)")}
    records = races.race(SMALL, names, data, rounds=4)
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
    record = races.race(SMALL, names, data, rounds=5)["hangs"]
    assert record.left_out == "no answer in 2 s"


def test_turns_are_of_two_epochs(fake, data, tmp_path):
    log = tmp_path / "log"
    for name in "ab":
        fake(name, train=f"print('{name}', end='', file=open({str(log)!r}, 'a'))")
    races.race(SMALL, {"a": "a", "b": "b"}, data, rounds=3)
    assert log.read_text() == "abaabbaabbaabb"  # the first epochs, then two in every turn


def test_a_single_output_learns_whether_a_class_is_0():
    data = random_data()
    binary = workloads.examples_of(Task(sizes=(784, 1)), data)
    assert binary.y_train.tolist() == [int(label == 0) for label in data.y_train]
    assert binary.y_test.tolist() == binary.y_train[:100].tolist()
    assert workloads.examples_of(SMALL, data) is data


def test_the_first_weights_are_hes():
    assert not any(np.any(leaf) for layer in workloads.first_weights((784, 10)) for leaf in layer)
    (W, b), (V, c) = workloads.first_weights((784, 400, 10))
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
    assert limits.floor(SMALL, 1000, slow_memory) == pytest.approx(0.784)  # a byte an intensity
    slow_products = limits.Limits(matrix_rate=1e6, read_bandwidth=1e12)
    operations = 2 * 2 * 784 * 10 * 1000  # a multiplication and an addition, forward and backward
    assert limits.floor(SMALL, 1000, slow_products) == pytest.approx(operations / 1e6)


@pytest.mark.parametrize(
    ("side", "read"), [(512, 2**24), pytest.param(2048, 2**28, marks=pytest.mark.slow)]
)
def test_the_limits_are_those_of_a_computer(monkeypatch, side, read):
    monkeypatch.setattr(limits, "SIDE", side)
    monkeypatch.setattr(limits, "READ", read)
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
    assert races.fitted_exponent(sizes, 3 * sizes**1.5) == pytest.approx(1.5)
    assert races.fitted_exponent(sizes, np.full(4, 2.0)) == pytest.approx(0)
    assert math.isnan(races.fitted_exponent(sizes, [1, 2, math.nan, 3]))


def test_growth_counts_examples_batches_and_widths(tmp_path, monkeypatch):
    small = {key: array[..., :4] for key, array in vars(random_data()).items() if key[0] == "x"}
    narrow = dataclasses.replace(random_data(), **small)  # four pixels, for small files
    data = workloads.save(narrow, tmp_path / "data.npz")

    def race(task, contestants_, path, *, rounds):
        count = len(workloads.load(path).y_train)
        seconds = count * task.batch_size**-0.5 * task.sizes[1] ** 0.25
        return {"funcnet": Record(epochs=[seconds] * rounds, accuracy=0.9)}

    monkeypatch.setattr(races, "race", race)
    grown = dict(races.growth("cpu", data))
    assert {axis: round(g.exponent, 6) for axis, g in grown.items()} == {
        "examples": 1.0, "batch size": -0.5, "width": 0.25
    }  # fmt: skip
    assert min(grown["examples"].records), max(grown["examples"].records) == (15_000, 240_000)
    rows = workloads.load(data.with_name("15000.npz"))
    np.testing.assert_array_equal(rows.x_train[256:512], narrow.x_train)  # around again


def test_whole_processes(tmp_path):
    runs = tmp_path / "runs"

    def python(code):
        return [sys.executable, "-c", code]

    measured = cold.measure(
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
    contestants.SWEEP: a_record(8),
}


def a_report(records=RECORDS, **parts):
    workload = Workload(
        task=SMALL, examples=1000, floor=0.01, products_rate=7e8, contestants=records
    )
    return Report(about="today", limits=LIMITS, workloads={SOFTMAX: workload}, **parts)


def test_the_table_of_a_race():
    workload = a_report().workloads[SOFTMAX]
    rows = tables.race("softmax", workload, LIMITS).strip().splitlines()
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
    rows = tables.summary(a_report()).splitlines()
    assert rows[1] == "| --- | ---: |"
    assert rows[2:] == [
        "| funcnet | 40 (1.0, 4.0) |",
        "| PyTorch, in memory | 260 (6.5, 26) |",
        "| PyTorch, DataLoader | 440 (11, 44) |",
        "| Equinox | void |",
        "| NumPy by hand |  |",
        f"| {contestants.SWEEP} | 8.0 (0.2, 0.8) |",
        "| floor | 10.0 |",
    ]


def test_limits_seen_later_count_for_all_workloads():
    later = a_report().with_limits(limits.Limits(matrix_rate=4e9, read_bandwidth=5e8))
    assert later.limits == limits.Limits(matrix_rate=4e9, read_bandwidth=1e9)
    operations = 2 * 2 * 784 * 10 * 1000
    assert later.workloads[SOFTMAX].floor == pytest.approx(operations / 4e9)


def test_the_figures_of_a_race():
    workload = a_report().workloads[SOFTMAX]
    assert workload.times("PyTorch, DataLoader") == pytest.approx(11)
    assert workload.times("PyTorch, in memory") == pytest.approx(6.5)
    assert workload.times(contestants.SWEEP) == pytest.approx(0.2)
    assert workload.floors("funcnet") == pytest.approx(4)
    for missing in ("Equinox", "NumPy by hand", "Flax (nnx)"):  # void, left out, not in this race
        assert math.isnan(workload.times(missing))


def test_what_has_not_learned_is_void():
    records = {10: a_record(1), 20: a_record(2, accuracy=0.79), 40: Record(left_out="OSError: x")}
    lines = tables.growth("width", Growth(records=records, exponent=1.0)).splitlines()
    assert [line.split("  ")[-1] for line in lines[2:]] == [
        "accuracy 0.9200", "void: it learns less than 80%", "left out: OSError: x"
    ]  # fmt: skip
    processes = {
        "funcnet": WholeProcess(seconds=(2.0, 4.0), accuracies=(0.92, 0.93)),
        "hasty": WholeProcess(seconds=(1.0, 1.0), accuracies=(0.93, 0.91)),
        "broken": WholeProcess(left_out="ended with exit code 1"),
        "other": WholeProcess(seconds=(3.0,), accuracies=(0.926,)),
    }
    lines = tables.cold(processes).strip().splitlines()
    assert lines[0].startswith("whole process, ten epochs of softmax regression to at least 92%")
    assert lines[2].split() == ["funcnet", "3.00", "1.0", "0.9200"]
    assert lines[3].endswith("1.00    0.3    0.9100  void: less than 92%")
    assert lines[4].endswith("left out: ended with exit code 1")
    assert lines[5].endswith("1.0    0.9260  void: accuracy")
    faults = {name: report.why_void(p, processes["funcnet"]) for name, p in processes.items()}
    assert faults == {
        "funcnet": "", "hasty": "less than 92%", "broken": "left out", "other": "accuracy"
    }  # fmt: skip


def test_the_json_says_null_of_what_is_missing():
    written = json.loads(report.as_json(a_report()))
    workload = written["workloads"][SOFTMAX]
    assert workload["task"]["sizes"] == [784, 10]
    assert workload["contestants"]["funcnet"]["epochs"] == [0.04] * 5
    assert workload["contestants"]["NumPy by hand"]["accuracy"] is None
    assert written["limits"] == {"matrix_rate": 1e9, "read_bandwidth": 1e9}


def test_the_picture_is_a_png_of_what_is_comparable():
    png = picture(a_report())
    assert png.startswith(b"\x89PNG")
    void = {**RECORDS, "Equinox": a_record(10, accuracy=0.1), "more": Record(left_out="gone")}
    assert picture(a_report(void)) == png  # the void and the left out are no bars
    assert picture(a_report({**RECORDS, "funcnet": a_record(41)})) != png


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
    monkeypatch.setattr(limits, "products_rate", lambda task, device: 5e8)

    def program(*arguments, **modules):
        everyone = {"funcnet": fake("good"), "peer": fake("fine"), **modules}
        monkeypatch.setattr(benchmark, "CONTESTANTS", everyone)
        monkeypatch.setattr(races, "race", with_one_model(genuine_race))
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
        try:
            benchmark.run_program(benchmark.BenchmarkConfig, benchmark.main)
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return program


genuine_race = races.race


def with_one_model(race):
    """A race in which the sweep is funcnet's."""

    def replaced(task, names, data, **options):
        names = {n: m.replace(contestants.SWEEP_MODULE, names["funcnet"]) for n, m in names.items()}
        return race(task, names, data, **options)

    return replaced


def test_a_quick_run(program, tmp_path):
    out = tmp_path / "bench.json"
    code, printed, errors = program("--quick", "--out", out)
    assert (code, errors) == (0, "")
    written = json.loads(out.read_text())
    assert list(written["workloads"]) == list(benchmark.QUICK)
    softmax, perceptron = written["workloads"].values()
    assert list(softmax["contestants"]) == ["funcnet", "peer", contestants.SWEEP]
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
    monkeypatch.setattr(races, "growth", lambda device, data, watch: [("examples", grown)])
    monkeypatch.setattr(benchmark, "WORKLOADS", {"small": Task(sizes=(784, 10))})
    code, printed, errors = program("--rounds", 5)
    assert (code, errors) == (0, "")
    assert "growth in examples: exponent 1.00" in printed
    assert "whole processes: left out, as they need --manual-dir and --device cpu" in printed
    process = WholeProcess(seconds=(2.0,), accuracies=(0.93,))
    processes = dict.fromkeys(["funcnet", "PyTorch, in memory"], process)
    monkeypatch.setattr(cold, "measure", lambda commands, watch: processes)
    code, printed, errors = program("--manual-dir", "somewhere")
    assert (code, errors) == (0, "")
    rows = [line.split() for line in printed.splitlines()]
    assert ["PyTorch,", "in", "memory", "2.00", "1.0", "0.9300"] in rows
    assert "whole processes: left out" not in printed


def test_funcnets_own_failure_is_said(program, fake, tmp_path):
    failing = fake("failing", train="raise ValueError('lost its way')")
    out = tmp_path / "bench.json"
    code, printed, errors = program("--quick", "--out", out, funcnet=failing)
    assert code == 1
    assert errors == (
        "error: expected funcnet to train; it failed: "
        f"{SOFTMAX}: ValueError: lost its way; mlp 784-128-10: ValueError: lost its way\n"
    )
    assert printed.count("funcnet failed: there is nothing to compare with") == 2
    assert len(json.loads(out.read_text())["workloads"]) == 2


BAD = {
    "--rounds 0": "--rounds: expected at least 5; got 0. Try --quick.",
    "--rounds -3": "--rounds: expected at least 5; got -3. Try --quick.",
    "--rounds 4": "--rounds: expected at least 5; got 4. Try --quick.",
    "--out bench.txt": "--out: expected a name ending in .json; got 'bench.txt'.",
    "--out nowhere/bench.json": "--out: expected a file in a folder that exists; got 'nowhere/",
    "--device foo": "--device: expected one of ",
    "--device gpu": "--device: expected a gpu that JAX can see; ",
}


@pytest.mark.parametrize("command", BAD)
def test_bad_options_are_one_line(program, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if command == "--device gpu" and jax.default_backend() != "cpu":
        pytest.skip("there is a GPU")
    code, printed, errors = program(*command.split())
    assert (code, printed) == (2, "")
    assert errors.replace("error: device", "error: --device").startswith(f"error: {BAD[command]}")
    assert errors.count("\n") == 1


def test_the_folder_is_a_program(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "benchmark", "--rounds", "4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {BAD['--rounds 4']}\n"


INTERRUPTED = """
import sys, pathlib
sys.path[:0] = [{scripts!r}, {tests!r}]
import test_benchmark
from benchmark import __main__ as benchmark, limits
benchmark.fn.data.load = lambda *a, **o: test_benchmark.as_mnist(test_benchmark.random_data())
limits.measure = lambda device: test_benchmark.LIMITS
benchmark.CONTESTANTS = {{"funcnet": "good", "slow": "slow"}}
benchmark.WORKLOADS = dict.fromkeys(["first", "second"], test_benchmark.SMALL)
sys.argv[1:] = ["--out", {out!r}]
benchmark.run_program(benchmark.BenchmarkConfig, benchmark.main)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_what_was_measured_and_no_process(fake, tmp_path, number, code):
    """The second workload never ends: its contestant sleeps, having said which process it is."""
    pids, out, temporary = tmp_path / "pids", tmp_path / "bench.json", tmp_path / "temporary"
    temporary.mkdir()
    write = f"print(os.getpid(), file=open({str(pids)!r}, 'a'), flush=True)"
    fake("good", start=write)
    fake("slow", start=write, train=f"if len(open({str(pids)!r}).readlines()) > 2: time.sleep(999)")
    driver = INTERRUPTED.format(
        scripts=str(ROOT / "scripts"), tests=str(ROOT / "tests" / "scripts"), out=str(out)
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


# --- what is said of it --------------------------------------------------------------------------


def test_every_contestant_is_a_file_and_every_file_one():
    folder = ROOT / "scripts" / "benchmark" / "peers"
    files = {f"benchmark.peers.{path.stem}" for path in folder.glob("*.py")}
    apart = {f"benchmark.peers.{name}" for name in ("__init__", "pytorch_cold")}
    assert files - apart == {*contestants.CONTESTANTS.values(), contestants.SWEEP_MODULE}


def test_the_page_shows_the_table_that_is_printed():
    lines = (ROOT / "docs" / "benchmark.md").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| ms an epoch"))
    names = [*contestants.CONTESTANTS, contestants.SWEEP, "floor"]
    rows = lines[first : first + 2 + len(names)]
    head, rule, *cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    race = Workload(task=SMALL, examples=1, floor=1.0, products_rate=1.0, contestants={})
    empty = Report(about="", limits=LIMITS, workloads=dict.fromkeys(workloads.WORKLOADS, race))
    printed = tables.summary(empty).splitlines()
    assert [head, rule] == [[c.strip() for c in row.split("|")[1:-1]] for row in printed[:2]]
    assert [row[0] for row in cells] == names

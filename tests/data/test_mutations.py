"""Two hundred damaged files: each one a clear error, quickly, in bounded memory."""

import gzip
import io
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from funcnet.data import _data as data

SECONDS, BYTES = 10, 64 * 2**20
CLEAR = "expected|declared|has classes that"
NAMES = {
    "train-images": "train-images-idx3-ubyte.gz",
    "train-labels": "train-labels-idx1-ubyte.gz",
    "t10k-images": "t10k-images-idx3-ubyte.gz",
    "t10k-labels": "t10k-labels-idx1-ubyte.gz",
}
COUNTS = {"train": 60, "t10k": 40}
SIXTY_BILLION = 60_000_000_000


def refused(path, **options):
    """Loads what is damaged; the message of its error, after bounded time and memory."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises((ValueError, TypeError), match=CLEAR) as caught:
            data.load(path, **options)
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < SECONDS
    text = str(caught.value)
    assert len(text) < 1000
    assert "\n" not in text
    return text


# --- MNIST's files -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def idx(mnist_dir):
    """The first images and labels of MNIST's own files, unpacked, by the start of their names."""
    contents = {}
    for kind, name in NAMES.items():
        count = COUNTS[kind.split("-")[0]]
        header, width = (16, 784) if "images" in kind else (8, 1)
        with gzip.open(mnist_dir / name) as file:
            content = file.read(header + count * width)
        contents[kind] = content[:4] + struct.pack(">I", count) + content[8:]
    return contents


@pytest.fixture
def load_idx(idx, tmp_path, monkeypatch):
    """Loads MNIST from these files, one of them replaced, their checksums unseen."""

    def call(kind=None, packed=b"", load=refused):
        for other, content in idx.items():
            replaced = packed if other == kind else gzip.compress(content, mtime=0)
            (tmp_path / NAMES[other]).write_bytes(replaced)
        monkeypatch.setattr(
            data, "_verify", lambda folder, digests: {name: folder / name for name in digests}
        )
        text = load("mnist", manual_dir=tmp_path, data_dir=tmp_path / "data")
        assert (tmp_path / "data" / "funcnet" / "mnist.npz").exists() == (kind is None)
        return text

    return call


def cut(content, rng):
    return content[: rng.integers(len(content))]


def cut_packed(content, rng):
    packed = gzip.compress(content, mtime=0)
    return packed[: rng.integers(len(packed))]


def flipped_packed(content, rng):
    packed = bytearray(gzip.compress(content, mtime=0))
    packed[rng.integers(10, len(packed))] ^= 1 << rng.integers(8)  # behind the header
    return bytes(packed)


def longer(content, rng):
    return content + rng.bytes(rng.integers(1, 100))


def wrong_magic(content, rng):
    at, change = rng.integers(4), rng.integers(1, 256)
    return content[:at] + bytes([content[at] ^ change]) + content[at + 1 :]


def wrong_length(content, rng):
    at = 4 + 4 * rng.integers(content[3])
    (length,) = struct.unpack_from(">I", content, at)
    other = length + rng.choice([-1, 1]) * rng.integers(1, length + 1)
    return content[:at] + struct.pack(">I", other) + content[at + 4 :]


def huge_length(content, rng):
    at = 4 + 4 * rng.integers(content[3])
    return content[:at] + struct.pack(">I", rng.integers(2**28, 2**32)) + content[at + 4 :]


def wrong_label(content, rng):
    at = rng.integers(8, len(content))
    return content[:at] + bytes([rng.integers(10, 256)]) + content[at + 1 :]


def fewer(content, rng):
    """A file that is right in itself, of fewer examples than its fellow."""
    (count,) = struct.unpack_from(">I", content, 4)
    header = 4 * (1 + content[3])
    kept = rng.integers(1, count)
    rest = content[8 : header + kept * (len(content) - header) // count]
    return content[:4] + struct.pack(">I", kept) + rest


UNPACKED = [cut, longer, wrong_magic, wrong_length, huge_length, fewer]
PACKED = [cut_packed, flipped_packed]
LABELS = [wrong_label]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("mutate", [*UNPACKED, *PACKED, *LABELS])
def test_mutations_of_mnist(mutate, seed, idx, load_idx):
    rng = np.random.default_rng(seed)
    kinds = [kind for kind in NAMES if mutate not in LABELS or "labels" in kind]
    kind = kinds[rng.integers(len(kinds))]
    mutated = mutate(idx[kind], rng)
    text = load_idx(kind, mutated if mutate in PACKED else gzip.compress(mutated, mtime=0))
    assert NAMES[kind] in text or mutate in (fewer, wrong_label, wrong_length)


def test_they_load_unless_they_are_damaged(load_idx):
    dataset = load_idx(load=data.load)
    assert dataset.train.inputs.shape == (60, 784)
    assert dataset.test.targets.shape == (40,)


@pytest.mark.parametrize("packed", [b"", b"\x1f\x8b", b"no gzip", gzip.compress(b"", mtime=0)])
def test_what_is_no_idx_file(packed, load_idx):
    assert NAMES["train-images"] in load_idx("train-images", packed)


def test_a_small_file_that_declares_billions_of_images(idx, load_idx):
    header = idx["train-images"][:4] + struct.pack(">III", 2**32 - 1, 28, 28)
    text = load_idx("train-images", gzip.compress(header + bytes(1000), mtime=0))
    assert "(4294967295, 28, 28): 3,367,254,359,280 bytes are declared" in text


# --- arrays of one's own -------------------------------------------------------------------------


def arrays(rng):
    return {
        "x_train": rng.normal(size=(40, 3)),
        "y_train": np.arange(40) % 2,
        "x_test": rng.normal(size=(10, 3)),
        "y_test": np.arange(10) % 2,
    }


def saved(contents, save=np.savez):
    file = io.BytesIO()
    save(file, **contents)
    return file.getvalue()


def damaged(change):
    """A mutation of one array, as a mutation of the file."""

    def mutate(rng):
        contents = arrays(rng)
        name = ["x_train", "x_test", "y_train", "y_test"][rng.integers(4)]
        contents[name] = change(contents[name], rng)
        return saved(contents)

    mutate.__name__ = change.__name__
    return mutate


def test_undamaged_arrays_load(tmp_path):
    (tmp_path / "own.npz").write_bytes(damaged(lambda array, rng: array)(np.random.default_rng(0)))
    assert data.load(tmp_path / "own.npz").train.inputs.shape == (40, 3)


def not_finite(array, rng):
    array = array.astype(float)
    array.flat[rng.integers(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
    return array


def too_large(array, rng):
    array = array.astype(float)
    array.flat[rng.integers(array.size)] = 10.0 ** rng.integers(39, 308)
    return array


def wrong_dtype(array, rng):
    return array.astype(rng.choice(["c16", "m8[s]", "M8[s]", "V8", "S8"]))


def pickled(array, rng):
    return array.astype(object)


def empty(array, rng):
    return array[:0]


def wrong_shape(array, rng):
    wrong = [
        array.ravel()[:7],
        array[np.newaxis],
        array[..., :0],
        array.sum(),
        np.stack([array] * 3),
    ]
    return wrong[rng.integers(5)]


def shorter(array, rng):
    return array[: rng.integers(1, len(array))]


def cut_file(rng):
    content = saved(arrays(rng))
    return content[: rng.integers(len(content))]


def flipped_file(rng):
    """A bit of an array, which the archive's checksums see."""
    content = saved(arrays(rng))
    at = content.index(arrays(np.random.default_rng(0))["y_train"].tobytes())
    changed = bytearray(content)
    changed[at + rng.integers(320)] ^= 1 << rng.integers(8)
    return bytes(changed)


def declares_too_much(rng):
    """A file of a kilobyte whose header says that 60 billion images follow."""
    header = io.BytesIO()
    shape = (SIXTY_BILLION, *[28] * rng.integers(3))
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    content = io.BytesIO(saved({k: v for k, v in arrays(rng).items() if k != "x_train"}))
    compression = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED][rng.integers(2)]
    with zipfile.ZipFile(content, "a", compression) as archive:
        archive.writestr("x_train.npy", header.getvalue() + rng.bytes(100))
    return content.getvalue()


def noise(rng):
    return rng.bytes(rng.integers(1000))


CHANGES = [not_finite, too_large, wrong_dtype, pickled, empty, wrong_shape, shorter]
NPZ = [*map(damaged, CHANGES), cut_file, flipped_file, declares_too_much, noise]


@pytest.mark.parametrize("seed", range(7))
@pytest.mark.parametrize("mutate", NPZ, ids=lambda mutate: mutate.__name__)
def test_mutations_of_npz_files(mutate, seed, tmp_path):
    (tmp_path / "own.npz").write_bytes(mutate(np.random.default_rng(seed)))
    assert "own.npz: " in refused(tmp_path / "own.npz")


def cell(text):
    """A mutation of one number of a table."""

    def mutate(rows, rng):
        rows[rng.integers(1, len(rows))][rng.integers(3)] = text
        return rows

    mutate.__name__ = f"cell_{text}"
    return mutate


def missing_field(rows, rng):
    del rows[rng.integers(len(rows))][-1]
    return rows


def no_rows(rows, rng):
    return rows[:1]


def no_label(rows, rng):
    rows[rng.integers(1, len(rows))][3] = ""
    return rows


def one_class(rows, rng):
    return [[*row[:3], rows[0][3] if i == 0 else "cat"] for i, row in enumerate(rows)]


CSV = [cell(text) for text in ("nan", "inf", "-Infinity", "1e999", "", "x", "0x10", "1;5")]
CSV += [missing_field, no_rows, no_label, one_class]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mutate", CSV, ids=lambda mutate: mutate.__name__)
def test_mutations_of_csv_files(mutate, seed, tmp_path):
    rng = np.random.default_rng(seed)
    rows = [["a", "b", "c", "label"]]
    rows += [[*map(str, rng.normal(size=3)), "catdog"[3 * (i % 2) :][:3]] for i in range(30)]
    (tmp_path / "own.csv").write_text("\n".join(map(",".join, mutate(rows, rng))))
    assert "own.csv" in refused(tmp_path / "own.csv")


@pytest.mark.parametrize("seed", range(10))
def test_csv_files_of_noise(seed, tmp_path):
    rng = np.random.default_rng(seed)
    (tmp_path / "own.csv").write_bytes(rng.bytes(rng.integers(1000)))
    assert "own.csv" in refused(tmp_path / "own.csv")

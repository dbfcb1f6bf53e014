"""MNIST and its kin, other builders: what is fetched, verified, prepared, and what is refused."""

import gzip
import hashlib
import http.server
import importlib
import shutil
import struct
import sys
import threading

import chex
import numpy as np
import pytest

from funcnet import UsageError, data
from funcnet.data import _tfds

RNG = np.random.default_rng(0)
SEEDS = [*range(2), *(pytest.param(i, marks=pytest.mark.slow) for i in range(2, 10))]
NAMES = {
    "train-images": "train-images-idx3-ubyte.gz",
    "train-labels": "train-labels-idx1-ubyte.gz",
    "t10k-images": "t10k-images-idx3-ubyte.gz",
    "t10k-labels": "t10k-labels-idx1-ubyte.gz",
}
COUNTS = {"train": 60, "t10k": 40}


@pytest.fixture(scope="module")
def tfds():
    return importlib.import_module("tensorflow_datasets")


class TestMnist:
    def test_it_is_the_original(self, mnist, mnist_dir):
        images = gzip.decompress((mnist_dir / "train-images-idx3-ubyte.gz").read_bytes())[16:]
        assert mnist.train.inputs.tobytes() == images
        chex.assert_shape(mnist.test.inputs, (10_000, 784))
        assert mnist.train.inputs.dtype == np.uint8
        assert np.bincount(mnist.test.targets).tolist() == [  # LeCun's test set
            980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
        ]  # fmt: skip
        assert mnist.class_names == tuple("0123456789")

    def test_the_second_start_reads_what_the_first_prepared(self, prepared_dir, mnist, monkeypatch):
        monkeypatch.delattr(_tfds, "_prepare_mnist_like")
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # importing it would fail
        again = data.load("mnist", data_dir=prepared_dir)
        chex.assert_trees_all_equal(again.train, mnist.train)

    def test_a_prepared_file_that_was_damaged(self, tmp_path):
        (tmp_path / "funcnet").mkdir()
        (tmp_path / "funcnet" / "mnist.npz").write_bytes(b"PK\x03\x04")
        with pytest.raises(OSError, match=r"mnist.npz: .*delete it, and it is made anew"):
            data.load("mnist", data_dir=tmp_path)

    @pytest.mark.parametrize("prepared", [False, True])
    def test_a_folder_that_lacks_a_file(self, prepared, mnist_dir, prepared_dir, tmp_path):
        shutil.copy(mnist_dir / "t10k-labels-idx1-ubyte.gz", tmp_path)
        folder = prepared_dir if prepared else tmp_path / "data"
        with pytest.raises(FileNotFoundError, match=r"missing: .*train-images"):
            data.load("mnist", data_dir=folder, manual_dir=tmp_path)

    @pytest.mark.parametrize("prepared", [False, True])
    @pytest.mark.parametrize("damage", ["truncated", "flipped"])
    def test_a_damaged_file(self, damage, prepared, mnist_dir, prepared_dir, tmp_path):
        for path in mnist_dir.glob("*.gz"):
            shutil.copy(path, tmp_path)
        victim = tmp_path / "t10k-labels-idx1-ubyte.gz"
        content = bytearray(victim.read_bytes())
        content[1000] ^= 1
        victim.write_bytes(content[:3000] if damage == "truncated" else content)
        folder = prepared_dir if prepared else tmp_path / "data"
        with pytest.raises(UsageError, match=r"t10k-labels.*is not the original.*SHA-256"):
            data.load("mnist", data_dir=folder, manual_dir=tmp_path)
        assert not (tmp_path / "data" / "funcnet" / "mnist.npz").exists()

    def test_without_a_network(self, tmp_path, monkeypatch):
        def refuse(*args, **options):
            raise OSError("no network")

        monkeypatch.setattr("urllib.request.urlopen", refuse)
        with pytest.raises(ConnectionError, match=r"no network.*--manual-dir.*--dataset digits"):
            data.load("mnist", data_dir=tmp_path)

    def test_a_network_that_never_answers(self, tmp_path, monkeypatch):
        answered = threading.Event()

        def wait(*args, **options):
            answered.wait(20)
            raise OSError("too late")

        monkeypatch.setattr("urllib.request.urlopen", wait)
        monkeypatch.setattr(_tfds, "PATIENCE", 0.2)
        with pytest.raises(ConnectionError, match=r"no answer within 0.2 s.*--manual-dir"):
            data.load("kmnist", data_dir=tmp_path)
        answered.set()


class FilesHandler(http.server.BaseHTTPRequestHandler):
    """Serves small IDX files: 30 images of 2 x 2, 20 images to test."""

    files: dict[str, bytes] = {}  # noqa: RUF012

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.files[self.path.strip("/")])

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(tfds, monkeypatch):
    """A server of MNIST's format on this machine, under addresses and checksums of its own."""
    for part, count in {"train": 30, "t10k": 20}.items():
        images = RNG.integers(0, 256, size=(count, 2, 2), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array in {"images-idx3": images, "labels-idx1": labels}.items():
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            content = gzip.compress(header + array.tobytes())
            FilesHandler.files[f"{part}-{kind}-ubyte.gz"] = content
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FilesHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url_info = tfds.download.checksums.UrlInfo
    infos = {
        f"http://127.0.0.1:{server.server_port}/{name}": url_info(
            size=len(content), checksum=hashlib.sha256(content).hexdigest(), filename=name
        )
        for name, content in FilesHandler.files.items()
    }
    monkeypatch.setattr(tfds.builder_cls("fashion_mnist"), "url_infos", infos)
    yield FilesHandler.files
    server.shutdown()
    server.server_close()


class TestDownload:
    def test_what_is_fetched_is_prepared(self, mirror, tmp_path):
        dataset = data.load("fashion_mnist", data_dir=tmp_path)
        chex.assert_shape([dataset.train.inputs, dataset.test.inputs], [(30, 4), (20, 4)])
        images = gzip.decompress(mirror["train-images-idx3-ubyte.gz"])[16:]
        assert dataset.train.inputs.tobytes() == images
        assert dataset.class_names[9] == "Ankle boot"

    def test_what_is_fetched_is_verified(self, mirror, tmp_path, tfds):
        mirror["t10k-labels-idx1-ubyte.gz"] = b"something else"
        with pytest.raises(ConnectionError, match="wrong checksum"):
            data.load("fashion_mnist", data_dir=tmp_path)


@pytest.fixture(scope="module")
def builders(tfds):
    """Two builders in tensorflow-datasets' registry: one that runs without TensorFlow."""

    class OwnVectors(tfds.core.GeneratorBasedBuilder):
        """Vectors with a class."""

        VERSION = tfds.core.Version("1.0.0")
        INPUTS = tfds.features.Tensor(shape=(3,), dtype=np.float32)

        def _info(self):
            label = tfds.features.ClassLabel(names=["even", "odd"])
            features = tfds.features.FeaturesDict({"inputs": self.INPUTS, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(20), "test": self._generate_examples(10)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"inputs": np.full(3, i, np.float32), "label": i % 2}

    class OwnImages(OwnVectors):
        """Images, which tensorflow-datasets encodes with TensorFlow."""

        INPUTS = tfds.features.Image(shape=(4, 4, 1))

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"inputs": np.full((4, 4, 1), i, np.uint8), "label": i % 2}

    class OwnRegression(OwnVectors):
        """No class."""

        def _info(self):
            features = tfds.features.FeaturesDict({"inputs": self.INPUTS, "label": np.float32})
            return tfds.core.DatasetInfo(builder=self, features=features)

    return OwnVectors, OwnImages, OwnRegression


class TestBuilders:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
    def test_a_builder_that_runs_is_prepared_once(self, builders, tmp_path):
        for _ in range(2):
            dataset = data.load("own_vectors", data_dir=tmp_path)
            assert sorted(dataset.train.inputs[:, 0]) == list(range(20))
            np.testing.assert_array_equal(dataset.train.inputs[:, 0] % 2, dataset.train.targets)
            assert len(dataset.test.targets) == 10
            assert dataset.class_names == ("even", "odd")

    def test_a_builder_that_needs_tensorflow(self, builders, tmp_path):
        with pytest.raises(ImportError, match=r"own_images.*TensorFlow.*pip install tensorflow"):
            data.load("own_images", data_dir=tmp_path)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
    def test_a_builder_without_a_class(self, builders, tmp_path):
        with pytest.raises(UsageError, match=r"one class label; its features are"):
            data.load("own_regression", data_dir=tmp_path)

    def test_an_unknown_name(self, tfds, tmp_path):
        with pytest.raises(UsageError, match=r"got 'mnits'. Did you mean 'mnist'\?"):
            data.load("mnits", data_dir=tmp_path)


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
def load_idx(idx, refused, tmp_path, monkeypatch):
    """Loads MNIST from these files, one of them replaced, their checksums unseen."""

    def call(kind=None, packed=b"", load=refused):
        for other, content in idx.items():
            replaced = packed if other == kind else gzip.compress(content, mtime=0)
            (tmp_path / NAMES[other]).write_bytes(replaced)
        monkeypatch.setattr(
            _tfds, "_verify", lambda folder, digests: {name: folder / name for name in digests}
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


@pytest.mark.parametrize("seed", SEEDS)
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

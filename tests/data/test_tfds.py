"""MNIST and its kin, other builders: what is fetched, verified, prepared, and what is refused."""

import gzip
import hashlib
import http.server
import importlib
import shutil
import socket
import sys
import threading

import chex
import numpy as np
import pytest

from funcnet import UsageError, data
from funcnet.data import _tfds

RNG = np.random.default_rng(0)
NAMES = [f"{part}-ubyte.gz" for part in ("train-images-idx3", "train-labels-idx1")]
NAMES += [f"{part}-ubyte.gz" for part in ("t10k-images-idx3", "t10k-labels-idx1")]


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

    def test_a_network_that_never_answers(self, tmp_path, tfds, monkeypatch):
        monkeypatch.setattr(_tfds, "PATIENCE", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            info = tfds.download.checksums.UrlInfo(size=1, checksum="", filename=NAMES[0])
            monkeypatch.setattr(tfds.builder_cls("kmnist"), "url_infos", {url: info})
            with pytest.raises(ConnectionError, match=r"within 0.2 s; .*timed out.*--manual-dir"):
                data.load("kmnist", data_dir=tmp_path)


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
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
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


DAMAGES = {
    "cut": lambda packed: packed[: len(packed) // 2],
    "flipped": lambda packed: packed[:20] + bytes([packed[20] ^ 1]) + packed[21:],
    "longer": lambda packed: packed + bytes(10),
    "noise": lambda packed: RNG.bytes(1000),
    "empty": lambda packed: b"",
    "no_gzip": gzip.decompress,
    "wrong_magic": lambda packed: gzip.compress(b"\0\0\x0b" + gzip.decompress(packed)[3:]),
    "huge_length": lambda packed: gzip.compress(
        gzip.decompress(packed)[:4] + bytes([255] * 4) + gzip.decompress(packed)[8:]
    ),
    "wrong_label": lambda packed: gzip.compress(gzip.decompress(packed)[:-1] + b"\x0b"),
}


class TestFolder:
    """Small files in MNIST's format, in a folder of the user's own."""

    @pytest.fixture
    def folder(self, mirror, tmp_path):
        for name, packed in mirror.items():
            (tmp_path / name).write_bytes(packed)
        return tmp_path

    def test_they_load_unless_they_are_damaged(self, folder, mirror):
        dataset = data.load("fashion_mnist", manual_dir=folder, data_dir=folder / "data")
        images = gzip.decompress(mirror["train-images-idx3-ubyte.gz"])[16:]
        assert dataset.train.inputs.tobytes() == images
        chex.assert_shape(dataset.test.targets, (20,))

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_no_damage_gets_past_the_checksum(self, damage, name, folder, refused):
        path = folder / name
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
        text = refused("fashion_mnist", manual_dir=folder, data_dir=folder / "data")
        assert f"manual_dir: {path} is not the original file: expected SHA-256" in text
        assert not (folder / "data" / "funcnet" / "fashion_mnist.npz").exists()

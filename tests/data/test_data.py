"""Data sets: what is loaded, what is verified, and what is refused."""

import gzip
import hashlib
import http.server
import importlib
import shutil
import sys
import threading

import chex
import numpy as np
import pytest

from funcnet.data import _data as data

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)), np.arange(40) % 2
ROWS = "".join(f"{i},{2.5 * i},{'cat' if i % 2 else 'dog'}\n" for i in range(20))


@pytest.fixture(scope="module")
def tfds():
    return importlib.import_module("tensorflow_datasets")


@pytest.fixture
def npz(tmp_path):
    """Loads an .npz file of these arrays."""

    def load(**arrays):
        np.savez(tmp_path / "own.npz", **arrays)
        return data.load(str(tmp_path / "own.npz"))

    return load


@pytest.fixture
def csv(tmp_path):
    """Loads a .csv file of this text."""

    def load(text, **options):
        (tmp_path / "own.csv").write_text(text)
        return data.load(str(tmp_path / "own.csv"), **options)

    return load


class TestDigits:
    def test_all_images_are_there_once(self):
        from sklearn.datasets import load_digits

        digits, everything = data.load("digits"), load_digits()
        images = np.concatenate([digits.train.inputs, digits.test.inputs])
        assert sorted(map(bytes, np.uint8(images * 16))) == sorted(
            map(bytes, np.uint8(everything.data))
        )
        assert (digits.num_classes, digits.image_shape) == (10, (8, 8))
        assert images.min() == 0
        assert images.max() == 1

    def test_the_split_is_stratified_and_always_the_same(self):
        digits = data.load("digits")
        shares = np.bincount(digits.test.targets) / np.bincount(digits.train.targets)
        np.testing.assert_allclose(shares, 0.25, atol=0.02)
        chex.assert_trees_all_equal(digits.train, data.load("digits").train)


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
        monkeypatch.delattr(data, "_prepare_mnist_like")
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
        with pytest.raises(ValueError, match=r"t10k-labels.*is not the original.*SHA-256"):
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
        monkeypatch.setattr(data, "PATIENCE", 0.2)
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
        with pytest.raises(ValueError, match=r"one class label; its features are"):
            data.load("own_regression", data_dir=tmp_path)

    def test_an_unknown_name(self, tfds, tmp_path):
        with pytest.raises(ValueError, match=r"got 'mnits'. Did you mean 'mnist'\?"):
            data.load("mnits", data_dir=tmp_path)


class TestNpz:
    def test_a_test_part_is_split_off(self, npz):
        dataset = npz(x_train=X, y_train=Y)
        assert len(dataset.train.targets) == 32
        both = np.concatenate([dataset.train.inputs, dataset.test.inputs])
        assert sorted(map(tuple, both)) == sorted(map(tuple, X.astype(np.float32)))
        assert dataset.image_shape is None

    def test_a_test_part_is_kept(self, npz):
        dataset = npz(x_train=X, y_train=Y, x_test=X[:6], y_test=Y[:6, None])
        np.testing.assert_array_equal(dataset.test.inputs, X[:6].astype(np.float32))
        np.testing.assert_array_equal(dataset.test.targets, Y[:6])

    def test_classes_may_be_words_or_any_integers(self, npz):
        words = npz(x_train=X, y_train=np.array(["no", "yes"])[Y])
        numbers = npz(x_train=X, y_train=Y * 5 - 2)
        assert words.class_names == ("no", "yes")
        assert numbers.class_names == ("-2", "3")
        np.testing.assert_array_equal(words.train.targets, numbers.train.targets)

    @pytest.mark.parametrize("dtypes", [("u1", "u1"), ("u1", "f4"), ("i8", "u1"), ("?", "?")])
    def test_vectors_are_taken_as_they_are(self, npz, dtypes):
        """Zeros and ones, which a byte holds as well as a float does."""
        train, test = (RNG.integers(0, 2, size=(40, 3)).astype(dtype) for dtype in dtypes)
        dataset = npz(x_train=train, y_train=Y, x_test=test, y_test=Y)
        for ours, theirs in ((dataset.train, train), (dataset.test, test)):
            assert ours.inputs.dtype == np.float32
            np.testing.assert_array_equal(ours.inputs, theirs)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64])
    def test_images_are_flattened_and_stay_intensities(self, npz, dtype):
        images = RNG.integers(0, 256, size=(40, 4, 5, 1)).astype(dtype)
        dataset = npz(x_train=images, y_train=Y, x_test=images, y_test=Y)
        assert dataset.image_shape == (4, 5)
        assert dataset.test.inputs.dtype == np.uint8
        np.testing.assert_array_equal(dataset.test.inputs, images.reshape(40, 20))

    @pytest.mark.parametrize(
        ("arrays", "error", "message"),
        [
            ({"x_train": X}, ValueError, r"expected arrays x_train and y_train.*Missing: y_train"),
            ({"x_train": X, "y_train": Y[:3]}, ValueError, "got 40 in x_train and 3 in y_train"),
            ({"x_train": X.astype(str), "y_train": Y}, TypeError, "expected numbers; got <U"),
            (
                {"x_train": X * [1, np.nan, 1], "y_train": Y},
                ValueError,
                r"nan at \[0, 1\]",
            ),
            ({"x_train": X * 1e300, "y_train": Y}, ValueError, "inputs that float32 can hold"),
            ({"x_train": X, "y_train": 0 * Y}, ValueError, "expected two classes or more; got 0"),
            ({"x_train": X, "y_train": Y + 0.5}, ValueError, "numbers or words; got 0.5"),
            ({"x_train": X, "y_train": Y * np.nan}, ValueError, "numbers or words; got nan"),
            ({"x_train": X, "y_train": np.where(Y, np.inf, 0)}, ValueError, "words; got inf"),
            ({"x_train": X, "y_train": Y + 1j}, TypeError, "numbers or words; got complex128"),
            ({"x_train": X, "y_train": np.eye(2)[Y]}, ValueError, r"a class an example.*\(40, 2\)"),
            ({"x_train": X[:0], "y_train": Y[:0]}, ValueError, r"got shape \(0,\)"),
            ({"x_train": X[:, 0], "y_train": Y}, ValueError, r"got shape \(40,\)"),
            (
                {"x_train": X[:3], "y_train": Y[:3]},
                ValueError,
                "3 of 2 classes, the smallest of which has 1",
            ),
            ({"x_train": X, "y_train": Y, "x_test": X}, ValueError, "both x_test and y_test"),
            (
                {"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y},
                ValueError,
                r"one shape; got \(3,\) in x_train and \(2,\) in x_test",
            ),
            (
                {
                    "x_train": np.zeros((40, 1, 3), np.uint8),
                    "y_train": Y,
                    "x_test": X[:, None],
                    "y_test": Y,
                },
                TypeError,
                "of one kind; got uint8 and float64",
            ),
            (
                {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1},
                ValueError,
                r"y_test has classes that y_train lacks: \[2\]",
            ),
            ({"x_train": X.astype(object), "y_train": Y}, ValueError, "or holds something else"),
        ],
    )
    def test_what_cannot_be_learnt_from_is_refused(self, npz, arrays, error, message):
        with pytest.raises(error, match=message):
            npz(**arrays)

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no archive"])
    def test_what_is_no_npz_file(self, content, tmp_path):
        (tmp_path / "own.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"own.npz: expected arrays.*damaged"):
            data.load(str(tmp_path / "own.npz"))

    def test_an_array_under_another_name(self, tmp_path):
        np.save(tmp_path / "own.npy", X)
        (tmp_path / "own.npy").rename(tmp_path / "own.NPZ")
        with pytest.raises(ValueError, match=r"own.NPZ: expected arrays"):
            data.load(tmp_path / "own.NPZ")

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none.npz: expected a file"):
            data.load(str(tmp_path / "none.npz"))


class TestCsv:
    def test_features_are_standardised_by_the_training_part(self, csv):
        dataset = csv("a,b,label\n" + ROWS)
        np.testing.assert_allclose(dataset.train.inputs.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(dataset.train.inputs.std(axis=0), 1, rtol=1e-5)
        both = np.concatenate([dataset.train.inputs[:, 0], dataset.test.inputs[:, 0]])
        np.testing.assert_allclose(np.diff(np.sort(both)), np.diff(np.sort(both))[0], rtol=1e-4)
        assert dataset.class_names == ("cat", "dog")

    def test_features_are_standardised_before_they_are_rounded(self, csv):
        rows = [(1_600_000_000 + i, 1e30 * i, 1e300 * i, 0.1, i % 2) for i in range(20)]
        lines = "".join(",".join(map(str, row)) + "\n" for row in rows)
        inputs = csv("time,large,huge,constant,label\n" + lines).train.inputs
        np.testing.assert_allclose(inputs[:, :3].std(axis=0), 1, rtol=1e-5)
        np.testing.assert_allclose(inputs[:, 3], 0, atol=1e-12)

    def test_numbers_as_classes_are_in_their_order(self, csv):
        dataset = csv("a,label\n" + "".join(f"{i},{i % 12}\n" for i in range(120)))
        assert dataset.class_names == tuple(map(str, range(12)))

    def test_blank_lines_count(self, csv):
        with pytest.raises(ValueError, match=r"line 4, column 'a'.*'x'"):
            csv("a,label\n\n1,cat\nx,dog\n")

    def test_a_constant_feature_stays_finite(self, csv):
        dataset = csv("a,b,label\n" + ROWS.replace("0,", "7,"))
        assert np.isfinite(dataset.train.inputs).all()
        constant = csv("a,label\n" + "".join(f"3,{i % 2}\n" for i in range(20)))
        np.testing.assert_array_equal(constant.train.inputs, 0)

    def test_the_label_may_have_another_name_and_place(self, csv):
        text = "kind,a\n" + "".join(f"{i % 3},{i}\n" for i in range(30))
        dataset = csv(text, label_column="kind")
        assert dataset.num_classes == 3
        chex.assert_shape(dataset.train.inputs, (24, 1))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a,b,kind\n" + ROWS, r"a column 'label'; got \['a', 'b', 'kind'\].*--label-column"),
            ("", r"a column 'label'; got \[\]"),
            ("a,b,label\n" + ROWS + "x,2,cat\n", "line 22, column 'a': expected a finite .* 'x'"),
            (
                "a,b,label\n" + ROWS + "nan,2,cat\n",
                "line 22, column 'a': expected a finite .* 'nan'",
            ),
            ("a,b,label\n" + ROWS + "2,cat\n", "line 22: expected 3 fields.*got 2"),
            ("a,a,label\n" + ROWS, "a header of different names"),
            ("a,b,label\n" + ROWS + "1,2,\n", "line 22, column 'label': expected a class"),
            ("a,b,label\n", r"y_train: .*got shape \(0,\)"),
            ("label\ncat\ndog\n", r"expected examples.*got shape \(2, 0\)"),
            ("a,label\n1,cat\n2,cat\n", "two classes or more; got 'cat'"),
        ],
    )
    def test_what_cannot_be_learnt_from_is_refused(self, csv, text, message):
        with pytest.raises(ValueError, match=message):
            csv(text)

    def test_what_is_no_text(self, tmp_path):
        (tmp_path / "own.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ValueError, match="expected text, comma separated, in UTF-8"):
            data.load(str(tmp_path / "own.csv"))

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none.csv: expected a file"):
            data.load(str(tmp_path / "none.csv"))

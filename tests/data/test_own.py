"""Files of the user's own: what is made of them, and what is refused, damaged files too."""

import io
import zipfile

import chex
import numpy as np
import pytest

from funcnet import UsageError, data

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)), np.arange(40) % 2
SIXTY_BILLION = 60_000_000_000
SEEDS = [*range(2), *(pytest.param(i, marks=pytest.mark.slow) for i in range(2, 7))]


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
        ("arrays", "message"),
        [
            ({"x_train": X}, r"expected arrays x_train and y_train.*Missing: y_train"),
            ({"x_train": X, "y_train": Y[:3]}, "got 40 in x_train and 3 in y_train"),
            ({"x_train": X.astype(str), "y_train": Y}, "expected numbers; got <U"),
            (
                {"x_train": X * [1, np.nan, 1], "y_train": Y},
                r"nan at \[0, 1\]",
            ),
            ({"x_train": X * 1e300, "y_train": Y}, "inputs that float32 can hold"),
            ({"x_train": X, "y_train": 0 * Y}, "expected two classes or more; got 0"),
            ({"x_train": X, "y_train": Y + 0.5}, "numbers or words; got 0.5"),
            ({"x_train": X, "y_train": Y * np.nan}, "numbers or words; got nan"),
            ({"x_train": X, "y_train": np.where(Y, np.inf, 0)}, "words; got inf"),
            ({"x_train": X, "y_train": Y + 1j}, "numbers or words; got complex128"),
            ({"x_train": X, "y_train": np.eye(2)[Y]}, r"one class per example.*\(40, 2\)"),
            ({"x_train": X[:0], "y_train": Y[:0]}, r"got shape \(0,\)"),
            ({"x_train": X[:, 0], "y_train": Y}, r"got shape \(40,\)"),
            (
                {"x_train": X[:3], "y_train": Y[:3]},
                "3 of 2 classes, the smallest of which has 1",
            ),
            ({"x_train": X, "y_train": Y, "x_test": X}, "both x_test and y_test"),
            (
                {"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y},
                r"one shape; got \(3,\) in x_train and \(2,\) in x_test",
            ),
            (
                {
                    "x_train": np.zeros((40, 1, 3), np.uint8),
                    "y_train": Y,
                    "x_test": X[:, None],
                    "y_test": Y,
                },
                "of one kind; got uint8 and float64",
            ),
            (
                {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1},
                r"y_test has classes that y_train lacks: \[2\]",
            ),
            ({"x_train": X.astype(object), "y_train": Y}, "or holds something else"),
        ],
    )
    def test_what_cannot_be_learnt_from_is_refused(self, npz, arrays, message):
        with pytest.raises(UsageError, match=message):
            npz(**arrays)

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no archive"])
    def test_what_is_no_npz_file(self, content, tmp_path):
        (tmp_path / "own.npz").write_bytes(content)
        with pytest.raises(UsageError, match=r"own.npz: expected arrays.*damaged"):
            data.load(str(tmp_path / "own.npz"))

    def test_an_array_under_another_name(self, tmp_path):
        np.save(tmp_path / "own.npy", X)
        (tmp_path / "own.npy").rename(tmp_path / "own.NPZ")
        with pytest.raises(UsageError, match=r"own.NPZ: expected arrays"):
            data.load(tmp_path / "own.NPZ")

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none.npz: expected a file"):
            data.load(str(tmp_path / "none.npz"))


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


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mutate", NPZ, ids=lambda mutate: mutate.__name__)
def test_mutations_of_npz_files(mutate, seed, refused, tmp_path):
    (tmp_path / "own.npz").write_bytes(mutate(np.random.default_rng(seed)))
    assert "own.npz: " in refused(tmp_path / "own.npz")


ROWS = "".join(f"{i},{2.5 * i},{'cat' if i % 2 else 'dog'}\n" for i in range(20))


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
        with pytest.raises(UsageError, match=r"line 4, column 'a'.*'x'"):
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
        with pytest.raises(UsageError, match=message):
            csv(text)

    def test_what_is_no_text(self, tmp_path):
        (tmp_path / "own.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UsageError, match="expected text, comma separated, in UTF-8"):
            data.load(str(tmp_path / "own.csv"))

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none.csv: expected a file"):
            data.load(str(tmp_path / "none.csv"))


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
def test_mutations_of_csv_files(mutate, seed, refused, tmp_path):
    rng = np.random.default_rng(seed)
    rows = [["a", "b", "c", "label"]]
    rows += [[*map(str, rng.normal(size=3)), "catdog"[3 * (i % 2) :][:3]] for i in range(30)]
    (tmp_path / "own.csv").write_text("\n".join(map(",".join, mutate(rows, rng))))
    assert "own.csv" in refused(tmp_path / "own.csv")


@pytest.mark.parametrize("seed", range(10))
def test_csv_files_of_noise(seed, refused, tmp_path):
    rng = np.random.default_rng(seed)
    (tmp_path / "own.csv").write_bytes(rng.bytes(rng.integers(1000)))
    assert "own.csv" in refused(tmp_path / "own.csv")

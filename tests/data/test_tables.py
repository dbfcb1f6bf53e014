"""Tables of the user's own: what is made of them, and what is refused, damaged files too."""

import chex
import numpy as np
import pytest

from funcnet import UsageError, data

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

"""Pictures: read in every mode, turned light on dark, scaled and centred as the data sets are."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from PIL import Image

from funcnet.runs import _pictures as images

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
pictures = hnp.arrays(np.float32, shapes, elements=st.floats(0, 1, width=32)).filter(
    lambda image: image.max() > image.min()
)


def digit(height=60, width=40):
    """A crooked 7, light on dark."""
    image = np.zeros([height, width], np.uint8)
    image[10:16, 8:30] = 250
    for row in range(16, 50):
        image[row, 28 - row // 3 : 32 - row // 3] = 250
    return image


@pytest.fixture
def read(tmp_path):
    """Writes a Pillow image to a file, and reads it."""

    def call(image, suffix=".png", **options):
        image.save(tmp_path / f"image{suffix}", **options)
        return images.read(tmp_path / f"image{suffix}")

    return call


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16", "I", "F"])
def test_every_mode_shows_the_same(mode, read):
    grey = Image.fromarray(digit())
    if mode == "I;16":
        image = Image.fromarray(digit().astype(np.uint16) * 200)
    else:
        image = grey.convert(mode)
    suffix = ".tiff" if mode in ("I", "F", "CMYK") else ".png"
    np.testing.assert_allclose(read(image, suffix), digit() / 250, atol=0.01)


def test_dark_on_light_is_inverted(read):
    np.testing.assert_allclose(read(Image.fromarray(255 - digit())), digit() / 250, atol=0.01)


def test_transparent_is_white(read):
    ink = np.zeros([60, 40, 4], np.uint8)
    ink[..., 3] = digit()  # black, where it is not transparent
    np.testing.assert_allclose(read(Image.fromarray(ink)), digit() / 250, atol=0.01)


def test_a_turned_photograph_is_upright(read):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    turned = Image.fromarray(digit()).rotate(90, expand=True)
    shown = read(turned, ".jpg", exif=exif, quality=95)
    np.testing.assert_allclose(shown, digit() / 250, atol=0.2)


@given(image=pictures)
def test_light_on_dark_is_a_digit_on_a_ground(image):
    result = images.light_on_dark(image)
    assert result.min() == 0
    assert result.max() == pytest.approx(1)
    np.testing.assert_allclose(images.light_on_dark(result).max(), 1)


@pytest.mark.parametrize("image", [np.zeros([3, 3]), np.full([2, 2], np.nan), np.diag([np.inf, 1])])
def test_a_single_colour_is_no_digit(image):
    with pytest.raises(ValueError, match="expected a light and a dark colour"):
        images.light_on_dark(image)


@given(image=pictures)
def test_the_digit_is_in_the_box(image):
    for prepare, side, box in [(images.as_mnist, 28, 20), (images.as_digits, 8, 8)]:
        prepared = prepare(images.light_on_dark(image))
        assert prepared.shape == (side, side)
        assert 0 <= prepared.min() <= prepared.max() <= 1
        rows, columns = (np.flatnonzero(prepared.any(axis)) for axis in (1, 0))
        extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        assert extent <= box


def test_the_size_and_the_place_do_not_matter():
    small = images.as_mnist(digit() / 250)
    large = np.kron(np.pad(digit(), ((90, 10), (0, 50))), np.ones([3, 3])) / 250
    np.testing.assert_allclose(images.as_mnist(large), small, atol=0.1)


def test_mnist_comes_out_as_it_went_in(mnist):
    originals = mnist.test.inputs[:200].reshape(-1, 28, 28) / np.float32(255)
    prepared = np.stack([images.as_mnist(images.light_on_dark(image)) for image in originals])
    differences = np.abs(prepared - originals).mean(axis=(1, 2))
    assert np.median(differences) < 1e-6
    assert differences.mean() < 0.005  # some lost a faint row, and are a little larger


def test_a_defect_of_ours_is_not_the_pictures(read, monkeypatch):
    monkeypatch.setattr(images, "light_on_dark", lambda image: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _ = read(Image.fromarray(digit()))

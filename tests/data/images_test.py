import io

import numpy as np
import pytest
from PIL import Image

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import images


def gradient() -> np.ndarray:
    y, x = np.mgrid[0:32, 0:48].astype(np.uint8)
    return np.stack([4 * x, 4 * y, 2 * (x + y)], axis=-1)


def test_png_is_lossless():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(images.decode(images.encode(image, "png"), "here"), image)


def test_jpeg_is_close_and_keeps_colour():
    found = images.decode(images.encode(gradient()), "here").astype(int)
    assert np.abs(found - gradient()).max() <= 12
    # Adjacent columns of pure red and blue survive: colour is not subsampled.
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 255, 255
    found = images.decode(images.encode(stripes), "here").astype(int)
    assert np.abs(found - stripes).mean() < 10


def test_other_modes_become_rgb():
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(buffer, "png")
    np.testing.assert_array_equal(images.decode(buffer.getvalue(), "here"), np.full((4, 4, 3), 9))


@pytest.mark.parametrize("data", [b"", b"not an image", images.encode(gradient())[:200]])
def test_undecodable_bytes_are_named(data):
    with pytest.raises(InputError, match=rf"here: cannot decode the image \({len(data)} bytes\)"):
        images.decode(data, "here")


def test_huge_images_are_refused():
    buffer = io.BytesIO()
    Image.new("1", (5000, 5000)).save(buffer, "png")
    with pytest.raises(InputError, match="here: image of 5000 x 5000 is too large"):
        images.decode(buffer.getvalue(), "here")


def test_formats_are_jpeg_and_png_only():
    buffer = io.BytesIO()
    Image.fromarray(gradient()).save(buffer, "bmp")
    with pytest.raises(InputError, match="here: cannot decode"):
        images.decode(buffer.getvalue(), "here")
    with pytest.raises(InputError, match="encoding must be one of"):
        images.encode(gradient(), "gif")


def test_blank_means_one_colour_throughout():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    assert images.is_blank(frames)
    frames[..., 1] = 7
    assert images.is_blank(frames)
    frames[1, 2, 3, 0] = 1
    assert not images.is_blank(frames)

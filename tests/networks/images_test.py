import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.networks import augment, images

# Compiled once per shape, which is cheaper than once per operation.
COLOUR, RESAMPLE = jax.jit(images.adjust_colour), jax.jit(images.resample)
CROP = jax.jit(images.crop_weights, static_argnums=0)
BLUR = jax.jit(images.blur_weights, static_argnums=0)
MATRIX = jax.jit(images.colour_matrix)


def _batch(n=3, steps=2, height=6, width=5):
    values = np.random.default_rng(0).integers(0, 256, (n, steps, height, width, 3))
    return jnp.asarray(values, jnp.float32)


def _amounts(n, **changed):
    """Factors of 1 and a hue of 0, but for what is `changed`."""
    values = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0} | changed
    return {k: jnp.broadcast_to(jnp.asarray(v, jnp.float32), (n,)) for k, v in values.items()}


def _pixel(*rgb):
    return jnp.asarray(rgb, jnp.float32).reshape(1, 1, 1, 1, 3)


def test_crop_weights_by_hand():
    # 4 pixels, the half from 1 on: centres 1 + (i + .5) / 2 - .5 = .75, 1.25, 1.75, 2.25.
    got = CROP(4, jnp.asarray([0.5]), jnp.asarray([1.0]))
    want = [[0.25, 0.75, 0, 0], [0, 0.75, 0.25, 0], [0, 0.25, 0.75, 0], [0, 0, 0.75, 0.25]]
    np.testing.assert_allclose(got[0], want, atol=1e-6)


def test_crop_weights_repeat_the_border():
    # The half from -1 on: centres -1.25, -.75, -.25, .25; the first three are pixel 0.
    got = CROP(4, jnp.asarray([0.5]), jnp.asarray([-1.0]))
    want = [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0.75, 0.25, 0, 0]]
    np.testing.assert_allclose(got[0], want, atol=1e-6)


def test_a_whole_crop_from_a_whole_pixel_is_a_shift():
    batch, offsets = _batch(), jnp.asarray([[1, -2], [0, 0], [-1, 3]])
    rows, columns = (
        CROP(size, jnp.ones(3), offsets[:, axis].astype(jnp.float32))
        for axis, size in enumerate(batch.shape[2:4])
    )
    got = RESAMPLE(batch, rows, columns)
    np.testing.assert_allclose(got, augment.shift(batch, offsets), atol=1e-4)


def test_resample_by_hand():
    # Rows (1 2 3), (4 5 6). The sum of both rows is (5 7 9); columns 2 and (0 + 1) / 2:
    # 9 and 6. uint8 in, float32 out.
    image = jnp.asarray([[1, 2, 3], [4, 5, 6]], jnp.uint8).reshape(1, 1, 2, 3, 1)
    rows, columns = jnp.asarray([[[1.0, 1.0]]]), jnp.asarray([[[0, 0, 1], [0.5, 0.5, 0]]])
    got = RESAMPLE(image, rows, columns)
    np.testing.assert_allclose(got[0, 0, :, :, 0], [[9, 6]])
    assert got.dtype == jnp.float32


def test_blur_weights_by_hand():
    # Sigma 1, radius 1: exp(-1/2) = .60653. Inside .60653, 1, .60653 over 2.21306 = .27407,
    # .45186, .27407; at the border 1, .60653 over 1.60653 = .62246, .37754.
    got = BLUR(4, jnp.asarray([1.0, 0.0]), 1)
    border, side, middle = 0.62246, 0.27407, 0.45186
    want = [
        [border, 1 - border, 0, 0],
        [side, middle, side, 0],
        [0, side, middle, side],
        [0, 0, 1 - border, border],
    ]
    np.testing.assert_allclose(got[0], want, atol=1e-5)
    np.testing.assert_array_equal(got[1], np.eye(4))  # a sigma of 0 changes nothing


def test_blur_keeps_the_mean_and_lessens_the_spread():
    weights = BLUR(6, jnp.asarray([2.0, 2.0, 2.0]), 6)
    flat = jnp.full((3, 2, 6, 6, 3), 77.0)
    np.testing.assert_allclose(RESAMPLE(flat, weights, weights), flat, rtol=1e-5)
    noise = _batch(width=6)
    assert RESAMPLE(noise, weights, weights).std() < 0.5 * noise.std()


def test_brightness_by_hand():
    # 100, 50, 200 times 1.5: 150, 75, 300 -> 255.
    got = COLOUR(_pixel(100, 50, 200), **_amounts(1, brightness=1.5))
    np.testing.assert_allclose(got.ravel(), [150, 75, 255], rtol=1e-5)


def test_contrast_by_hand():
    # Grey pixels 40 and 120: mean 80; half the contrast: 60 and 100. Twice: 0 and 160.
    batch = jnp.broadcast_to(jnp.asarray([40.0, 120.0])[:, None], (2, 1, 1, 2, 3))
    got = COLOUR(batch, **_amounts(2, contrast=[0.5, 2.0]))
    np.testing.assert_allclose(got[0, 0, 0, :, 0], [60, 100], rtol=1e-5)
    np.testing.assert_allclose(got[1, 0, 0, :, 0], [0, 160], atol=1e-3)


def test_contrast_turns_about_the_mean_after_brightness():
    # Grey pixels 40 and 120 at half the brightness: 20 and 60, mean 40; half the contrast.
    batch = jnp.broadcast_to(jnp.asarray([40.0, 120.0])[:, None], (1, 1, 1, 2, 3))
    got = COLOUR(batch, **_amounts(1, brightness=0.5, contrast=0.5))
    np.testing.assert_allclose(got[0, 0, 0, :, 0], [30, 50], rtol=1e-5)


def test_saturation_by_hand():
    # Luma .299 * 100 + .587 * 50 + .114 * 50 = 64.95. At 0 grey; at .5 half way to it.
    grey = COLOUR(_pixel(100, 50, 50), **_amounts(1, saturation=0.0))
    np.testing.assert_allclose(grey.ravel(), [64.95] * 3, rtol=1e-5)
    half = COLOUR(_pixel(100, 50, 50), **_amounts(1, saturation=0.5))
    np.testing.assert_allclose(half.ravel(), [82.475, 57.475, 57.475], rtol=1e-5)


def test_half_a_turn_of_hue_by_hand():
    # Chroma changes sign: 2 * 64.95 - 100 = 29.9 and 2 * 64.95 - 50 = 79.9.
    got = COLOUR(_pixel(100, 50, 50), **_amounts(1, hue=0.5))
    np.testing.assert_allclose(got.ravel(), [29.9, 79.9, 79.9], atol=1e-3)


def test_hue_goes_from_red_to_green_to_blue_and_keeps_grey_and_luma():
    red = jnp.asarray([1.0, 0.0, 0.0])
    turned = MATRIX(jnp.ones(3), jnp.asarray([0.0, 1 / 3, 2 / 3])) @ red
    assert turned.argmax(-1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(turned @ jnp.asarray([0.299, 0.587, 0.114]), 0.299, atol=1e-5)
    matrix = MATRIX(jnp.ones(1), jnp.asarray([0.2]))[0]
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-5)
    # Five fifths of a turn are none.
    np.testing.assert_allclose(np.linalg.matrix_power(matrix, 5), np.eye(3), atol=1e-4)


def test_no_change_of_colour_is_exact():
    batch = _batch()
    np.testing.assert_array_equal(COLOUR(batch, **_amounts(3)), batch)


def test_colours_need_three_channels():
    with pytest.raises(InputError, match=r"needs RGB images, got shape \[1, 1, 2, 2, 1\]"):
        COLOUR(jnp.zeros((1, 1, 2, 2, 1)), **_amounts(1))


def test_cutout_by_hand():
    # Rows from 1 to 3 are those with centres 1.5 and 2.5; columns from .6 to 1.6 that with
    # centre 1.5 alone. An empty rectangle covers nothing.
    batch = _batch(2, 2, 4, 3)
    start, stop = jnp.asarray([[1.0, 0.6], [2.0, 1.0]]), jnp.asarray([[3.0, 1.6], [2.0, 3.0]])
    got = images.cutout(batch.astype(jnp.uint8), start, stop)
    want = np.array(batch)
    want[0, :, 1:3, 1] = 127.5
    np.testing.assert_array_equal(got, want)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.networks import augment


def test_shift_by_hand():
    # Rows (0 1 2), (3 4 5); dy = 1 repeats the last row, dx = -1 the first column.
    image = jnp.arange(6, dtype=jnp.uint8).reshape(1, 1, 2, 3, 1)
    got = augment.shift(image, jnp.asarray([[1, -1]]))
    np.testing.assert_array_equal(got[0, 0, :, :, 0], [[3, 3, 4], [3, 3, 4]])
    assert got.dtype == jnp.uint8


def test_shift_of_zero_changes_nothing():
    images = np.random.default_rng(0).integers(0, 255, (2, 2, 5, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(augment.shift(images, jnp.zeros((2, 2), int)), images)


def test_random_shift_is_pad_and_crop():
    images = np.random.default_rng(0).integers(0, 255, (16, 1, 6, 7, 3), dtype=np.uint8)
    got = np.asarray(augment.random_shift(jax.random.key(0), jnp.asarray(images), 2))
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    crops = [[padded[:, :, i : i + 6, j : j + 7] for j in range(5)] for i in range(5)]
    found = set()
    for b in range(16):
        matches = [
            (i, j) for i in range(5) for j in range(5) if np.array_equal(crops[i][j][b], got[b])
        ]
        assert len(matches) == 1
        found.add(matches[0])
    assert len(found) > 5  # samples move independently


def test_steps_of_one_sample_move_together():
    image = np.random.default_rng(0).integers(0, 255, (4, 1, 8, 8, 3), dtype=np.uint8)
    window = jnp.asarray(np.repeat(image, 3, axis=1))
    got = augment.random_shift(jax.random.key(1), window, 3)
    np.testing.assert_array_equal(got[:, 0], got[:, 1])
    np.testing.assert_array_equal(got[:, 0], got[:, 2])


def test_no_shift_returns_the_images():
    images = jnp.zeros((1, 1, 4, 4, 3), jnp.uint8)
    assert augment.random_shift(jax.random.key(0), images, 0) is images


def test_resize_matrix_by_hand():
    # 4 -> 2 pixels, scale 2, centres at 0.5 and 2.5: weights 1 - |i - c| / 2 =
    # (.75, .75, .25, 0) / 1.75 and its mirror image.
    want = np.asarray([[3, 0], [3, 1], [1, 3], [0, 3]]) / 7
    np.testing.assert_allclose(augment.resize_matrix(4, 2), want, atol=1e-7)


@pytest.mark.parametrize(("height", "width", "size"), [(12, 9, 5), (5, 4, 8), (6, 8, 6)])
def test_resize_equals_jax_image(height, width, size):
    images = np.random.default_rng(0).integers(0, 255, (2, 1, height, width, 3), dtype=np.uint8)
    want = jax.image.resize(
        jnp.asarray(images, jnp.float32), (2, 1, size, size, 3), "linear", antialias=True
    )
    np.testing.assert_allclose(augment.resize(jnp.asarray(images), size), want, atol=1e-3)


@pytest.mark.parametrize("size", [0, 6])
def test_resize_keeps_uint8_when_there_is_nothing_to_do(size):
    images = jnp.zeros((1, 1, 6, 6, 3), jnp.uint8)
    assert augment.resize(images, size) is images

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.networks import augment
from jaxpolicy.networks.augment import AugmentConfig

OFF = AugmentConfig(shift=0)
ALL = AugmentConfig(
    crop=0.8, blur=1.5, brightness=0.3, contrast=0.3, saturation=0.5, hue=0.1, cutout=0.5
)
AUGMENT = jax.jit(augment.augment, static_argnums=2)
CROP = jax.jit(augment.random_crop, static_argnums=2)
SHIFT = jax.jit(augment.shift)


def _images(n=8, steps=2, height=12, width=10, dtype=np.uint8):
    shape = (n, steps, height, width, 3)
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, shape).astype(dtype))


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


def test_all_off_returns_the_images():
    images = _images()
    assert augment.augment(jax.random.key(0), images, OFF) is images
    never = AugmentConfig(shift=0, blur=2.0, cutout=0.5, hue=0.1, blur_probability=0.0)
    never = dataclasses.replace(never, cutout_probability=0.0, colour_probability=0.0)
    assert augment.augment(jax.random.key(0), images, never) is images


def test_shift_alone_has_the_draws_and_pixels_of_random_shift():
    images = _images(16, 1, 6, 7)
    got = augment.augment(jax.random.key(0), images, AugmentConfig(shift=2))
    want = augment.random_shift(jax.random.key(0), images, 2)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.uint8


def test_everything_on_keeps_shape_range_and_what_moves_between_steps():
    # All samples and steps are one image; each sample must come out different, its two
    # steps alike, and a float32 image as a uint8 one.
    images = jnp.broadcast_to(_images()[:1, :1], (8, 2, 12, 10, 3))
    got = AUGMENT(jax.random.key(0), images, ALL)
    assert (got.shape, got.dtype) == (images.shape, np.float32)
    assert got.min() >= 0
    assert got.max() <= 255
    np.testing.assert_allclose(got[:, 0], got[:, 1], atol=1e-3)
    assert (np.abs(np.asarray(got[1:] - got[:1])).max((1, 2, 3, 4)) > 1).all()
    same = AUGMENT(jax.random.key(0), images.astype(np.float32), ALL)
    np.testing.assert_allclose(got, same, atol=1e-3)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("blur", {"blur": 1.0}),
        ("colour", {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.2}),
        ("cutout", {"cutout": 0.8}),
    ],
)
def test_a_part_changes_its_share_of_the_samples_and_leaves_the_others(part, values):
    # 200 samples at .3: 60 expected, standard deviation sqrt(200 * .3 * .7) = 6.5; within 5.
    images = _images(200, 1, 8, 8, np.float32)
    config = AugmentConfig(shift=0, **values, **{f"{part}_probability": 0.3})
    got = AUGMENT(jax.random.key(0), images, config)
    moved = (np.abs(got - images) > 1e-2).any((1, 2, 3, 4))
    # A rectangle may fall between pixel centres, and a blur may be too small to see.
    assert 27 <= moved.sum() <= 93


def test_random_crop_without_a_crop_is_a_shift_by_whole_pixels():
    images = _images(16, 1, 6, 7)
    got = np.asarray(CROP(jax.random.key(0), images, AugmentConfig(shift=1)))
    offsets = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    shifted = [SHIFT(images, jnp.tile(jnp.asarray([o]), (16, 1))) for o in offsets]
    # [9, 16]: sample b is shifted by the o-th offset, and by no other.
    same = np.asarray([np.abs(s - got).max((1, 2, 3, 4)) < 1e-3 for s in shifted])
    np.testing.assert_array_equal(same.sum(0), 1)
    assert same.any(1).sum() > 4


def test_random_crop_keeps_what_it_promises():
    # A ramp 0 ... 99 down and across: a crop of share s shows s * 100 of its values (less
    # one pixel's, .5 s at either end), inside the image.
    ramp = jnp.broadcast_to(jnp.arange(100.0)[:, None], (100, 100))
    image = jnp.stack([ramp, ramp.T, ramp], -1)[None, None]
    images = jnp.broadcast_to(image, (64, 1, 100, 100, 3))
    config = AugmentConfig(shift=0, crop=0.5)
    got = np.asarray(CROP(jax.random.key(0), images, config))
    down, across = got[:, 0, :, 50, 0], got[:, 0, 50, :, 1]
    shares = (down[:, 60] - down[:, 40]) / 20
    np.testing.assert_allclose((across[:, 60] - across[:, 40]) / 20, shares, rtol=1e-3)
    assert 0.5 <= shares.min() < 0.55
    assert 0.95 < shares.max() <= 1
    top, bottom = down[:, 50] - 50 * shares, down[:, 50] + 50 * shares
    assert (top > -1).all()
    assert (bottom < 100.5).all()
    assert np.corrcoef(down[:, 50], across[:, 50])[0, 1] < 0.5  # places are independent


def test_colour_jitter_stays_in_its_range():
    # Brightness alone, .2, on 100: 80 to 120.
    images = jnp.full((256, 1, 2, 2, 3), 100.0)
    config = AugmentConfig(shift=0, brightness=0.2)
    got = np.asarray(AUGMENT(jax.random.key(0), images, config))
    assert 80 <= got.min() < 82
    assert 118 < got.max() <= 120.01
    np.testing.assert_allclose(got, np.broadcast_to(got[:, :, :1, :1, :1], got.shape), rtol=1e-5)


def test_random_cutout_covers_at_most_its_share():
    images = jnp.zeros((64, 2, 20, 10, 3))
    config = AugmentConfig(shift=0, cutout=0.5, cutout_probability=1.0)
    covered = np.asarray(AUGMENT(jax.random.key(0), images, config)) > 0
    np.testing.assert_array_equal(covered[:, 0], covered[:, 1])
    rows, columns = covered[:, 0, :, :, 0].any(2).sum(1), covered[:, 0, :, :, 0].any(1).sum(1)
    assert rows.max() == 10
    assert columns.max() == 5
    assert rows.min() < 3
    # One rectangle each.
    np.testing.assert_array_equal(covered[:, 0, :, :, 0].sum((1, 2)), rows * columns)
    assert covered.any(0)[0, 3:17, 2:8, 0].all()  # anywhere but at the very border


def test_cameras_draw_for_themselves_and_the_rest_stays():
    images = _images(16, 1, 6, 7)
    observation = {"proprio": jnp.ones((8, 2, 3)), "image/b": images, "image/a": images}
    got = augment.augment_observation(jax.random.key(0), observation, AugmentConfig(shift=2))
    assert got["proprio"] is observation["proprio"]
    assert (got["image/a"] != got["image/b"]).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shift": -1}, "augment.shift must be at least 0, got -1"),
        ({"crop": 0.0}, "augment.crop must be above 0 and at most 1, got 0.0"),
        ({"crop": 1.1}, "augment.crop must be"),
        ({"blur": -0.1}, "augment.blur must be at least 0"),
        ({"blur": float("inf")}, "augment.blur must be"),
        ({"brightness": 1.5}, "augment.brightness must be from 0 to 1, got 1.5"),
        ({"contrast": -0.1}, "augment.contrast"),
        ({"saturation": float("nan")}, "augment.saturation must be from 0 to 1, got nan"),
        ({"hue": 0.6}, "augment.hue must be from 0 to 0.5, got 0.6"),
        ({"cutout": 2.0}, "augment.cutout must be"),
        ({"blur_probability": 2.0}, "augment.blur_probability"),
        ({"colour_probability": -1.0}, "augment.colour_probability"),
        ({"cutout_probability": 1.1}, "augment.cutout_probability"),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(InputError, match=message):
        AugmentConfig(**values)

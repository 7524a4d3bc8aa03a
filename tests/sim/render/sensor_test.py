"""Blur and noise by hand-worked values."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.sim.render import sensor


def test_blur_of_a_point_is_a_gaussian():
    image = np.zeros((3, 15, 21), np.float32)
    image[1, 7, 10] = 100.0
    out = np.asarray(sensor.blur(jnp.asarray(image), jnp.float32(1.0)))
    # Weights exp(-k^2 / 2) over sqrt(2 pi) = 2.5066: .39894 in the middle, .24197 beside.
    np.testing.assert_allclose(out[1, 7, 10], 100 * 0.39894**2, rtol=1e-3)
    np.testing.assert_allclose(out[1, 7, 11], 100 * 0.39894 * 0.24197, rtol=1e-3)
    np.testing.assert_allclose(out[1, 6, 11], 100 * 0.24197**2, rtol=1e-3)
    np.testing.assert_allclose(out.sum(), 100.0, rtol=1e-3)
    assert (out[[0, 2]] == 0).all()


def test_no_blur_and_even_pictures_stay():
    image = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (3, 8, 9)), jnp.float32)
    np.testing.assert_array_equal(sensor.blur(image, jnp.float32(0.0)), image)
    even = sensor.blur(jnp.full((3, 8, 9), 77.0), jnp.float32(2.5))
    np.testing.assert_allclose(even, 77.0, rtol=1e-5)


def test_noise_has_the_standard_deviation_asked_for():
    seeds = jnp.arange(50, dtype=jnp.uint32)
    draw = jax.vmap(lambda s: sensor.add_noise(jnp.zeros((3, 32, 32)), jnp.float32(4.0), s))
    noise = np.asarray(draw(seeds))
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 4.0) < 0.05
    # Nearly normal: 68 % within one standard deviation, 95 % within two.
    assert abs((np.abs(noise) < 4.0).mean() - 0.683) < 0.02
    assert abs((np.abs(noise) < 8.0).mean() - 0.954) < 0.02
    # Independent between frames, channels and neighbours.
    for a, b in [
        (noise[:-1], noise[1:]),
        (noise[:, 0], noise[:, 1]),
        (noise[..., 1:], noise[..., :-1]),
    ]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(noise[3], draw(seeds[3:4])[0])

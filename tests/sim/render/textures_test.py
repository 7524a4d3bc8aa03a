"""Patterns by hand-worked values."""

import jax.numpy as jnp
import numpy as np

from jaxpolicy.sim.render import textures


def test_squares_alternate():
    x = jnp.asarray([0.5, 1.5, 0.5, -0.5, -0.5])
    y = jnp.asarray([0.5, 0.5, 1.5, 0.5, -0.5])
    # Squares (0, 0), (1, 0), (0, 1), (-1, 0), (-1, -1): odd where the sum is odd.
    assert textures.is_odd_square([x, y]).tolist() == [False, True, True, True, False]


def test_hash_spreads_neighbours():
    bits = np.asarray(textures.hash_bits(jnp.arange(4096, dtype=jnp.uint32)))
    assert len(np.unique(bits)) == 4096
    share = [(bits >> k & 1).mean() for k in range(32)]
    # A fair bit over 4096 draws has a standard deviation of .0078.
    assert np.abs(np.asarray(share) - 0.5).max() < 5 * 0.0078


def test_noise_takes_its_lattice_values_and_blends_between_them():
    def at(x, y, z):
        return float(textures.value_noise([jnp.float32(v) for v in (x, y, z)]))

    a, b = at(3, -2, 5), at(4, -2, 5)
    # Weight at f = 1/4 is 3/16 - 2/64 = 5/32; half-way it is 1/2.
    assert abs(at(3.25, -2, 5) - (a + (b - a) * 5 / 32)) < 1e-6
    assert abs(at(3.5, -2, 5) - (a + b) / 2) < 1e-6
    corners = [at(x, y, z) for x in (3, 4) for y in (-2, -1) for z in (5, 6)]
    assert abs(at(3.5, -1.5, 5.5) - np.mean(corners)) < 1e-6


def test_noise_is_even_and_in_range():
    rng = np.random.default_rng(0)
    p = [jnp.asarray(rng.uniform(-50, 50, 20_000), jnp.float32) for _ in range(3)]
    noise = np.asarray(textures.value_noise(p))
    assert noise.min() >= 0.0
    assert noise.max() <= 1.0
    assert abs(noise.mean() - 0.5) < 0.01
    assert noise.std() > 0.12

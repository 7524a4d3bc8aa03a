import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.networks import norms


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_two_groups_by_hand():
    # Two positions, two groups of one channel: (1, 3) has mean 2 and deviation 1, (0, 4) mean 2
    # and deviation 2: -1, 1 in both, then times 3 plus 1 in the second.
    x = jnp.asarray([[[1.0, 0.0], [3.0, 4.0]]])
    got = norms.group_norm(x, jnp.asarray([1.0, 3.0]), jnp.asarray([0.0, 1.0]), 2, 0.0)
    np.testing.assert_allclose(got, [[[-1, -2], [1, 4]]], atol=1e-6)


def test_value_and_gradients_equal_flax():
    # A mean far from zero, where the difference of two moments would lose digits.
    x, scale, bias = 3 * _normal(0, 2, 4, 5, 16) + 100, 1 + _normal(1, 16), _normal(2, 16)
    module = nn.GroupNorm(num_groups=4, epsilon=1e-5, use_fast_variance=False)

    def theirs(x, scale, bias):
        return module.apply({"params": {"scale": scale, "bias": bias}}, x)

    def ours(x, scale, bias):
        return norms.group_norm(x, scale, bias, 4)

    want, back = jax.vjp(theirs, x, scale, bias)
    got, our_back = jax.vjp(ours, x, scale, bias)
    np.testing.assert_allclose(got, want, atol=1e-4)
    g = _normal(3, *x.shape)
    for a, b in zip(our_back(g), back(g), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)

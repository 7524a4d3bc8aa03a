import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxpolicy.networks import winograd


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _lax(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_one_tile_by_hand():
    # Only pixel (0, 0) of 2x2 is 1. Output (y, z) reads it through tap (1 - y, 1 - z) of the
    # kernel 1..9 in rows of three: 5 4 / 2 1.
    x = jnp.zeros((1, 2, 2, 1)).at[0, 0, 0, 0].set(1.0)
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    np.testing.assert_allclose(winograd.convolve(x, kernel)[0, :, :, 0], [[5, 4], [2, 1]])


@pytest.mark.parametrize("size", [(4, 6), (3, 5), (3, 3), (2, 3)])
def test_convolution_and_gradients_equal_lax_conv(size):
    x, kernel, g = _normal(0, 2, *size, 3), _normal(1, 3, 3, 3, 4), _normal(2, 2, *size, 4)
    want, back = jax.vjp(_lax, x, kernel)
    np.testing.assert_allclose(winograd.convolve(x, kernel), want, atol=2e-5)
    dx, dkernel = back(g)
    np.testing.assert_allclose(winograd.input_gradient(g, kernel), dx, atol=2e-5)
    np.testing.assert_allclose(winograd.kernel_gradient(x, g), dkernel, atol=4e-5)

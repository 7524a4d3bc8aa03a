"""What a lens and a sensor do to a picture: blur and noise.

Pictures are three planes, float32 [3, H, W], levels from 0 to 255.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.sim.render import textures

__all__ = ["add_noise", "blur"]

_SHARPEST = 0.05  # sigma, pixels, below which a neighbour's weight is exactly zero
# The sum of four bytes has mean 510 and variance 4 (256^2 - 1) / 12 = 147.8^2.
_MEAN, _STD = 510.0, 147.8


def blur(planes: jax.Array, sigma: jax.typing.ArrayLike) -> jax.Array:
    """Gaussian blur of `sigma` [] pixels; 0 changes nothing, edges keep their brightness.

    Two matrix products, which serve any sigma and which no compiler recomputes.
    """
    vertical, horizontal = (_weights(n, sigma) for n in planes.shape[1:])
    precision = jax.lax.Precision.HIGHEST
    planes = jnp.einsum("ij,cjk->cik", vertical, planes, precision=precision)
    return jnp.einsum("cik,lk->cil", planes, horizontal, precision=precision)


def _weights(n: int, sigma: jax.typing.ArrayLike) -> jax.Array:
    """Share of pixel j in the blurred pixel i, [n, n]; rows sum to 1."""
    offset = (np.arange(n)[:, None] - np.arange(n)[None]).astype(np.float32)
    weights = jnp.exp(-0.5 * jnp.square(offset / jnp.maximum(sigma, _SHARPEST)))
    return weights / weights.sum(axis=1, keepdims=True)


def add_noise(
    planes: jax.Array, std: jax.typing.ArrayLike, seed: jax.typing.ArrayLike
) -> jax.Array:
    """Adds nearly normal noise, independent in every pixel and channel.

    Args:
      planes: [3, H, W].
      std: standard deviation, levels, [].
      seed: uint32 []; equal seeds give equal noise.
    """
    index = jnp.arange(planes.size, dtype=jnp.uint32).reshape(planes.shape)
    bits = textures.hash_bits(index + textures.hash_bits(jnp.asarray(seed)))
    total = sum((bits >> shift & 255).astype(jnp.int32) for shift in (0, 8, 16, 24))
    return planes + jnp.asarray(std) / _STD * (jnp.asarray(total, jnp.float32) - _MEAN)

"""Noise levels as vectors, for denoisers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["TimeEmbedding", "mish", "sinusoidal"]


def sinusoidal(time: jax.Array, size: int) -> jax.Array:
    """Sines, then cosines, of size / 2 frequencies from 1 down to 1 / 10000.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5.

    Args:
      time: [B].
      size: even, at least 4.

    Returns:
      [B, size] float32.
    """
    frequency = np.exp(np.linspace(0.0, -np.log(10000.0), size // 2)).astype(np.float32)
    angle = time.astype(jnp.float32)[:, None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def mish(x: jax.Array) -> jax.Array:
    """Mish, x tanh(softplus(x)) (Misra 2019, https://arxiv.org/abs/1908.08681).

    With n = e^x (e^x + 2) that is x n / (n + 2): one exponential instead of three
    functions. Beyond 20 it is x to rounding.
    """
    power = jnp.exp(jnp.minimum(x, 20.0))
    n = power * (power + 2.0)
    return x * (n / (n + 2.0))


class TimeEmbedding(nn.Module):
    """`sinusoidal`, then two dense layers; [B] -> [B, size].

    Attributes:
      size: of the embedding; the layer between is four times as wide.
      dtype: of the computation; parameters are float32.
    """

    size: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, time: jax.Array) -> jax.Array:
        """[B] levels, in steps of the noise schedule -> [B, size]."""
        x = sinusoidal(time, self.size).astype(self.dtype)
        x = mish(nn.Dense(4 * self.size, dtype=self.dtype)(x))
        return nn.Dense(self.size, dtype=self.dtype)(x)

"""Feature-wise linear modulation: a vector scales and shifts every channel."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["FiLM"]


class FiLM(nn.Module):
    """x (1 + gamma(c)) + beta(c), both linear in the condition c.

    Perez et al. 2018, https://arxiv.org/abs/1709.07871, eq. 2. Starts as the identity: the
    parameters are zeros.

    Attributes:
      dtype: of the computation; parameters are float32.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """Features [N, ..., F] and condition [N, C] -> [N, ..., F]."""
        width = x.shape[-1]
        linear = nn.Dense(2 * width, dtype=self.dtype, kernel_init=nn.initializers.zeros)
        both = linear(condition).reshape(-1, *(1,) * (x.ndim - 2), 2 * width)
        return x * (1 + both[..., :width]) + both[..., width:]

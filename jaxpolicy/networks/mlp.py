"""Multi-layer perceptron."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["MLP"]


class MLP(nn.Module):
    """Hidden layers with ReLU and dropout; [..., F] -> [..., widths[-1]].

    Attributes:
      widths: of the hidden layers.
      dropout: share of units dropped after each layer while training.
      dtype: of the computation; parameters are float32.
    """

    widths: tuple[int, ...]
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Dropout needs the "dropout" PRNG when `train`."""
        for width in self.widths:
            x = nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.he_normal())(x)
            x = nn.relu(x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return x

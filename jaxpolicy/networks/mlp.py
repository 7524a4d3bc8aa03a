"""Multi-layer perceptron."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["ACTIVATIONS", "MLP"]


# Looked up in their modules when they are called: while it traces, the ONNX exporter puts forms
# there that it can convert.


def _gelu(x: jax.Array) -> jax.Array:
    return nn.gelu(x)


def _relu(x: jax.Array) -> jax.Array:
    return nn.relu(x)


def _tanh(x: jax.Array) -> jax.Array:
    return jnp.tanh(x)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": _gelu,
    "relu": _relu,
    "tanh": _tanh,
}


class MLP(nn.Module):
    """Hidden layers with dropout; [..., F] -> [..., widths[-1]].

    Attributes:
      widths: of the hidden layers.
      dropout: share of units dropped after each layer while training.
      dtype: of the computation; parameters are float32.
      activation: key of ACTIVATIONS.
    """

    widths: tuple[int, ...]
    dropout: float = 0.0
    dtype: Any = jnp.float32
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Dropout needs the "dropout" PRNG when `train`."""
        for width in self.widths:
            x = nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.he_normal())(x)
            x = ACTIVATIONS[self.activation](x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return x

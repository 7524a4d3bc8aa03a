"""From a feature map to a vector: [N, H, W, F] -> [N, F'], a line each in POOLS."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.networks.attention import Attention, heads_of
from jaxpolicy.networks.positions import grid_positions

__all__ = ["POOLS", "AttentionPool", "attention_pool", "mean_pool", "spatial_softmax"]


def spatial_softmax(logits: jax.Array) -> jax.Array:
    """Expected image position of each channel under a softmax over pixels.

    Finn et al. 2016, https://arxiv.org/abs/1509.06113, eq. 2. The division by the sum
    comes after the expectation, so only [N, C] numbers are divided.

    Args:
      logits: [N, H, W, C].

    Returns:
      [N, 2 C] in [-1, 1]: x of every channel (left to right), then y (top to bottom).
    """
    n, height, width, channels = logits.shape
    flat = logits.reshape(n, height * width, channels)
    weights = jnp.exp(flat - jax.lax.stop_gradient(flat.max(1, keepdims=True)))
    total = weights.sum(1)
    means = [(weights * axis[:, None]).sum(1) / total for axis in _grid(height, width)]
    return jnp.concatenate(means, axis=-1)


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The x and y of every pixel, each float32 [H W], from -1 to 1."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return x.ravel().astype(np.float32), y.ravel().astype(np.float32)


def mean_pool(features: jax.Array) -> jax.Array:
    """Mean over the pixels; [N, H, W, F] -> [N, F]."""
    return features.mean((1, 2))


class AttentionPool(nn.Module):
    """A learned query looks at all pixels, which know their place.

    As the pooling head of Zhai et al. 2022, https://arxiv.org/abs/2106.04560, without its
    MLP. Positions are added because the features of a CNN do not hold them.
    """

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """[N, H, W, F] -> [N, F]."""
        n, height, width, channels = features.shape
        placed = features + grid_positions(height, width, channels)
        query = self.param("query", nn.initializers.normal(0.02), (1, 1, channels))
        attention = Attention(heads_of(channels), name="attention")
        tokens = placed.reshape(n, height * width, channels)
        return attention(jnp.broadcast_to(query, (n, 1, channels)), tokens)[:, 0]


def attention_pool(features: jax.Array) -> jax.Array:
    """AttentionPool as part of the module that calls this; [N, H, W, F] -> [N, F]."""
    return AttentionPool(name="pool")(features)


POOLS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "attention": attention_pool,
    "mean": mean_pool,
    "spatial_softmax": spatial_softmax,
}

"""Normalisation layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["GroupNorm"]


class GroupNorm(nn.Module):
    """Group normalisation (Wu and He 2018, https://arxiv.org/abs/1803.08494).

    Attributes:
      groups: must divide the channels.
      epsilon: added to the variance.
    """

    groups: int = 8
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, ..., C] -> same shape; statistics in float32."""
        channels = x.shape[-1]
        grouped = x.reshape(x.shape[0], -1, self.groups, channels // self.groups)
        grouped = grouped.astype(jnp.float32)
        mean = grouped.mean((1, 3), keepdims=True)
        variance = jnp.square(grouped - mean).mean((1, 3), keepdims=True)
        normal = ((grouped - mean) * jax.lax.rsqrt(variance + self.epsilon)).reshape(x.shape)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return (normal * scale + bias).astype(x.dtype)

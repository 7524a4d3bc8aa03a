"""Normalisation layers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["GroupNorm", "group_norm"]


class GroupNorm(nn.Module):
    """`group_norm` with a learned scale and bias per channel.

    Attributes:
      groups: must divide the channels.
      epsilon: added to the variance.
    """

    groups: int = 8
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, ..., C] -> same shape; statistics in float32."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return group_norm(x, scale, bias, self.groups, self.epsilon)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def group_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, epsilon: float = 1e-5
) -> jax.Array:
    """Group normalisation (Wu and He 2018, https://arxiv.org/abs/1803.08494).

    Statistics are summed over positions for each channel and then over the channels of a
    group, so every pass over x keeps its channels side by side. Reverse mode only.

    Args:
      x: [N, ..., C].
      scale, bias: float32 [C].
      groups: must divide C.
      epsilon: added to the variance.

    Returns:
      Shape and dtype of x; statistics in float32.
    """
    return _forward(x, scale, bias, groups, epsilon)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, epsilon: float
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    flat = _flat(x)
    mean = _group_mean(flat.mean(1), groups)
    variance = _group_mean(jnp.square(flat - mean[:, None]).mean(1), groups)
    inverse = jax.lax.rsqrt(variance + epsilon)
    y = (flat - mean[:, None]) * (inverse * scale)[:, None] + bias
    return y.reshape(x.shape).astype(x.dtype), (x, scale, mean, inverse)


def _backward(
    groups: int, epsilon: float, residuals: tuple[jax.Array, ...], g: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """With h = (x - mean) / deviation: dx = (g s - E[g s] - h E[g s h]) / deviation."""
    del epsilon
    x, scale, mean, inverse = residuals
    centred, flat = _flat(x) - mean[:, None], _flat(g)
    total, product = flat.sum(1), (flat * centred).sum(1) * inverse
    size = flat.shape[1]
    offset = _group_mean(total * scale, groups) / size
    slope = _group_mean(product * scale, groups) / size
    dx = flat * (inverse * scale)[:, None] - centred * (inverse**2 * slope)[:, None]
    dx = dx - (inverse * offset)[:, None]
    return dx.reshape(x.shape).astype(x.dtype), product.sum(0), total.sum(0)


group_norm.defvjp(_forward, _backward)


def _flat(x: jax.Array) -> jax.Array:
    """[N, ..., C] -> float32 [N, P, C]."""
    return x.reshape(x.shape[0], -1, x.shape[-1]).astype(jnp.float32)


def _group_mean(x: jax.Array, groups: int) -> jax.Array:
    """[N, C] -> the mean of its group for every channel, [N, C]."""
    n, channels = x.shape
    means = x.reshape(n, groups, -1).mean(-1)
    return jnp.repeat(means, channels // groups, axis=-1)

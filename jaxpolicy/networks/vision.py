"""Image backbones: [N, H, W, C] centred float images -> [N, F] features."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.networks import conv
from jaxpolicy.networks.norms import GroupNorm

__all__ = ["GroupNorm", "PatchCNN", "spatial_softmax"]


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


class PatchCNN(nn.Module):
    """Patch stem, residual 3x3 convolutions by stage, spatial softmax.

    Each stage starts with a patch convolution that divides the resolution (by `patch`
    in the first stage, by 2 in later ones), because that is a matrix product.

    Attributes:
      patch: side of the stem's patches, in pixels.
      widths: channels of each stage.
      depths: residual convolutions of each stage.
      group_norm: normalises before every convolution.
      dtype: of the computation; parameters are float32.
    """

    patch: int = 4
    widths: tuple[int, ...] = (32,)
    depths: tuple[int, ...] = (2,)
    group_norm: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, 2 widths[-1]] float32."""
        x = images
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            factor = 2 if stage else self.patch
            x = conv.Conv2D(width, factor, factor, dtype=self.dtype)(x)
            for layer in range(depth):
                # Spatial softmax ignores a constant per channel: a last bias would have
                # no gradient but rounding errors, and Adam would amplify those.
                last = (stage, layer) == (len(self.widths) - 1, depth - 1)
                branch = conv.Conv2D(width, use_bias=not last, dtype=self.dtype)
                x = x + branch(self._pre(x))
        return spatial_softmax(x.astype(jnp.float32))

    def _pre(self, x: jax.Array) -> jax.Array:
        """What stands before a convolution."""
        return nn.relu(GroupNorm()(x) if self.group_norm else x)

"""Patch CNN: [N, H, W, C] centred float images -> [N, h, w, F] feature maps."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.networks import conv
from jaxpolicy.networks.film import FiLM
from jaxpolicy.networks.norms import GroupNorm

__all__ = ["PatchCNN"]


class _Residual(nn.Module):
    """x + convolution(relu(norm(x))), with FiLM before the ReLU where there is a condition."""

    group_norm: bool
    use_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None) -> jax.Array:
        y = GroupNorm(name="norm")(x) if self.group_norm else x
        if condition is not None:
            y = FiLM(self.dtype, name="film")(y, condition)
        branch = conv.Conv2D(x.shape[-1], use_bias=self.use_bias, dtype=self.dtype, name="conv")
        return x + branch(nn.relu(y))


class PatchCNN(nn.Module):
    """Patch stem, then residual 3x3 convolutions by stage.

    Each stage starts with a patch convolution that divides the resolution (by `patch`
    in the first stage, by 2 in later ones), because that is a matrix product.

    Attributes:
      patch: side of the stem's patches, in pixels.
      widths: channels of each stage.
      depths: residual convolutions of each stage.
      group_norm: normalises before every convolution.
      remat: residual branches are computed again in the backward pass, to save memory.
      dtype: of the computation; parameters are float32.
    """

    patch: int = 4
    widths: tuple[int, ...] = (32,)
    depths: tuple[int, ...] = (2,)
    group_norm: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[N, H, W, C], condition [N, K] or none -> [N, h, w, widths[-1]]."""
        x = images
        residual = nn.remat(_Residual) if self.remat else _Residual
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            factor = 2 if stage else self.patch
            x = conv.Conv2D(width, factor, factor, dtype=self.dtype, name=f"stage{stage}")(x)
            for layer in range(depth):
                # Spatial softmax ignores a constant per channel: a last bias would have
                # no gradient but rounding errors, and Adam would amplify those.
                last = (stage, layer) == (len(self.widths) - 1, depth - 1)
                block = residual(
                    self.group_norm, not last, self.dtype, name=f"stage{stage}_block{layer}"
                )
                x = block(x, condition)
        return x

"""Vision transformer: [N, H, W, 3] centred float images -> [N, h, w, F], its patch grid.

Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929, without the class token, as in
Beyer et al. 2022, https://arxiv.org/abs/2205.01580.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.networks import conv
from jaxpolicy.networks.attention import TransformerBlock, heads_of, layer_norm
from jaxpolicy.networks.positions import grid_positions

__all__ = ["POSITIONS", "ViT"]

# Learned positions, or sines and cosines of row and column.
POSITIONS = ("learned", "sincos")


class ViT(nn.Module):
    """Patch stem, positions, pre-norm transformer blocks, layer norm.

    Attributes:
      patch: side of the patches, in pixels.
      width: features F of a token.
      depth: number of blocks.
      heads: must divide the width; 0: see heads_of.
      positions: one of POSITIONS.
      remat: blocks are computed again in the backward pass, to save memory.
      dtype: of the computation; parameters are float32.
    """

    patch: int = 16
    width: int = 192
    depth: int = 12
    heads: int = 0
    positions: str = "learned"
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[N, H, W, 3], condition [N, C] or none -> [N, ceil(H / patch), ceil(W / patch), F].

        The condition scales and shifts what enters each attention and MLP.
        """
        stem = conv.Conv2D(self.width, self.patch, self.patch, dtype=self.dtype, name="stem")
        x = stem(images)
        grid = x.shape[1:]
        if self.positions == "learned":
            places = self.param("positions", nn.initializers.normal(0.02), (1, *grid))
        else:
            places = jnp.asarray(grid_positions(*grid))
        x = (x + places.astype(self.dtype)).reshape(x.shape[0], -1, self.width)
        # `train`, argument 2, is no array.
        block = nn.remat(TransformerBlock, static_argnums=(2,)) if self.remat else TransformerBlock
        for index in range(self.depth):
            layer = block(
                self.heads or heads_of(self.width), dtype=self.dtype, name=f"block{index}"
            )
            x = layer(x, False, None, None, None, condition)
        return layer_norm(self.dtype, "norm")(x).reshape(-1, *grid)

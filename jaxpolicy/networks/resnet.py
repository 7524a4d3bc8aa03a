"""ResNet with group normalisation: [N, H, W, 3] images -> [N, h, w, F] feature maps.

He et al. 2016, https://arxiv.org/abs/1512.03385, with the stride of bottleneck blocks on
their 3x3 convolution and the padding of torchvision's models. Groups of 16 channels are
normalised, as in Diffusion Policy (Chi et al. 2023, https://arxiv.org/abs/2303.04137): batch
statistics go badly with averaged weights.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.networks import conv
from jaxpolicy.networks.film import FiLM
from jaxpolicy.networks.norms import GroupNorm

__all__ = ["LAYERS", "ResNet"]

# Number of layers -> blocks of each stage, table 1 of He et al.
LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
# From this number of layers on, blocks are bottlenecks: 1x1, 3x3, 1x1 to four times the width.
_BOTTLENECK_FROM = 50
_EXPANSION = 4
_GROUP = 16


class _Block(nn.Module):
    """Residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1.

    Attributes:
      width: channels of the inner convolutions.
      stride: of the first 3x3 convolution.
      bottleneck: which of the two kinds; the second has 4 width features.
      dtype: of the computation.
    """

    width: int
    stride: int
    bottleneck: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None) -> jax.Array:
        """[N, H, W, C] -> [N, H / stride, W / stride, F]."""
        if self.bottleneck:
            y = nn.relu(self._conv_norm(x, self.width, 1, 1, "1"))
            y = nn.relu(self._conv_norm(y, self.width, 3, self.stride, "2"))
            y = self._conv_norm(y, _EXPANSION * self.width, 1, 1, "3")
        else:
            y = nn.relu(self._conv_norm(x, self.width, 3, self.stride, "1"))
            y = self._conv_norm(y, self.width, 3, 1, "2")
        if condition is not None:
            y = FiLM(self.dtype, name="film")(y, condition)
        if x.shape != y.shape:
            x = self._conv_norm(x, y.shape[-1], 1, self.stride, "_skip")
        return nn.relu(x + y)

    def _conv_norm(
        self, x: jax.Array, features: int, size: int, stride: int, suffix: str
    ) -> jax.Array:
        convolution = conv.Conv2D(
            features,
            size,
            stride,
            use_bias=False,
            padding=size // 2,
            dtype=self.dtype,
            name=f"conv{suffix}",
        )
        return GroupNorm(features // _GROUP, name=f"norm{suffix}")(convolution(x))


class ResNet(nn.Module):
    """ResNet-18, 34 or 50 without its last pooling and classifier.

    Attributes:
      layers: key of LAYERS.
      width: channels of the first stage, a multiple of 16; each later stage has twice as many.
      remat: blocks are computed again in the backward pass, to save memory.
      dtype: of the computation; parameters are float32.
    """

    layers: int = 18
    width: int = 64
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[N, H, W, 3], condition [N, C] or none -> [N, ceil(H / 32), ceil(W / 32), F].

        F is 8 width, and 32 width for ResNet-50. The condition scales and shifts the last
        normalised features of every block.
        """
        stem = conv.Conv2D(
            self.width, 7, 2, use_bias=False, padding=3, dtype=self.dtype, name="conv"
        )
        x = nn.relu(GroupNorm(self.width // _GROUP, name="norm")(stem(images)))
        x = conv.max_pool(x)
        block = nn.remat(_Block) if self.remat else _Block
        for stage, depth in enumerate(LAYERS[self.layers]):
            for index in range(depth):
                x = block(
                    width=self.width * 2**stage,
                    stride=2 if stage and not index else 1,
                    bottleneck=self.layers >= _BOTTLENECK_FROM,
                    dtype=self.dtype,
                    name=f"stage{stage}_block{index}",
                )(x, condition)
        return x

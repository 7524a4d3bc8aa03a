"""Conditional 1-D U-Net over the steps of an action chunk.

Chi et al. 2023, https://arxiv.org/abs/2303.04137, with the layers of its reference code
(github.com/real-stanford/diffusion_policy, conditional_unet1d.py): kernels of 5 steps,
group normalisation, Mish, FiLM with scale and bias, stride-2 convolutions down and
transposed ones up. As there, the first level has no skip connection.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.core.specs import InputError
from jaxpolicy.networks.conv import Conv1D, ConvTranspose1D
from jaxpolicy.networks.film import FiLM
from jaxpolicy.networks.norms import GroupNorm
from jaxpolicy.networks.time_embedding import TimeEmbedding, mish

__all__ = ["ConvBlock", "FiLMBlock", "UNet1D", "check_horizon", "near_zero"]

# Of last layers: predictions start near the middle of the action range.
near_zero = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")


class ConvBlock(nn.Module):
    """Convolution, group normalisation, Mish; [B, T, C] -> [B, T, features].

    Attributes:
      features: F, a multiple of groups.
      size: kernel length, odd.
      groups: of the normalisation.
      dtype: of the computation; parameters are float32.
    """

    features: int
    size: int = 5
    groups: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, C] -> [B, T, F]."""
        x = Conv1D(self.features, self.size, dtype=self.dtype, name="conv")(x)
        return mish(GroupNorm(self.groups, name="norm")(x))


class FiLMBlock(nn.Module):
    """Two ConvBlocks around a FiLM, and a residual connection.

    The reference scales by the condition's projection, we by 1 + that, see FiLM.

    Attributes:
      features, size, groups, dtype: as in ConvBlock.
    """

    features: int
    size: int = 5
    groups: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """[B, T, C] and [B, D] -> [B, T, F]."""
        block = (self.features, self.size, self.groups, self.dtype)
        y = ConvBlock(*block, name="first")(x)
        y = FiLM(self.dtype, name="film")(y, mish(condition))
        y = ConvBlock(*block, name="second")(y)
        if x.shape[-1] != self.features:
            x = Conv1D(self.features, 1, dtype=self.dtype, name="residual")(x)
        return y + x


class UNet1D(nn.Module):
    """(noisy chunk, time, condition) -> what the denoiser predicts.

    Attributes:
      widths: channels of each level; each level after the first halves the resolution.
      size: kernel length, odd.
      groups: of the normalisations; divides every width.
      embedding: size of the time embedding.
      dtype: of the computation; parameters are float32.
    """

    widths: tuple[int, ...] = (256, 512, 1024)
    size: int = 5
    groups: int = 8
    embedding: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, noisy: jax.Array, time: jax.Array, condition: jax.Array) -> jax.Array:
        """Denoises.

        Args:
          noisy: [B, H, A].
          time: [B], in steps of the noise schedule.
          condition: [B, C] features of the observation.

        Returns:
          [B, H, A] float32.

        Raises:
          InputError: H cannot be halved once per level after the first.
        """
        check_horizon(noisy.shape[1], len(self.widths))
        condition = condition.astype(self.dtype)
        time = TimeEmbedding(self.embedding, self.dtype, name="time")(time)
        condition = jnp.concatenate([time, condition], axis=-1)
        x = self._levels(noisy.astype(self.dtype), condition)
        x = ConvBlock(self.widths[0], self.size, self.groups, self.dtype, name="last")(x)
        head = nn.Dense(noisy.shape[-1], kernel_init=near_zero, name="head")
        return head(x.astype(jnp.float32))

    def _levels(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """Down, middle and up; [B, H, A] -> [B, H, widths[0]]."""
        skips = []
        for i, width in enumerate(self.widths):
            if i:
                x = Conv1D(x.shape[-1], 3, 2, dtype=self.dtype, name=f"down{i}")(x)
            x = self._pair(x, condition, width, f"encode{i}")
            skips.append(x)
        x = self._pair(x, condition, self.widths[-1], "middle")
        for i in range(len(self.widths) - 1, 0, -1):
            x = jnp.concatenate([x, skips[i]], axis=-1)
            x = self._pair(x, condition, self.widths[i - 1], f"decode{i}")
            x = ConvTranspose1D(x.shape[-1], 4, 2, dtype=self.dtype, name=f"up{i}")(x)
        return x

    def _pair(self, x: jax.Array, condition: jax.Array, width: int, name: str) -> jax.Array:
        """Two FiLM blocks of a level."""
        for i in range(2):
            block = FiLMBlock(width, self.size, self.groups, self.dtype, name=f"{name}_{i}")
            x = block(x, condition)
        return x


def check_horizon(horizon: int, levels: int) -> None:
    """Raises InputError unless `horizon` can be halved once per level after the first."""
    factor = 2 ** (levels - 1)
    if horizon % factor:
        raise InputError(
            f"a U-Net of {levels} levels needs a horizon divisible by {factor}, got {horizon}: "
            "change horizon, or give the network fewer widths"
        )

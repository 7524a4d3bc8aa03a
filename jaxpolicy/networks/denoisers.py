"""Networks that denoise action chunks, given what the policy observes.

A denoiser is a module (noisy [B, H, A], time [B], condition) -> [B, H, A], and a line in
DENOISERS. Time counts steps of the noise schedule. The condition is a feature vector
[B, C], or tokens [B, N, D] for the denoisers in WITH_TOKENS.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import Observation
from jaxpolicy.networks.attention import TransformerBlock, layer_norm
from jaxpolicy.networks.encoder import NetworkConfig, ObservationEncoder, ObservationTokens
from jaxpolicy.networks.film import FiLM
from jaxpolicy.networks.time_embedding import TimeEmbedding, mish
from jaxpolicy.networks.unet1d import UNet1D, check_horizon, near_zero

__all__ = [
    "DENOISERS",
    "WITH_TOKENS",
    "DenoiserConfig",
    "DiffusionPolicy",
    "FiLMMLP",
    "TransformerDenoiser",
    "check",
]


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of the denoisers; each reads its own.

    Attributes:
      embedding: size of the embedding of time, even.
      mlp_widths: hidden layers of "mlp".
      unet_widths: channels of each level of "unet1d"; the horizon must be divisible by 2
        once for every level after the first.
      unet_kernel: kernel length, odd.
      unet_groups: groups of its normalisations; must divide the widths.
      transformer_width: of the tokens of "transformer".
      transformer_layers: how many blocks.
      transformer_heads: attention heads; must divide the width.
    """

    embedding: int = 256
    mlp_widths: tuple[int, ...] = (256, 256, 256)
    unet_widths: tuple[int, ...] = (256, 512, 1024)
    unet_kernel: int = 5
    unet_groups: int = 8
    transformer_width: int = 256
    transformer_layers: int = 8
    transformer_heads: int = 4


class FiLMMLP(nn.Module):
    """Dense layers over the whole chunk, each modulated by time and observation.

    The smallest denoiser, for short chunks: a few matrix products per step.

    Attributes:
      widths: of the hidden layers.
      embedding: size of the time embedding.
      dtype: of the computation; parameters are float32.
    """

    widths: tuple[int, ...] = (256, 256, 256)
    embedding: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, noisy: jax.Array, time: jax.Array, condition: jax.Array) -> jax.Array:
        """[B, H, A], [B] and [B, C] -> [B, H, A] float32."""
        time = TimeEmbedding(self.embedding, self.dtype, name="time")(time)
        condition = jnp.concatenate([time, condition.astype(self.dtype)], axis=-1)
        x = noisy.reshape(noisy.shape[0], -1)
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, dtype=self.dtype, name=f"dense{i}")(x)
            x = mish(FiLM(self.dtype, name=f"film{i}")(x, condition))
        head = nn.Dense(noisy[0].size, kernel_init=near_zero, name="head")
        return head(x.astype(jnp.float32)).reshape(noisy.shape)


class TransformerDenoiser(nn.Module):
    """One token per action; time modulates, the observation is looked at.

    As in Peebles and Xie 2022 (https://arxiv.org/abs/2212.09748) the embedding of time
    scales and shifts every normalised token; as in Chi et al. 2023
    (https://arxiv.org/abs/2303.04137) actions attend to tokens of the observation. All
    actions of a chunk see each other.

    Attributes:
      width: of the tokens.
      layers: blocks.
      heads: attention heads; must divide the width.
      embedding: size of the time embedding.
      dtype: of the computation; parameters are float32.
    """

    width: int = 256
    layers: int = 8
    heads: int = 4
    embedding: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, noisy: jax.Array, time: jax.Array, condition: jax.Array) -> jax.Array:
        """[B, H, A], [B] and tokens [B, N, D] -> [B, H, A] float32."""
        time = mish(TimeEmbedding(self.embedding, self.dtype, name="time")(time))
        memory = nn.Dense(self.width, dtype=self.dtype, name="memory")(condition)
        positions = self.param(
            "positions", nn.initializers.normal(0.02), (noisy.shape[1], self.width)
        )
        x = nn.Dense(self.width, dtype=self.dtype, name="actions")(noisy)
        x = x + positions.astype(self.dtype)
        for i in range(self.layers):
            block = TransformerBlock(self.heads, dtype=self.dtype, name=f"block{i}")
            x = block(x, memory=memory, condition=time)
        x = layer_norm(self.dtype, "norm")(x).astype(jnp.float32)
        return nn.Dense(noisy.shape[-1], kernel_init=near_zero, name="head")(x)


def _mlp(config: DenoiserConfig, dtype: Any) -> nn.Module:
    return FiLMMLP(config.mlp_widths, config.embedding, dtype)


def _unet1d(config: DenoiserConfig, dtype: Any) -> nn.Module:
    widths, groups = config.unet_widths, config.unet_groups
    return UNet1D(widths, config.unet_kernel, groups, config.embedding, dtype)


def _transformer(config: DenoiserConfig, dtype: Any) -> nn.Module:
    sizes = (config.transformer_width, config.transformer_layers, config.transformer_heads)
    return TransformerDenoiser(*sizes, config.embedding, dtype)


DENOISERS: dict[str, Callable[[DenoiserConfig, Any], nn.Module]] = {
    "mlp": _mlp,
    "transformer": _transformer,
    "unet1d": _unet1d,
}

# Denoisers that look at tokens of the observation instead of one vector.
WITH_TOKENS = ("transformer",)


def check(section: str, name: str, config: DenoiserConfig, horizon: int) -> None:
    """Raises InputError, naming keys of `section`, unless the values go together."""
    if name not in DENOISERS:
        raise InputError(f"{section}.denoiser must be one of {sorted(DENOISERS)}, got '{name}'")
    if config.embedding < 4 or config.embedding % 2:
        raise InputError(f"{section}.denoisers.embedding must be even and at least 4")
    widths, groups = config.unet_widths, config.unet_groups
    if name == "unet1d" and (not widths or any(w % groups for w in widths)):
        raise InputError(
            f"{section}.denoisers.unet_widths must be multiples of unet_groups ({groups}), "
            f"got {widths}"
        )
    if name == "unet1d":
        check_horizon(horizon, len(widths))
    if name == "transformer" and config.transformer_width % config.transformer_heads:
        raise InputError(
            f"{section}.denoisers.transformer_width must be a multiple of transformer_heads, "
            f"got {config.transformer_width} and {config.transformer_heads}"
        )


class DiffusionPolicy(nn.Module):
    """Encoder of observations, and a denoiser: apart, so that one encoding serves many draws.

    Attributes:
      network: resolved NetworkConfig of the encoder; its dtype is the denoiser's as well.
      kind: key of DENOISERS.
      sizes: see DenoiserConfig.
    """

    network: NetworkConfig
    kind: str = "unet1d"
    sizes: DenoiserConfig = dataclasses.field(default_factory=DenoiserConfig)

    def setup(self) -> None:
        """Makes the two networks."""
        encoder = ObservationTokens if self.kind in WITH_TOKENS else ObservationEncoder
        self.encoder = encoder(self.network)
        self.denoiser = DENOISERS[self.kind](self.sizes, jnp.dtype(self.network.dtype))

    def __call__(self, observation: Observation, noisy: jax.Array, time: jax.Array) -> jax.Array:
        """Both at once: observation window, [B, H, A] and [B] -> [B, H, A]."""
        return self.denoise(noisy, time, self.encode(observation))

    def encode(self, observation: Observation) -> jax.Array:
        """Observation window (see ObservationEncoder) -> features [B, C] or tokens [B, N, D]."""
        return jnp.asarray(self.encoder(observation))

    def denoise(self, noisy: jax.Array, time: jax.Array, condition: jax.Array) -> jax.Array:
        """Noisy chunk [B, H, A], time [B] and encoding -> [B, H, A] float32."""
        return self.denoiser(noisy, time, condition)

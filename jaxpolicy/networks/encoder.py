"""Observations to features, and the configuration of every network.

A backbone is a module (images [N, H, W, 3], condition [N, C] or None) -> map [N, h, w, F]
and a line in BACKBONES; a size of one is a line in SIZES. Pooling (POOLS) makes a vector of
a map. What it all amounts to is in docs/networks.md.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.core.registry import Registry
from jaxpolicy.core.schema import OPTIONAL, Settings
from jaxpolicy.core.specs import PREVIOUS_ACTION, InputError, is_camera, mask_key
from jaxpolicy.networks.attention import TransformerBlock, heads_of, layer_norm
from jaxpolicy.networks.mlp import ACTIVATIONS
from jaxpolicy.networks.norms import GroupNorm
from jaxpolicy.networks.pooling import POOLS
from jaxpolicy.networks.positions import grid_positions, line_positions
from jaxpolicy.networks.resnet import ResNet
from jaxpolicy.networks.vision import PatchCNN
from jaxpolicy.networks.vit import POSITIONS, ViT

__all__ = [
    "BACKBONES",
    "FUSIONS",
    "HISTORIES",
    "SIZES",
    "NetworkConfig",
    "ObservationEncoder",
    "ObservationTokens",
    "resolve",
]

# How images meet language and proprioception; how the O steps meet.
FUSIONS = ("concat", "cross_attention", "film")
HISTORIES = ("attention", "concat", "gru")

# Observations that are a vector per step.
_VECTORS = ("proprio", PREVIOUS_ACTION, "privileged")


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """What a policy network is made of.

    Attributes:
      backbone: key of BACKBONES.
      size: key of SIZES[backbone], which then sets what stands there (patch, widths, depths,
        hidden, ...); empty: all is taken from here.
      image_size: side in pixels to which images are resized inside jit; 0: native.
      patch: side of the stem's patches, in pixels; 0: 4 for "patch_cnn", 16 for a ViT.
      widths: channels of each stage of "patch_cnn"; one number, the width of "vit".
      depths: residual convolutions of each stage; one number, the blocks of "vit".
      group_norm: "patch_cnn" normalises before every convolution.
      heads: of a ViT's attention; 0: one per 64 features.
      positions: of a ViT's patches, "learned" or "sincos".
      remat: activations within a block are computed again in the backward pass instead of
        kept: less memory, about a third more work.
      pool: key of POOLS, from the backbone's map to a vector; empty: "mean" for a ViT,
        "spatial_softmax" for a CNN.
      share_cameras: one backbone for all cameras instead of one each.
      fusion: "concat": features of images, proprioception and language side by side.
        "film": language, else proprioception, also scales and shifts features inside the
        backbone. "cross_attention": instead of pooling, a learned query, proprioception and
        language look at the maps of all cameras and steps.
      history: "concat": features of the O steps side by side. "attention": a transformer
        over the steps, read out at the newest. "gru": a recurrent network over the steps,
        oldest first, which starts anew in every window.
      language_features: width to which the language embedding is projected.
      token_features: width of the tokens of ObservationTokens, and of the transformers of
        `fusion` and `history`.
      fusion_layers: their number of blocks.
      hidden: width of the hidden layers after the encoder.
      layers: how many of them.
      activation: of the hidden layers, key of mlp.ACTIVATIONS.
      dropout: share of hidden units dropped while training.
      dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
      settings: of a backbone that a plug-in brings, see docs/plugins.md.
    """

    backbone: str = "patch_cnn"
    size: str = ""
    image_size: int = 0
    patch: int = 0
    widths: tuple[int, ...] = (32,)
    depths: tuple[int, ...] = (2,)
    group_norm: bool = False
    heads: int = 0
    positions: str = "learned"
    remat: bool = False
    pool: str = ""
    share_cameras: bool = False
    fusion: str = "concat"
    history: str = "concat"
    language_features: int = 64
    token_features: int = 256
    fusion_layers: int = 2
    hidden: int = 256
    layers: int = 2
    activation: str = "relu"
    dropout: float = 0.0
    dtype: str = "float32"
    settings: Settings = dataclasses.field(default_factory=Settings, metadata=OPTIONAL)


def _patch_cnn(config: NetworkConfig) -> nn.Module:
    return PatchCNN(
        patch=config.patch or 4,
        widths=config.widths,
        depths=config.depths,
        group_norm=config.group_norm,
        remat=config.remat,
        dtype=jnp.dtype(config.dtype),
    )


def _resnet(layers: int, config: NetworkConfig) -> nn.Module:
    return ResNet(layers, remat=config.remat, dtype=jnp.dtype(config.dtype))


def _vit(config: NetworkConfig) -> nn.Module:
    return ViT(
        patch=config.patch or 16,
        width=config.widths[0],
        depth=config.depths[0],
        heads=config.heads,
        positions=config.positions,
        remat=config.remat,
        dtype=jnp.dtype(config.dtype),
    )


def _vit_of(width: int, depth: int, config: NetworkConfig) -> nn.Module:
    return _vit(dataclasses.replace(config, widths=(width,), depths=(depth,)))


# Widths and depths of vit_tiny and vit_small: Touvron et al. 2021, table 1
# (https://arxiv.org/abs/2012.12877); of vit_base and vit_large: Dosovitskiy et al. 2021.
_BACKBONES: dict[str, Callable[[NetworkConfig], nn.Module]] = {
    "patch_cnn": _patch_cnn,
    "resnet18": functools.partial(_resnet, 18),
    "resnet34": functools.partial(_resnet, 34),
    "resnet50": functools.partial(_resnet, 50),
    "vit": _vit,
    "vit_base": functools.partial(_vit_of, 768, 12),
    "vit_large": functools.partial(_vit_of, 1024, 24),
    "vit_small": functools.partial(_vit_of, 384, 12),
    "vit_tiny": functools.partial(_vit_of, 192, 12),
}
BACKBONES: Registry[Callable[[NetworkConfig], nn.Module]] = Registry(
    "backbone", _BACKBONES, Callable
)
_VITS = frozenset(("vit", "vit_base", "vit_large", "vit_small", "vit_tiny"))

# Backbone -> size -> keys of NetworkConfig. Parameters of a one-camera policy: tiny 0.1M
# (seconds on a CPU), small 2M, medium 50M, large 500M.
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "patch_cnn": {
        "tiny": {"patch": 4, "widths": (32,), "depths": (2,), "hidden": 256, "layers": 2},
        "small": {
            "patch": 4,
            "widths": (64, 128, 256),
            "depths": (2, 2, 2),
            "hidden": 384,
            "layers": 2,
        },
        "medium": {
            "patch": 4,
            "widths": (96, 192, 384, 768),
            "depths": (2, 3, 10, 6),
            "group_norm": True,
            "hidden": 512,
            "layers": 2,
        },
        "large": {
            "patch": 4,
            "widths": (256, 512, 1024, 2048),
            "depths": (2, 4, 18, 8),
            "group_norm": True,
            "hidden": 512,
            "layers": 2,
        },
    },
    "vit": {
        "small": {"patch": 16, "widths": (192,), "depths": (4,), "hidden": 256, "layers": 2},
        "medium": {"patch": 16, "widths": (512,), "depths": (16,), "hidden": 512, "layers": 2},
        "large": {"patch": 16, "widths": (1280,), "depths": (25,), "hidden": 512, "layers": 2},
    },
}


def resolve(config: NetworkConfig) -> NetworkConfig:
    """Applies the size preset and checks the values.

    Raises:
      InputError: names the key that is wrong.
    """
    if config.backbone not in BACKBONES:
        known = sorted(BACKBONES)
        raise InputError(f"network.backbone must be one of {known}, got '{config.backbone}'")
    if config.settings and config.backbone in BACKBONES.own:
        raise InputError(
            f"network.settings are for backbones of plug-ins; those of '{config.backbone}' are "
            "keys of network"
        )
    if config.size:
        config = dataclasses.replace(config, **_preset(config))
    choices: dict[str, tuple[str, ...]] = {
        "activation": tuple(ACTIVATIONS),
        "dtype": ("float32", "bfloat16"),
        "fusion": FUSIONS,
        "history": HISTORIES,
        "pool": ("", *POOLS),
        "positions": POSITIONS,
    }
    for key, values in choices.items():
        if getattr(config, key) not in values:
            got = getattr(config, key)
            raise InputError(f"network.{key} must be one of {list(values)}, got '{got}'")
    lowest = {"patch": 0, "heads": 0, "token_features": 2, "fusion_layers": 1}
    for key, low in lowest.items():
        if getattr(config, key) < low:
            raise InputError(f"network.{key} must be at least {low}, got {getattr(config, key)}")
    if not 0.0 <= config.dropout < 1.0:
        raise InputError(f"network.dropout must lie in [0, 1), got {config.dropout}")
    if config.fusion == "cross_attention" and config.history != "concat":
        raise InputError(
            "network.fusion=cross_attention looks at all steps already; set network.history=concat"
        )
    _check_widths(config)
    return config


def _preset(config: NetworkConfig) -> dict[str, Any]:
    if config.backbone not in SIZES:
        raise InputError(
            f"network.size is for {sorted(SIZES)}; network.backbone={config.backbone} has one "
            "size, set network.size to ''"
        )
    sizes = SIZES[config.backbone]
    if config.size not in sizes:
        raise InputError(f"network.size must be one of {sorted(sizes)}, got '{config.size}'")
    return sizes[config.size]


def _check_widths(config: NetworkConfig) -> None:
    """Checks the keys that only make sense together."""
    widths, depths = config.widths, config.depths
    if not widths or len(widths) != len(depths):
        raise InputError(
            f"network.widths and network.depths must have one length of at least 1, "
            f"got {widths} and {depths}"
        )
    if config.backbone == "vit" and len(widths) > 1:
        raise InputError(f"network.widths of a vit must be one number, got {widths}")
    if config.group_norm and any(w % GroupNorm.groups for w in widths):
        raise InputError(f"network.widths must be multiples of 8 with group_norm: {widths}")
    if (
        config.backbone in _VITS
        and config.heads
        and BACKBONES[config.backbone](config).width % config.heads
    ):
        raise InputError(f"network.heads must divide the ViT's width, got {config.heads}")


class ObservationEncoder(nn.Module):
    """Joins cameras, proprioception and language into one feature vector.

    A camera that is missing (`mask/<camera>` False) contributes a learned "absent"
    embedding in place of its features, whatever its pixels hold.

    Attributes:
      config: resolved NetworkConfig.
    """

    config: NetworkConfig

    @nn.compact
    def __call__(self, observation: Mapping[str, Any]) -> jax.Array:
        """Encodes a window of O steps.

        Args:
          observation: images [B, O, H, W, 3] with values 0 to 255, their optional masks
            [B, O], `proprio` [B, O, P] and previous_action
            [B, O, A] normalised, optional `language` [B, O, L].

        Returns:
          [B, F] float32.

        Raises:
          InputError: the configuration asks for an input that is not there.
        """
        config = self.config
        language = _language(config, observation)
        steps: list[jax.Array] = []
        parts: list[jax.Array] = []
        if config.fusion == "cross_attention":
            parts.append(_CrossAttention(config, name="fusion")(observation))
        else:
            condition = _condition(config, observation, language)
            steps += _cameras(self, observation, condition, pooled=True).values()
        steps += [observation[key] for key in _VECTORS if key in observation]
        if config.history == "attention":
            parts.append(_History(config, name="history")(jnp.concatenate(steps, axis=-1)))
        elif config.history == "gru":
            parts.append(_Recurrent(config, name="history")(jnp.concatenate(steps, axis=-1)))
        else:
            parts += [_flatten(x) for x in steps]
        if language is not None:
            parts.append(language)
        return jnp.concatenate(parts, axis=-1)


class ObservationTokens(nn.Module):
    """The observation as tokens that know their camera, place and step.

    Tokens of a camera that is missing are those of a learned "absent" embedding.

    Attributes:
      config: resolved NetworkConfig; tokens have token_features features D.
    """

    config: NetworkConfig

    @nn.compact
    def split(self, observation: Mapping[str, Any]) -> tuple[list[jax.Array], list[jax.Array]]:
        """Tokens of images apart from the others.

        Args:
          observation: see ObservationEncoder.

        Returns:
          Of each camera, in order of name, [B, O h w, D]; of each vector [B, O, D] and of
          language [B, 1, D].

        Raises:
          InputError: the configuration asks for an input that is not there.
        """
        condition = None
        if self.config.fusion == "film":
            condition = _condition(self.config, observation, _language(self.config, observation))
        width = self.config.token_features
        images = []
        for camera, maps in _cameras(self, observation, condition, pooled=False).items():
            tokens = nn.Dense(width, name=f"token_{camera}")(maps)
            batch, steps, rows, columns, _ = tokens.shape
            times = line_positions(steps, width)[:, None, None]
            places = grid_positions(rows, columns, width)
            images.append((tokens + times + places).reshape(batch, -1, width))
        others = []
        for key in _VECTORS:
            if key in observation:
                tokens = nn.Dense(width, name=f"token_{key}")(observation[key])
                others.append(tokens + line_positions(tokens.shape[1], width))
        if "language" in observation:
            others.append(nn.Dense(width, name="token_language")(observation["language"][:, -1:]))
        return images, others

    def __call__(self, observation: Mapping[str, Any]) -> jax.Array:
        """All tokens of a window, those of images first; see `split`.

        Args:
          observation: see ObservationEncoder.

        Returns:
          [B, N, D] float32.
        """
        images, others = self.split(observation)
        return jnp.concatenate([*images, *others], axis=1)


class _Camera(nn.Module):
    """Backbone of a camera; images [N, H, W, 3] in 0..255 -> [N, F], or [N, h, w, F]."""

    config: NetworkConfig
    pooled: bool

    @nn.compact
    def __call__(self, images: jax.Array, condition: jax.Array | None) -> jax.Array:
        config = self.config
        centred = images.astype(jnp.float32) / 255.0 - 0.5
        backbone = BACKBONES[config.backbone](config).copy(name="backbone")
        features = backbone(centred, condition).astype(jnp.float32)
        default = "mean" if config.backbone in _VITS else "spatial_softmax"
        return POOLS[config.pool or default](features) if self.pooled else features


def _cameras(
    parent: nn.Module, observation: Mapping[str, Any], condition: jax.Array | None, pooled: bool
) -> dict[str, jax.Array]:
    """Features [B, O, ...] of every camera, in order of name; modules are of `parent`."""
    config = parent.config
    shared = _Camera(config, pooled, name="vision") if config.share_cameras else None
    result = {}
    for key in sorted(k for k in observation if is_camera(k)):
        camera = key.removeprefix("image/")
        encode = shared or _Camera(config, pooled, name=f"vision_{camera}")
        images = observation[key]
        flat = condition if condition is None else _merge(condition)
        features = encode(_merge(images), flat)
        features = features.reshape(*images.shape[:2], *features.shape[1:])
        if mask_key(key) in observation:
            width = (features.shape[-1],)
            absent = parent.param(f"absent_{camera}", nn.initializers.zeros, width)
            present = observation[mask_key(key)].astype(features.dtype)
            present = present.reshape(*images.shape[:2], *(1,) * (features.ndim - 2))
            features = features * present + absent * (1.0 - present)
        result[camera] = features
    return result


def _language(config: NetworkConfig, observation: Mapping[str, Any]) -> jax.Array | None:
    """Projected instruction [B, F], if there is one; it does not change within a window."""
    if "language" not in observation:
        return None
    project = nn.Dense(config.language_features, name="language")
    return nn.relu(project(observation["language"][:, -1]))


def _condition(
    config: NetworkConfig, observation: Mapping[str, Any], language: jax.Array | None
) -> jax.Array | None:
    """What modulates the backbones, [B, O, C]; None: nothing does."""
    if config.fusion != "film":
        return None
    if language is not None:
        steps = observation["language"].shape[1]
        return jnp.broadcast_to(language[:, None], (language.shape[0], steps, language.shape[1]))
    if "proprio" not in observation:
        raise InputError("network.fusion=film needs language or 'proprio' as an input")
    return observation["proprio"]


class _CrossAttention(nn.Module):
    """A learned query and the other tokens look at the images; [B, D] is what it has seen."""

    config: NetworkConfig

    @nn.compact
    def __call__(self, observation: Mapping[str, Any]) -> jax.Array:
        images, others = ObservationTokens(self.config, name="tokens").split(observation)
        if not images:
            raise InputError("network.fusion=cross_attention needs a camera as an input")
        memory = layer_norm(jnp.dtype(self.config.dtype), "norm_images")(
            jnp.concatenate(images, axis=1)
        )
        width = self.config.token_features
        query = self.param("query", nn.initializers.normal(0.02), (1, 1, width))
        query = jnp.broadcast_to(query, (memory.shape[0], 1, width))
        return _transformer(self.config, jnp.concatenate([query, *others], axis=1), memory)[:, 0]


class _History(nn.Module):
    """Features of the steps [B, O, F] -> of the newest, which has seen the others, [B, D]."""

    config: NetworkConfig

    @nn.compact
    def __call__(self, steps: jax.Array) -> jax.Array:
        tokens = nn.Dense(self.config.token_features, name="token")(steps)
        tokens = tokens + line_positions(*tokens.shape[1:])
        return _transformer(self.config, tokens, None)[:, -1]


class _Recurrent(nn.Module):
    """Features of the steps [B, O, F] -> state of a GRU after the newest, [B, D]."""

    config: NetworkConfig

    @nn.compact
    def __call__(self, steps: jax.Array) -> jax.Array:
        width = self.config.token_features
        cell = nn.GRUCell(width, name="cell")
        state = jnp.zeros((steps.shape[0], width))
        # Windows are short, and a loop in Python leaves none in an exported graph.
        for t in range(steps.shape[1]):
            state, _ = cell(state, steps[:, t])
        return state


def _transformer(config: NetworkConfig, tokens: jax.Array, memory: jax.Array | None) -> jax.Array:
    """Blocks and layer norm of the module that calls this; [B, T, D] -> float32 [B, T, D]."""
    heads, dtype = heads_of(config.token_features), jnp.dtype(config.dtype)
    for index in range(config.fusion_layers):
        tokens = TransformerBlock(heads, dtype=dtype, name=f"block{index}")(tokens, False, memory)
    return layer_norm(jnp.float32, "norm")(tokens)


def _merge(x: jax.Array) -> jax.Array:
    """[B, O, ...] -> [B O, ...]; the O steps share the backbone."""
    return x.reshape(-1, *x.shape[2:])


def _flatten(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)

"""Observations to features, and the configuration of every network.

A backbone is a module [N, H, W, 3] -> [N, F] and a line in BACKBONES; a size is a line
in SIZES.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.networks import vision
from jaxpolicy.specs import PREVIOUS_ACTION, InputError, is_camera, mask_key

__all__ = ["BACKBONES", "SIZES", "NetworkConfig", "ObservationEncoder", "resolve"]


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """What a policy network is made of.

    Attributes:
      backbone: key of BACKBONES.
      size: key of SIZES, which then sets patch, widths, depths, hidden and layers;
        empty: they are taken from here.
      image_size: side in pixels to which images are resized inside jit; 0: native.
      patch: side of the stem's patches, in pixels.
      widths: channels of each stage of the backbone.
      depths: residual convolutions of each stage.
      group_norm: normalises before every convolution.
      share_cameras: one backbone for all cameras instead of one each.
      language_features: width to which the language embedding is projected.
      hidden: width of the hidden layers after the encoder.
      layers: how many of them.
      dropout: share of hidden units dropped while training.
      dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
    """

    backbone: str = "patch_cnn"
    size: str = ""
    image_size: int = 0
    patch: int = 4
    widths: tuple[int, ...] = (32,)
    depths: tuple[int, ...] = (2,)
    group_norm: bool = False
    share_cameras: bool = False
    language_features: int = 64
    hidden: int = 256
    layers: int = 2
    dropout: float = 0.0
    dtype: str = "float32"


def _patch_cnn(config: NetworkConfig) -> nn.Module:
    return vision.PatchCNN(
        patch=config.patch,
        widths=config.widths,
        depths=config.depths,
        group_norm=config.group_norm,
        dtype=jnp.dtype(config.dtype),
    )


BACKBONES: dict[str, Callable[[NetworkConfig], nn.Module]] = {
    "patch_cnn": _patch_cnn,
}

# Parameters of a one-camera policy: tiny 0.1M (seconds on a CPU), small 2M.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"patch": 4, "widths": (32,), "depths": (2,), "hidden": 256, "layers": 2},
    "small": {
        "patch": 4,
        "widths": (64, 128, 256),
        "depths": (2, 2, 2),
        "hidden": 384,
        "layers": 2,
    },
}


def resolve(config: NetworkConfig) -> NetworkConfig:
    """Applies the size preset and checks the values.

    Raises:
      InputError: names the key that is wrong.
    """
    if config.size:
        if config.size not in SIZES:
            raise InputError(f"network.size must be one of {sorted(SIZES)}, got '{config.size}'")
        config = dataclasses.replace(config, **SIZES[config.size])
    if config.backbone not in BACKBONES:
        known = sorted(BACKBONES)
        raise InputError(f"network.backbone must be one of {known}, got '{config.backbone}'")
    if not config.widths or len(config.widths) != len(config.depths):
        raise InputError(
            f"network.widths and network.depths must have one length of at least 1, "
            f"got {config.widths} and {config.depths}"
        )
    if config.group_norm and any(w % vision.GroupNorm.groups for w in config.widths):
        raise InputError(f"network.widths must be multiples of 8 with group_norm: {config.widths}")
    if config.dtype not in ("float32", "bfloat16"):
        raise InputError(f"network.dtype must be float32 or bfloat16, got '{config.dtype}'")
    if not 0.0 <= config.dropout < 1.0:
        raise InputError(f"network.dropout must lie in [0, 1), got {config.dropout}")
    return config


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
        """
        parts = self._cameras(observation)
        for key in ("proprio", PREVIOUS_ACTION):
            if key in observation:
                parts.append(_flatten(observation[key]))
        if "language" in observation:
            # An instruction does not change within a window.
            newest = observation["language"][:, -1]
            width = self.config.language_features
            parts.append(nn.relu(nn.Dense(width, name="language")(newest)))
        return jnp.concatenate(parts, axis=-1)

    def _cameras(self, observation: Mapping[str, Any]) -> list[jax.Array]:
        """Features [B, O F] of every camera, in order of name."""
        keys = sorted(k for k in observation if is_camera(k))
        create = BACKBONES[self.config.backbone]
        shared = create(self.config).copy(name="vision") if self.config.share_cameras else None
        parts = []
        for key in keys:
            camera = key.removeprefix("image/")
            backbone = shared or create(self.config).copy(name=f"vision_{camera}")
            features = _encode(backbone, observation[key])
            if mask_key(key) in observation:
                absent = self.param(
                    f"absent_{camera}", nn.initializers.zeros, (features.shape[-1],)
                )
                present = observation[mask_key(key)].astype(features.dtype)[..., None]
                features = features * present + absent * (1.0 - present)
            parts.append(_flatten(features))
        return parts


def _encode(backbone: nn.Module, images: jax.Array) -> jax.Array:
    """[B, O, H, W, 3] in 0..255 -> [B, O, F]; the O steps share the backbone."""
    batch, steps = images.shape[:2]
    flat = images.reshape(batch * steps, *images.shape[2:])
    centred = flat.astype(jnp.float32) / 255.0 - 0.5
    return backbone(centred).reshape(batch, steps, -1)


def _flatten(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)

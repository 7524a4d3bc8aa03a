"""Networks: convolutions, vision backbones, the observation encoder and policies."""

from jaxpolicy.networks.encoder import (
    BACKBONES,
    SIZES,
    NetworkConfig,
    ObservationEncoder,
    ObservationTokens,
)
from jaxpolicy.networks.heads import HEADS, HeadConfig
from jaxpolicy.networks.mlp import MLP
from jaxpolicy.networks.policy import ChunkPolicy
from jaxpolicy.networks.resnet import ResNet
from jaxpolicy.networks.vision import PatchCNN
from jaxpolicy.networks.vit import ViT

__all__ = [
    "BACKBONES",
    "HEADS",
    "MLP",
    "SIZES",
    "ChunkPolicy",
    "HeadConfig",
    "NetworkConfig",
    "ObservationEncoder",
    "ObservationTokens",
    "PatchCNN",
    "ResNet",
    "ViT",
]

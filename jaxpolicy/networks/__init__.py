"""Networks: convolutions, vision backbones, the observation encoder and policies."""

from jaxpolicy.networks.encoder import BACKBONES, SIZES, NetworkConfig, ObservationEncoder
from jaxpolicy.networks.heads import HEADS, HeadConfig
from jaxpolicy.networks.mlp import MLP
from jaxpolicy.networks.policy import ChunkPolicy
from jaxpolicy.networks.vision import PatchCNN

__all__ = [
    "BACKBONES",
    "HEADS",
    "MLP",
    "SIZES",
    "ChunkPolicy",
    "HeadConfig",
    "NetworkConfig",
    "ObservationEncoder",
    "PatchCNN",
]

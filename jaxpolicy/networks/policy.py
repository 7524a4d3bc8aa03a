"""Networks that map observations to action chunks."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.core.types import Observation
from jaxpolicy.networks.encoder import NetworkConfig, ObservationEncoder
from jaxpolicy.networks.mlp import MLP

__all__ = ["ChunkPolicy", "ValueNetwork"]


class ChunkPolicy(nn.Module):
    """Encoder, hidden layers and a linear layer: outputs for a chunk of actions.

    Attributes:
      config: resolved NetworkConfig.
      horizon: H.
      output_size: S, numbers per action: A, or what a head of `heads.HEADS` needs.
    """

    config: NetworkConfig
    horizon: int
    output_size: int

    @nn.compact
    def __call__(self, observation: Observation, train: bool = False) -> jax.Array:
        """Observation window (see ObservationEncoder) -> [B, H, S] in network units."""
        config = self.config
        x = ObservationEncoder(config, name="encoder")(observation)
        widths = (config.hidden,) * config.layers
        dtype = jnp.dtype(config.dtype)
        x = MLP(widths, config.dropout, dtype, config.activation, name="mlp")(x, train)
        # Starts near zero, the middle of the action range: early errors stay small.
        start = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        head = nn.Dense(self.horizon * self.output_size, kernel_init=start, name="head")
        y = head(x.astype(jnp.float32))
        return y.reshape(-1, self.horizon, self.output_size)


class ValueNetwork(nn.Module):
    """Encoder, hidden layers and a linear layer: the value of what is observed.

    Attributes:
      config: resolved NetworkConfig.
    """

    config: NetworkConfig

    @nn.compact
    def __call__(self, observation: Observation) -> jax.Array:
        """Observation window (see ObservationEncoder) -> [B] float32."""
        config = self.config
        x = ObservationEncoder(config, name="encoder")(observation)
        widths = (config.hidden,) * config.layers
        x = MLP(widths, dtype=jnp.dtype(config.dtype), activation=config.activation, name="mlp")(x)
        return nn.Dense(1, name="head")(x.astype(jnp.float32))[:, 0]

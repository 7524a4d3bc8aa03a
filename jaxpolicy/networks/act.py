"""ACT: a transformer from observation tokens and a latent style to a chunk of actions.

Zhao et al. 2023, https://arxiv.org/abs/2304.13705, figure 4 and appendix C, with the
pre-norm blocks of `attention`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.core.specs import PREVIOUS_ACTION
from jaxpolicy.core.types import Observation
from jaxpolicy.networks.attention import TransformerBlock, heads_of, layer_norm
from jaxpolicy.networks.encoder import NetworkConfig, ObservationTokens
from jaxpolicy.networks.positions import line_positions
from jaxpolicy.networks.unet1d import near_zero

__all__ = ["ACTPolicy", "StyleEncoder"]


class _Transformer(nn.Module):
    """Blocks and a last norm; tokens [B, T, F] -> [B, T, F].

    Attributes:
      layers: how many blocks.
      dropout: share of each branch's output dropped while training.
      dtype: of the computation; parameters are float32.
    """

    layers: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool,
        memory: jax.Array | None = None,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Tokens look at each other where `mask` [B, 1, T] is True, and at `memory`."""
        x, heads = x.astype(self.dtype), heads_of(x.shape[-1])
        for i in range(self.layers):
            block = TransformerBlock(heads, dropout=self.dropout, dtype=self.dtype, name=f"{i}")
            x = block(x, train, memory=memory, mask=mask)
        return layer_norm(self.dtype, "norm")(x)


class StyleEncoder(nn.Module):
    """How a demonstrated chunk was done: the approximate posterior of the latent z.

    A transformer over a learned token, proprioception and the actions; not over images, which
    would only make it slower (appendix C). Used in training alone.

    Attributes:
      latent: Z.
      width: F, of the tokens.
      layers: how many blocks.
      dropout: as of NetworkConfig.
      dtype: of the computation; parameters are float32.
    """

    latent: int
    width: int
    layers: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(
        self, observation: Observation, action: jax.Array, mask: jax.Array, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and logarithm of the variance of z.

        Args:
          observation: see ObservationTokens; only proprioception and the previous action are
            looked at.
          action: [B, H, A] in network units.
          mask: bool [B, H], False where an action does not exist.
          train: applies dropout.

        Returns:
          Each [B, Z] float32.
        """
        batch = action.shape[0]
        first = self.param("first", nn.initializers.normal(0.02), (1, 1, self.width))
        tokens = [jnp.broadcast_to(first, (batch, 1, self.width))]
        for key in ("proprio", PREVIOUS_ACTION):
            if key in observation:
                tokens.append(nn.Dense(self.width, name=key)(observation[key]))
        tokens.append(nn.Dense(self.width, name="action")(action))
        x = jnp.concatenate(tokens, axis=1)
        there = jnp.ones((batch, x.shape[1] - mask.shape[1]), bool)
        seen = jnp.concatenate([there, jnp.asarray(mask, bool)], axis=1)[:, None]
        transformer = _Transformer(self.layers, self.dropout, self.dtype, name="transformer")
        x = transformer(x + line_positions(x.shape[1], self.width), train, mask=seen)
        # Starts as the prior: at the paper's weight a divergence would drown all else.
        posterior = nn.Dense(2 * self.latent, kernel_init=near_zero, name="posterior")
        y = posterior(x[:, 0].astype(jnp.float32))
        mean, log_variance = jnp.split(y, 2, axis=-1)
        return mean, log_variance


class ACTPolicy(nn.Module):
    """Observation tokens and z -> transformer encoder; H learned queries -> decoder -> actions.

    Tokens are network.token_features wide, in all transformers.

    Attributes:
      network: resolved NetworkConfig of the tokens; its dropout and dtype hold everywhere.
      horizon: H.
      action_size: A.
      latent: Z.
      encoder_layers: blocks of the style encoder, and of the encoder.
      decoder_layers: blocks of the decoder.
    """

    network: NetworkConfig
    horizon: int
    action_size: int
    latent: int
    encoder_layers: int
    decoder_layers: int

    def setup(self) -> None:
        """Makes the parts."""
        network, width = self.network, self.network.token_features
        rest = (network.dropout, jnp.dtype(network.dtype))
        self.style = StyleEncoder(self.latent, width, self.encoder_layers, *rest)
        self.tokens = ObservationTokens(network)
        self.style_token = nn.Dense(width)
        self.encoder = _Transformer(self.encoder_layers, *rest)
        self.decoder = _Transformer(self.decoder_layers, *rest)
        shape = (1, self.horizon, width)
        self.queries = self.param("queries", nn.initializers.normal(0.02), shape)
        self.head = nn.Dense(self.action_size, kernel_init=near_zero)

    def __call__(self, observation: Observation, action: jax.Array, mask: jax.Array) -> jax.Array:
        """The chunk [B, H, A] for the mean style of another; makes all parameters."""
        return self.predict(observation, self.infer(observation, action, mask)[0])

    def infer(
        self, observation: Observation, action: jax.Array, mask: jax.Array, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance [B, Z] of the posterior; see StyleEncoder."""
        return self.style(observation, action, mask, train)

    def predict(self, observation: Observation, z: jax.Array, train: bool = False) -> jax.Array:
        """Observation window (see ObservationTokens) and z [B, Z] -> [B, H, A] float32."""
        tokens = [self.style_token(z)[:, None], self.tokens(observation)]
        memory = self.encoder(jnp.concatenate(tokens, axis=1), train)
        queries = jnp.broadcast_to(self.queries, (z.shape[0], *self.queries.shape[1:]))
        x = self.decoder(queries, train, memory=memory)
        return self.head(x.astype(jnp.float32))

"""Attention over tokens [B, T, F], and the pre-norm transformer block."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxpolicy.networks.film import FiLM

__all__ = ["Attention", "TransformerBlock", "attend", "causal_mask", "heads_of", "layer_norm"]

# Features of a head in all models of Dosovitskiy et al. 2021 up to "large".
_HEAD_FEATURES = 64

# A weight of exp(-1e9) is 0; rows in which nothing is allowed get equal weights, not NaN.
_FORBIDDEN = -1e9


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Scaled dot-product attention, softmax(q k^T / sqrt(D)) v, softmax in float32.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, eq. 1. The division by the
    softmax's sum comes after the product with v, so T D numbers per head are divided and
    not T S.

    Args:
      query: [B, T, heads, D].
      key, value: [B, S, heads, D].
      mask: bool, broadcastable to [B, T, S]; True where the query may look. None: anywhere.

    Returns:
      [B, T, heads, D], dtype of the value.
    """
    query = query * query.shape[-1] ** -0.5
    scores = jnp.einsum("bthd,bshd->bhts", query, key, preferred_element_type=jnp.float32)
    if mask is not None:
        scores = jnp.where(jnp.expand_dims(mask, -3), scores, _FORBIDDEN)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    total = weights.sum(-1).swapaxes(1, 2)[..., None]
    sums = jnp.einsum("bhts,bshd->bthd", weights.astype(value.dtype), value)
    return (sums / total).astype(value.dtype)


def causal_mask(length: int) -> jax.Array:
    """Bool [1, T, T]: a token sees itself and the earlier ones."""
    return jnp.tril(jnp.ones((1, length, length), bool))


def heads_of(width: int) -> int:
    """Heads of 64 features each; one head where 64 does not divide the width."""
    return width // _HEAD_FEATURES if width % _HEAD_FEATURES == 0 else 1


def layer_norm(dtype: Any, name: str | None = None) -> nn.LayerNorm:
    """Layer norm over the last axis, statistics in float32, result in `dtype`."""
    return nn.LayerNorm(epsilon=1e-6, dtype=dtype, name=name)


class Attention(nn.Module):
    """Multi-head attention with its four projections.

    Attributes:
      heads: must divide the width F.
      dtype: of the computation; parameters are float32.
    """

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, memory: jax.Array | None = None, mask: jax.Array | None = None
    ) -> jax.Array:
        """Tokens look at `memory`, or at each other where it is None.

        Args:
          x: [B, T, F].
          memory: [B, S, any].
          mask: bool, broadcastable to [B, T, S]; True where a token may look.

        Returns:
          [B, T, F].
        """
        width = x.shape[-1]
        if memory is None:
            parts = jnp.split(_dense(3 * width, self.dtype, "qkv")(x), 3, axis=-1)
        else:
            both = _dense(2 * width, self.dtype, "kv")(memory)
            parts = [_dense(width, self.dtype, "q")(x), *jnp.split(both, 2, axis=-1)]
        split = (self.heads, width // self.heads)
        query, key, value = (p.reshape(*p.shape[:-1], *split) for p in parts)
        joined = attend(query, key, value, mask).reshape(x.shape)
        return _dense(width, self.dtype, "out")(joined)


def _dense(width: int, dtype: Any, name: str) -> nn.Dense:
    return nn.Dense(width, dtype=dtype, kernel_init=nn.initializers.xavier_uniform(), name=name)


class TransformerBlock(nn.Module):
    """Pre-norm block: self-attention, cross-attention where there is a memory, then an MLP.

    Each branch is added to the tokens. Xiong et al. 2020, https://arxiv.org/abs/2002.04745.

    Attributes:
      heads: must divide the width F.
      mlp_ratio: hidden width of the MLP over F.
      causal: a token sees itself and the earlier ones only.
      dropout: share of each branch's output dropped while training.
      dtype: of the computation; parameters are float32, and so are softmax and layer norms.
    """

    heads: int
    mlp_ratio: int = 4
    causal: bool = False
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        memory: jax.Array | None = None,
        mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        condition: jax.Array | None = None,
    ) -> jax.Array:
        """One block. Dropout needs the "dropout" PRNG when `train`.

        Args:
          x: tokens [B, T, F].
          train: applies dropout.
          memory: [B, S, any], what cross-attention looks at; None: there is none.
          mask: bool, broadcastable to [B, T, T], of self-attention.
          memory_mask: bool, broadcastable to [B, T, S], of cross-attention.
          condition: [B, C], modulates the normalised tokens (see FiLM); None: it does not.

        Returns:
          [B, T, F].
        """
        if self.causal:
            past = causal_mask(x.shape[1])
            mask = past if mask is None else mask & past
        y = Attention(self.heads, self.dtype, name="self")(
            self._norm(x, condition, "self"), mask=mask
        )
        x = x + self._drop(y, train)
        if memory is not None:
            cross = Attention(self.heads, self.dtype, name="cross")
            y = cross(self._norm(x, condition, "cross"), memory, memory_mask)
            x = x + self._drop(y, train)
        y = self._norm(x, condition, "mlp")
        y = nn.gelu(_dense(self.mlp_ratio * x.shape[-1], self.dtype, "mlp_in")(y))
        return x + self._drop(_dense(x.shape[-1], self.dtype, "mlp_out")(y), train)

    def _norm(self, x: jax.Array, condition: jax.Array | None, branch: str) -> jax.Array:
        """What stands before a branch."""
        y = layer_norm(self.dtype, f"norm_{branch}")(x)
        return y if condition is None else FiLM(self.dtype, name=f"film_{branch}")(y, condition)

    def _drop(self, y: jax.Array, train: bool) -> jax.Array:
        """What stands after one."""
        return nn.Dropout(self.dropout, deterministic=not train)(y) if self.dropout else y

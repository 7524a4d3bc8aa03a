"""Heads of behavioural cloning: what a network's outputs say about the next actions.

A head is a row of pure functions in HEADS. The network gives S numbers per step, from
which the head makes a loss, the action to execute, a sample, and a confidence.

Axis letters: B batch, H horizon, A action, S outputs per step, K modes or bins. Actions are
in network units.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.registry import Registry
from jaxpolicy.core.specs import InputError

__all__ = ["HEADS", "Head", "HeadConfig", "check"]

_LOG_2PI = float(np.log(2.0 * np.pi))


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """Hyperparameters of the heads that have any.

    Attributes:
      modes: components of the mixture of "gmm" (5 as robomimic, Mandlekar et al. 2021,
        https://arxiv.org/abs/2108.03298).
      min_std: smallest standard deviation of "gaussian" and "gmm", in network units. It
        bounds the gradients where demonstrations are deterministic: robomimic's 1e-4 needs a
        lower learning rate.
      bins: bins of "discrete" per element of the action.
      bin_limit: they cover [-bin_limit, bin_limit], in network units, and targets beyond are
        clipped. 0: as far as targets reach, which is 1, or 2 where they are changes
        (bc.residual).
    """

    modes: int = 5
    min_std: float = 0.01
    bins: int = 64
    bin_limit: float = 0.0


class Head(NamedTuple):
    """Pure functions of the outputs [B, H, S].

    Attributes:
      size: (config, A) -> S.
      loss: (config, outputs, target [B, H, A]) -> per element [B, H, A] or per step [B, H].
      mode: (config, outputs) -> [B, H, A], the actions to execute.
      sample: (config, outputs, PRNG key) -> [B, H, A], actions drawn at random; of a head
        without randomness, the mode.
      confidence: (config, outputs, scale) -> [B] in [0, 1], of the first action, where
        `scale` is the standard deviation at which it has fallen to 1 / e; None where the
        outputs do not tell.
    """

    size: Callable[[HeadConfig, int], int]
    loss: Callable[[HeadConfig, jax.Array, jax.Array], jax.Array]
    mode: Callable[[HeadConfig, jax.Array], jax.Array]
    sample: Callable[[HeadConfig, jax.Array, jax.Array], jax.Array]
    confidence: Callable[[HeadConfig, jax.Array, float], jax.Array] | None = None


def check(config: HeadConfig) -> None:
    """Checks the values.

    Raises:
      InputError: names the key that is wrong.
    """
    for key, low in {"modes": 1, "bins": 2, "bin_limit": 0}.items():
        if getattr(config, key) < low:
            raise InputError(f"heads.{key} must be at least {low}, got {getattr(config, key)}")
    if config.min_std <= 0:
        raise InputError(f"heads.min_std must be above 0, got {config.min_std}")


# ------------------------------------------------------------------------ point estimates


def _point_size(config: HeadConfig, action_size: int) -> int:
    del config
    return action_size


def _point(config: HeadConfig, outputs: jax.Array, key: jax.Array | None = None) -> jax.Array:
    del config, key
    return outputs


def _mse(config: HeadConfig, outputs: jax.Array, target: jax.Array) -> jax.Array:
    del config
    return jnp.square(outputs - target)


def _l1(config: HeadConfig, outputs: jax.Array, target: jax.Array) -> jax.Array:
    del config
    return jnp.abs(outputs - target)


# ------------------------------------------------------------------------------- Gaussian


def _std(config: HeadConfig, raw: jax.Array) -> jax.Array:
    """min_std + softplus(raw): 0.7 at the start of training, never below min_std."""
    return config.min_std + jax.nn.softplus(raw)


def _negative_log_normal(x: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """((x - mean) / std)^2 / 2 + log std + log(2 pi) / 2, elementwise."""
    return 0.5 * jnp.square((x - mean) / std) + jnp.log(std) + 0.5 * _LOG_2PI


def _gaussian(config: HeadConfig, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation, each [B, H, A]."""
    mean, raw = jnp.split(outputs, 2, axis=-1)
    return mean, _std(config, raw)


def _gaussian_size(config: HeadConfig, action_size: int) -> int:
    del config
    return 2 * action_size


def _gaussian_loss(config: HeadConfig, outputs: jax.Array, target: jax.Array) -> jax.Array:
    return _negative_log_normal(target, *_gaussian(config, outputs))


def _gaussian_mode(config: HeadConfig, outputs: jax.Array) -> jax.Array:
    return _gaussian(config, outputs)[0]


def _gaussian_sample(config: HeadConfig, outputs: jax.Array, key: jax.Array) -> jax.Array:
    mean, std = _gaussian(config, outputs)
    return mean + std * jax.random.normal(key, mean.shape)


def _gaussian_confidence(config: HeadConfig, outputs: jax.Array, scale: float) -> jax.Array:
    """exp(-s / scale), s the predicted deviation of the first action, mean over elements."""
    return jnp.exp(-_gaussian(config, outputs)[1][:, 0].mean(-1) / scale)


# ------------------------------------------------------------------- mixture of Gaussians


class _Mixture(NamedTuple):
    logits: jax.Array  # [B, H, K]
    mean: jax.Array  # [B, H, K, A]
    std: jax.Array  # [B, H, K, A]


def _mixture(config: HeadConfig, outputs: jax.Array) -> _Mixture:
    k = config.modes
    mean, raw = jnp.split(outputs[..., k:], 2, axis=-1)
    shape = (*outputs.shape[:-1], k, mean.shape[-1] // k)
    return _Mixture(outputs[..., :k], mean.reshape(shape), _std(config, raw.reshape(shape)))


def _gmm_size(config: HeadConfig, action_size: int) -> int:
    return config.modes * (1 + 2 * action_size)


def _gmm_loss(config: HeadConfig, outputs: jax.Array, target: jax.Array) -> jax.Array:
    """-log sum_k w_k N(a; m_k, s_k) / A, in nats per element as "gaussian" is; [B, H]."""
    mixture = _mixture(config, outputs)
    each = _negative_log_normal(target[..., None, :], mixture.mean, mixture.std).sum(-1)
    joint = jax.nn.log_softmax(mixture.logits) - each
    return -jax.nn.logsumexp(joint, axis=-1) / target.shape[-1]


def _pick(values: jax.Array, index: jax.Array) -> jax.Array:
    """[B, H, K, A] at index [B, H] of K -> [B, H, A]; a product, which every exporter knows."""
    return (values * jax.nn.one_hot(index, values.shape[-2])[..., None]).sum(-2)


def _gmm_mode(config: HeadConfig, outputs: jax.Array) -> jax.Array:
    """Mean of the component of largest weight."""
    mixture = _mixture(config, outputs)
    return _pick(mixture.mean, mixture.logits.argmax(-1))


def _gmm_sample(config: HeadConfig, outputs: jax.Array, key: jax.Array) -> jax.Array:
    key_component, key_noise = jax.random.split(key)
    mixture = _mixture(config, outputs)
    index = jax.random.categorical(key_component, mixture.logits)
    mean, std = _pick(mixture.mean, index), _pick(mixture.std, index)
    return mean + std * jax.random.normal(key_noise, mean.shape)


def _gmm_confidence(config: HeadConfig, outputs: jax.Array, scale: float) -> jax.Array:
    """Weight * exp(-s / scale) of the component that acts, s its deviation, as "gaussian"."""
    mixture = _mixture(config, outputs[:, :1])
    std = _pick(mixture.std, mixture.logits.argmax(-1)).mean(-1)
    return (jax.nn.softmax(mixture.logits).max(-1) * jnp.exp(-std / scale))[:, 0]


# ------------------------------------------------------------------------------- discrete


def _logits(config: HeadConfig, outputs: jax.Array) -> jax.Array:
    """[B, H, A, K]."""
    return outputs.reshape(*outputs.shape[:-1], -1, config.bins)


def _centres(config: HeadConfig) -> jax.Array:
    """[K], the outermost ones on the limits."""
    return jnp.linspace(-config.bin_limit, config.bin_limit, config.bins)


def _discrete_size(config: HeadConfig, action_size: int) -> int:
    return config.bins * action_size


def _discrete_loss(config: HeadConfig, outputs: jax.Array, target: jax.Array) -> jax.Array:
    """Cross entropy with the target shared by the two nearest bins, as linear interpolation.

    Sharing keeps what rounding loses, so that few bins suffice (64 here; RT-1 rounds to 256,
    https://arxiv.org/abs/2212.06817). As the values of MuZero,
    https://arxiv.org/abs/1911.08265, appendix F.
    """
    limit, last = config.bin_limit, config.bins - 1
    place = (jnp.clip(target / limit, -1.0, 1.0) + 1.0) * 0.5 * last
    share = jnp.maximum(0.0, 1.0 - jnp.abs(place[..., None] - jnp.arange(config.bins)))
    return -(share * jax.nn.log_softmax(_logits(config, outputs))).sum(-1)


def _near(config: HeadConfig, outputs: jax.Array) -> jax.Array:
    """Probabilities [B, H, A, K], of the likeliest bin and its neighbours only."""
    logits = _logits(config, outputs)
    distance = jnp.abs(jnp.arange(config.bins) - logits.argmax(-1)[..., None])
    return jax.nn.softmax(logits) * (distance <= 1)


def _discrete_mode(config: HeadConfig, outputs: jax.Array) -> jax.Array:
    """Mean over the likeliest bin and its neighbours: fine, and never between two modes."""
    near = _near(config, outputs)
    return (near * _centres(config)).sum(-1) / near.sum(-1)


def _discrete_sample(config: HeadConfig, outputs: jax.Array, key: jax.Array) -> jax.Array:
    return _centres(config)[jax.random.categorical(key, _logits(config, outputs))]


def _discrete_confidence(config: HeadConfig, outputs: jax.Array, scale: float) -> jax.Array:
    """Probability of the likeliest bin and its neighbours, mean over elements; no scale."""
    del scale
    return _near(config, outputs[:, :1]).sum(-1).mean((-1, -2))


_HEADS: dict[str, Head] = {
    "mse": Head(_point_size, _mse, _point, _point),
    "l1": Head(_point_size, _l1, _point, _point),
    "gaussian": Head(
        _gaussian_size, _gaussian_loss, _gaussian_mode, _gaussian_sample, _gaussian_confidence
    ),
    "gmm": Head(_gmm_size, _gmm_loss, _gmm_mode, _gmm_sample, _gmm_confidence),
    "discrete": Head(
        _discrete_size, _discrete_loss, _discrete_mode, _discrete_sample, _discrete_confidence
    ),
}
HEADS: Registry[Head] = Registry("head", _HEADS, Head)

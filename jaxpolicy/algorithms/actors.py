"""How a policy that learns in worlds draws its actions, and how likely they were.

An actor turns a network into a distribution over action chunks that is made of K random
choices, each with a known log probability; `ppo` needs no more of it. The Gaussian actor
makes one choice. `dppo` has another.

Axis letters: B batch, H horizon, A action, K random choices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.types import Observation, Params

__all__ = ["GAUSSIAN", "Actor", "Draw", "gaussian_log_prob"]

_LOG_2PI = float(np.log(2.0 * np.pi))


class Draw(NamedTuple):
    """Actions drawn at random.

    Attributes:
      chunk: [B, H, A] in network units.
      trace: what `Actor.log_prob` needs, each [B, ...].
      log_prob: [B, K].
    """

    chunk: jax.Array
    trace: Any
    log_prob: jax.Array


class Actor(NamedTuple):
    """Pure functions of a ppo.Setup, the actor's parameters and its inputs [B, O, ...].

    Attributes:
      init: (setup, key, inputs) -> parameters.
      sample: (setup, parameters, inputs, key) -> Draw.
      log_prob: (setup, parameters, inputs, trace) -> [B, K].
      mode: (setup, parameters, inputs, key) -> [B, H, A], the actions without exploration;
        the key, which may be None, is for actors whose actions begin with noise.
      entropy: (setup, parameters) -> [], of one action; 0 where it is not known.
      drift: (setup, parameters, reference parameters, inputs, trace) -> [B], divergence
        from another policy of the same kind.
      weights: (setup,) -> [K], weights of the choices in the objective.
      std: (setup, parameters) -> [], mean standard deviation of exploration.
    """

    init: Callable[..., Params]
    sample: Callable[..., Draw]
    log_prob: Callable[..., jax.Array]
    mode: Callable[..., jax.Array]
    entropy: Callable[..., jax.Array]
    drift: Callable[..., jax.Array]
    weights: Callable[..., jax.Array]
    std: Callable[..., jax.Array]


def gaussian_log_prob(x: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Log density of independent normal variables, summed over all axes but the first, [B]."""
    terms = -0.5 * jnp.square((x - mean) / std) - jnp.log(std) - 0.5 * _LOG_2PI
    return jnp.broadcast_to(terms, x.shape).reshape(x.shape[0], -1).sum(-1)


def _init(setup: Any, key: jax.Array, inputs: Observation) -> Params:
    config, size = setup.config, setup.policy_spec.action.size
    # The inverse of softplus, so that exploration starts as configured.
    raw = np.log(np.expm1(config.initial_std - config.min_std))
    return {
        "policy": setup.network.init(key, inputs)["params"],
        "raw_std": jnp.full((size,), raw, jnp.float32),
    }


def _std(setup: Any, network: Params) -> jax.Array:
    """Standard deviations [A]: min_std + softplus(raw)."""
    return setup.config.min_std + jax.nn.softplus(network["raw_std"])


def _mean(setup: Any, network: Params, inputs: Observation) -> jax.Array:
    """Mean actions [B, H, A]."""
    with jax.named_scope("policy"):
        mean = jnp.asarray(setup.network.apply({"params": network["policy"]}, inputs))
    return jnp.tanh(mean) if setup.config.squash else mean


def _sample(setup: Any, network: Params, inputs: Observation, key: jax.Array) -> Draw:
    mean, std = _mean(setup, network, inputs), _std(setup, network)
    chunk = mean + std * jax.random.normal(key, mean.shape)
    n = setup.policy_spec.n_action_steps
    log_prob = gaussian_log_prob(chunk[:, :n], mean[:, :n], std)
    return Draw(chunk, chunk[:, :n], log_prob[:, None])


def _log_prob(setup: Any, network: Params, inputs: Observation, trace: jax.Array) -> jax.Array:
    """Only the executed actions count: the world knows of no others."""
    mean = _mean(setup, network, inputs)[:, : trace.shape[1]]
    return gaussian_log_prob(trace, mean, _std(setup, network))[:, None]


def _mode(setup: Any, network: Params, inputs: Observation, key: jax.Array | None) -> jax.Array:
    del key
    return _mean(setup, network, inputs)


def _entropy(setup: Any, network: Params) -> jax.Array:
    return jnp.sum(jnp.log(_std(setup, network)) + 0.5 * (_LOG_2PI + 1.0))


def _drift(
    setup: Any, network: Params, reference: Params, inputs: Observation, trace: jax.Array
) -> jax.Array:
    """KL divergence [B] of the policy from `reference`, per executed action."""
    n = trace.shape[1]
    new, old = (_mean(setup, p, inputs)[:, :n] for p in (network, reference))
    std, old_std = _std(setup, network), _std(setup, reference)
    terms = jnp.log(old_std / std) - 0.5
    terms = terms + (jnp.square(std) + jnp.square(new - old)) / (2.0 * jnp.square(old_std))
    return terms.sum(-1).mean(-1)


def _weights(setup: Any) -> jax.Array:
    del setup
    return jnp.ones((1,))


def _mean_std(setup: Any, network: Params) -> jax.Array:
    return _std(setup, network).mean()


GAUSSIAN = Actor(
    init=_init,
    sample=_sample,
    log_prob=_log_prob,
    mode=_mode,
    entropy=_entropy,
    drift=_drift,
    weights=_weights,
    std=_mean_std,
)

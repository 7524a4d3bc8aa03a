"""Returns and advantages of rollouts: pure functions of arrays [T, E].

Two ends of an episode differ. Where the world ends it (`terminated`) nothing follows, and
the value of what follows is 0. Where a time limit cuts it off, the world would have gone
on, and the value of the state that the episode had reached, not of the next episode's
first, stands for the rest (Pardo et al. 2018, https://arxiv.org/abs/1712.00378).

Axis letters: T steps, E worlds at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpolicy.core import normalization
from jaxpolicy.core.normalization import RunningStats

__all__ = [
    "RewardScale",
    "explained_variance",
    "gae",
    "init_reward_scale",
    "reward_std",
    "standardize",
    "update_reward_scale",
]

_TINY = 1e-8


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    ended: jax.Array,
    discount: float,
    trace_decay: float,
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantage estimation (Schulman et al. 2015, eq. 16; arXiv:1506.02438).

        d_t = r_t + discount (1 - terminated_t) V(s'_t) - V(s_t)
        A_t = d_t + discount trace_decay (1 - ended_t) A_{t+1}

    Args:
      reward: [T, E].
      value: V(s_t) [T, E].
      next_value: V(s'_t) [T, E], of the state that step t led to, before any reset.
      terminated: 1 where the world ended the episode in step t, [T, E].
      ended: 1 where it ended for whatever reason, a time limit included, [T, E].
      discount: gamma, in [0, 1].
      trace_decay: lambda, in [0, 1].

    Returns:
      Advantages A [T, E], and the targets A + V [T, E] of the value function.
    """
    delta = reward + discount * (1.0 - terminated) * next_value - value
    keep = discount * trace_decay * (1.0 - ended)
    zero = jnp.zeros_like(delta[0])
    _, advantage = jax.lax.scan(_accumulate, zero, (delta, keep), reverse=True)
    return advantage, advantage + value


def _accumulate(later: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    delta, keep = step
    now = delta + keep * later
    return now, now


def standardize(x: jax.Array) -> jax.Array:
    """Zero mean and unit (population) standard deviation over all elements."""
    return (x - x.mean()) / (x.std() + _TINY)


def explained_variance(predicted: jax.Array, target: jax.Array) -> jax.Array:
    """1 - var(target - predicted) / var(target), []: 1 is perfect, 0 no better than a constant."""
    return 1.0 - jnp.var(target - predicted) / (jnp.var(target) + _TINY)


class RewardScale(NamedTuple):
    """By how much rewards are divided: the spread of discounted sums of past rewards.

    Attributes:
      stats: of the sums, RunningStats [1].
      sums: of the episodes that run, [E].
    """

    stats: RunningStats
    sums: jax.Array


def init_reward_scale(n_worlds: int) -> RewardScale:
    """No rewards seen, in E worlds."""
    return RewardScale(normalization.init_running(1), jnp.zeros((n_worlds,), jnp.float32))


def update_reward_scale(
    scale: RewardScale, reward: jax.Array, ended: jax.Array, discount: float
) -> RewardScale:
    """Takes in a rollout's rewards [T, E]; sums start anew after `ended` [T, E]."""

    def step(sums: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        sums = discount * sums + now[0]
        return sums * (1.0 - now[1]), sums

    sums, seen = jax.lax.scan(step, scale.sums, (reward, ended))
    return RewardScale(normalization.update_running(scale.stats, seen.reshape(-1, 1)), sums)


def reward_std(scale: RewardScale) -> jax.Array:
    """What rewards are divided by, []; 1 before there was any spread."""
    stats = scale.stats
    std = jnp.sqrt(stats.m2[0] / jnp.maximum(stats.count, 1.0))
    return jnp.where(std > 1e-4, std, 1.0)

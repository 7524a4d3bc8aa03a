"""How much is randomised while a policy learns: one level in [0, 1] for all of it.

What a level does is in randomization.py and tasks/base.py; wrappers.Curriculum keeps one
for each world. Everything here is a pure function of arrays.

`adr` is automatic domain randomisation with one boundary for all quantities (OpenAI et al.
2019, Solving Rubik's Cube with a Robot Hand, section 5 and algorithm 1,
https://arxiv.org/abs/1910.07113, where each quantity has two of its own): some episodes are
exactly at the frontier, and how many of them succeed moves it.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpolicy.core.specs import InputError

__all__ = [
    "MODES",
    "AdrState",
    "CurriculumConfig",
    "adr_init",
    "adr_update",
    "at_frontier",
    "draw_level",
    "linear_level",
    "next_level",
]

MODES = ("off", "linear", "adr")


@dataclasses.dataclass(frozen=True)
class CurriculumConfig:
    """How the level of randomisation develops.

    Attributes:
      mode: "off" (level 1 from the start), "linear" (in the progress of training) or "adr"
        (by success).
      start: level at which training begins.
      until: linear: share of the training after which the level is 1.
      boundary: adr: probability that an episode is at the frontier; others are anywhere
        below it.
      step: adr: by how much the frontier moves.
      window: adr: fewest episodes at the frontier by which it is judged.
      widen_above: adr: success rate from which the frontier moves up.
      narrow_below: adr: success rate down from which it moves down.
    """

    mode: str = "off"
    start: float = 0.0
    until: float = 0.5
    boundary: float = 0.5
    step: float = 0.05
    window: int = 100
    widen_above: float = 0.8
    narrow_below: float = 0.5

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"curriculum.mode must be one of {MODES}, got '{self.mode}'")
        for name in ("start", "until", "boundary", "step", "widen_above", "narrow_below"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise InputError(f"curriculum.{name} must be in [0, 1], got {value}")
        if self.window < 1:
            raise InputError(f"curriculum.window must be at least 1, got {self.window}")
        if self.narrow_below >= self.widen_above:
            raise InputError(
                "curriculum.narrow_below must be below widen_above, got "
                f"{self.narrow_below} and {self.widen_above}"
            )


class AdrState(NamedTuple):
    """Where the frontier is and what is known of it; all float32 [].

    Attributes:
      level: the frontier.
      successes, episodes: counts at the frontier since it was judged last.
    """

    level: jax.Array
    successes: jax.Array
    episodes: jax.Array


def linear_level(config: CurriculumConfig, progress: float | jax.Array) -> jax.Array:
    """The level [] at a share `progress` [] of the training: from `start` to 1 at `until`."""
    share = jnp.asarray(progress, jnp.float32) / max(config.until, 1e-6)
    return config.start + (1.0 - config.start) * jnp.clip(share, 0.0, 1.0)


def adr_init(config: CurriculumConfig) -> AdrState:
    """The frontier at `config.start`, nothing known of it."""
    zero = jnp.zeros((), jnp.float32)
    return AdrState(jnp.asarray(config.start, jnp.float32), zero, zero)


def adr_update(
    config: CurriculumConfig,
    state: AdrState,
    n_success: jax.Array,
    n_episodes: jax.Array,
) -> AdrState:
    """Counts episodes at the frontier, and moves it once there are enough of them.

    Args:
      config: thresholds.
      state: before.
      n_success: how many more succeeded, [].
      n_episodes: of how many more that ended, [] (see `at_frontier`).

    Returns:
      The state after; with no count left where the frontier was judged, moved or not.
    """
    successes, episodes = state.successes + n_success, state.episodes + n_episodes
    judged = episodes >= config.window
    rate = successes / jnp.maximum(episodes, 1.0)
    direction = jnp.where(rate >= config.widen_above, 1.0, 0.0)
    direction = jnp.where(rate <= config.narrow_below, -1.0, direction)
    moved = jnp.clip(state.level + config.step * direction, 0.0, 1.0)
    return AdrState(
        level=jnp.where(judged, moved, state.level),
        successes=jnp.where(judged, 0.0, successes),
        episodes=jnp.where(judged, 0.0, episodes),
    )


def draw_level(config: CurriculumConfig, key: jax.Array, state: AdrState) -> jax.Array:
    """The level [] of one episode: the frontier, or anywhere in [0, frontier)."""
    key_boundary, key_level = jax.random.split(key)
    at_boundary = jax.random.uniform(key_boundary) < config.boundary
    return jnp.where(at_boundary, 1.0, jax.random.uniform(key_level)) * state.level


def at_frontier(state: AdrState, level: jax.Array) -> jax.Array:
    """Whether episodes that began at these levels count for the frontier, bool of any shape.

    Those that began before it moved do not.
    """
    return level == state.level


def next_level(
    config: CurriculumConfig, key: jax.Array, progress: float | jax.Array, state: AdrState
) -> jax.Array:
    """The level [] of a world's next episode, whatever the mode; `vmap` over keys for many."""
    if config.mode == "linear":
        return linear_level(config, progress)
    if config.mode == "adr":
        return draw_level(config, key, state)
    return jnp.ones((), jnp.float32)

"""Worlds that a policy learns in: E of them, driven for T decisions in one program.

    arena = rollouts.make_arena(env, policy_spec, n_worlds)
    worlds = rollouts.init(arena, key)
    worlds, rollout = rollouts.collect(arena, algorithm.explore, params, worlds, steps)

Everything is pure, so that a rollout and the update that follows it compile into one program:
`in_worlds` makes such an algorithm, whose state holds the worlds.

Pictures are drawn here and not by the environment, once per decision: neither states that
a reset replaces nor those within a chunk of actions are drawn.

Axis letters: E worlds, T decisions, O observation steps, A action.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax.envs.base import Env, State

from jaxpolicy.core import chunking
from jaxpolicy.core.specs import ArraySpec, InputError, is_camera
from jaxpolicy.core.types import (
    Algorithm,
    Metrics,
    OnlineState,
    Params,
    PolicySpec,
    Rollout,
    TrainState,
)
from jaxpolicy.sim import curriculum, starts, streams, wrappers
from jaxpolicy.sim.curriculum import AdrState, CurriculumConfig

__all__ = [
    "Arena",
    "ArenaConfig",
    "Plan",
    "Worlds",
    "collect",
    "critic_specs",
    "in_worlds",
    "init",
    "make_arena",
    "summarize",
]

_SUCCESS = "success"


@dataclasses.dataclass(frozen=True)
class ArenaConfig:
    """How episodes begin while a policy learns in worlds; evaluation knows nothing of it.

    Attributes:
      expert_starts: share of episodes that begin at a state which the scripted expert passed
        through, see sim/starts.py; 0: none.
      bank: number of such states.
      bank_noise: of the expert, see starts.record_bank.
      curriculum: how the level of randomisation develops.
    """

    expert_starts: float = 0.0
    bank: int = 2048
    bank_noise: float = 0.1
    curriculum: CurriculumConfig = dataclasses.field(default_factory=CurriculumConfig)

    def __post_init__(self) -> None:
        if not 0.0 <= self.expert_starts < 1.0:
            raise InputError(f"arena.expert_starts must be in [0, 1), got {self.expert_starts}")


@dataclasses.dataclass(frozen=True)
class Arena:
    """Everything but arrays that a rollout needs; hashable.

    Attributes:
      env: E worlds, which start anew by themselves, without pictures.
      pixels: draws their pictures; None where nobody looks.
      policy_spec: what policy and critic see.
      n_worlds: E.
      episode_length: control steps until the time limit.
      curriculum: see CurriculumConfig.
    """

    env: Env
    pixels: wrappers.Pixels | None
    policy_spec: PolicySpec
    n_worlds: int
    episode_length: int
    curriculum: CurriculumConfig = dataclasses.field(default_factory=CurriculumConfig)


class Worlds(NamedTuple):
    """The worlds between two rollouts; arrays only.

    Attributes:
      state: of the environment, each [E, ...].
      window: the last O observations of policy and critic, each [E, O, ...].
      tally: of the episodes that run, by name, each [E].
      frontier: of the curriculum.
      key: PRNG key of exploration.
    """

    state: State
    window: dict[str, jax.Array]
    tally: dict[str, jax.Array]
    frontier: AdrState
    key: jax.Array


def make_arena(
    env: Env,
    policy_spec: PolicySpec,
    n_worlds: int,
    config: ArenaConfig | None = None,
    seed: int = 0,
) -> Arena:
    """Worlds for a policy to learn in.

    Args:
      env: one functional world with a time limit, as `sim.make_world` makes it.
      policy_spec: what policy and critic see; critics see no pictures.
      n_worlds: E.
      config: how episodes begin; None: where the task begins.
      seed: of the states at which the expert's starts are.

    Raises:
      InputError: the world is not functional, has no time limit or lacks an observation.
    """
    if getattr(env, "open", None) is not None:
        raise InputError(
            f"'{env.task}' lives in other processes; reinforcement learning needs a world that "
            "JAX can step (a task of this library, brax:NAME or mjcf:PATH)"
        )
    length = wrappers.episode_length(env)
    plain, pixels = wrappers.without_pixels(env)
    _check_observations(env, policy_spec)
    if not any(is_camera(s.name) for s in policy_spec.observation):
        pixels = None
    config = config or ArenaConfig()
    if config.expert_starts:
        bank = starts.record_bank(plain, seed, config.bank, config.bank_noise, length)
        plain = starts.with_starts(plain, bank, config.expert_starts)
    if config.curriculum.mode != "off":
        plain = wrappers.Curriculum(plain)
    single = wrappers.ActionChunk(plain, policy_spec.n_action_steps)
    ready = wrappers.AutoReset(wrappers.Vmap(single), keep_final=True)
    return Arena(ready, pixels, policy_spec, n_worlds, length, config.curriculum)


def _check_observations(env: Env, policy_spec: PolicySpec) -> None:
    there = [s.name for s in env.observation_specs]
    for spec in (*policy_spec.observation, *policy_spec.critic):
        if spec.name not in there:
            raise InputError(f"the world '{env.task}' does not give '{spec.name}': {there}")
    if any(is_camera(s.name) for s in policy_spec.critic):
        raise InputError("critics see numbers only; leave images to the policy")


def init(arena: Arena, key: jax.Array) -> Worlds:
    """E episodes; their time limits are spread out, so that not all of them end at once."""
    key_reset, key_limit, key_explore = jax.random.split(key, 3)
    keys = jax.random.split(key_reset, arena.n_worlds)
    state = _first(arena, keys)
    steps = jax.random.randint(key_limit, (arena.n_worlds,), 0, arena.episode_length)
    state = state.replace(info={**state.info, "steps": steps.astype(jnp.float32)})
    n = arena.policy_spec.n_obs_steps
    window = {k: chunking.first_window(v, n) for k, v in _observe(arena, state).items()}
    zeros = jnp.zeros((arena.n_worlds,), jnp.float32)
    tally = {"return": zeros, "length": zeros}
    return Worlds(state, window, tally, curriculum.adr_init(arena.curriculum), key_explore)


def _first(arena: Arena, keys: jax.Array) -> State:
    """The first episodes, at the level where the curriculum begins."""
    config = arena.curriculum
    if config.mode == "off":
        return arena.env.reset(keys)
    return arena.env.reset_at(keys, jnp.full((arena.n_worlds,), config.start))


def collect(
    arena: Arena,
    explore: Callable[..., Any],
    params: Params,
    worlds: Worlds,
    steps: int,
) -> tuple[Worlds, Rollout, Metrics]:
    """T decisions in every world.

    Args:
      arena: see Arena.
      explore: Algorithm.explore.
      params: of the policy.
      worlds: where they stand.
      steps: T.

    Returns:
      The worlds afterwards, what happened, and `summarize` of the episodes that ended.
    """
    key, following = jax.random.split(worlds.key)
    step = functools.partial(_step, arena, explore, params)
    keys = jax.random.split(key, steps)
    worlds, (rollout, ends) = jax.lax.scan(step, worlds._replace(key=following), keys)
    return worlds, rollout, summarize(ends)


def _step(
    arena: Arena, explore: Callable[..., Any], params: Params, worlds: Worlds, key: jax.Array
) -> tuple[Worlds, tuple[Rollout, Metrics]]:
    names = [s.name for s in arena.policy_spec.observation]
    observation = {k: worlds.window[k] for k in names}
    action, trace, log_prob = explore(params, observation, key)
    state = arena.env.step(worlds.state, action)
    ended, truncated = state.done, state.info["truncation"]
    final = state.info["final_obs"]
    seen = [s.name for s in arena.policy_spec.critic]
    tally, ends = _count(worlds.tally, state, arena.policy_spec.n_action_steps)
    rollout = Rollout(
        observation=worlds.window,
        final={k: chunking.next_window(worlds.window[k], final[k]) for k in seen},
        trace=trace,
        log_prob=log_prob,
        reward=state.reward,
        terminated=ended * (1.0 - truncated),
        ended=ended,
        metrics=state.metrics,
    )
    window = _advanced(worlds.window, _observe(arena, state), ended)
    return worlds._replace(state=state, window=window, tally=tally), (rollout, ends)


def _observe(arena: Arena, state: State) -> dict[str, jax.Array]:
    """What policy and critic see of now, each [E, ...]."""
    spec = arena.policy_spec
    names = sorted({s.name for s in (*spec.observation, *spec.critic)})
    drawn = {}
    if arena.pixels is not None:
        drawn = jax.vmap(arena.pixels.images)(state.pipeline_state)
    return {k: (drawn if is_camera(k) else state.obs)[k] for k in names}


def _advanced(
    window: dict[str, jax.Array], newest: dict[str, jax.Array], ended: jax.Array
) -> dict[str, jax.Array]:
    """Windows of the next decision; in a new episode all O observations are its first."""
    result = {}
    for name, value in newest.items():
        old = window[name]
        start = ended.reshape(-1, *[1] * (old.ndim - 1)) > 0
        first = chunking.first_window(value, old.shape[1])
        result[name] = jnp.where(start, first, chunking.next_window(old, value))
    return result


def _count(
    tally: dict[str, jax.Array], state: State, n_action_steps: int
) -> tuple[dict[str, jax.Array], Metrics]:
    """Sums of the episodes that go on, and those of the ones that ended now, each [E].

    Episodes that began where the expert passed are not counted: they say little of how often
    the policy succeeds.
    """
    counts = state.done * (1.0 - state.metrics.get("from_bank", jnp.zeros(())))
    sums = {
        "return": tally["return"] + state.reward,
        "length": tally["length"] + n_action_steps,
    }
    ends = {k: v * counts for k, v in sums.items()} | {"episodes": counts}
    if _SUCCESS in state.metrics:
        ends[_SUCCESS] = state.metrics[_SUCCESS] * counts
    return {k: v * (1.0 - state.done) for k, v in sums.items()}, ends


def summarize(ends: Metrics) -> Metrics:
    """Means over the episodes that ended in a rollout, each [].

    Args:
      ends: [T, E] each, 0 where no episode ended: "episodes" is 1 where one did.

    Returns:
      "episodes", their number, and the others' means; 0 where none ended.
    """
    n = ends["episodes"].sum()
    return {k: n if k == "episodes" else v.sum() / jnp.maximum(n, 1.0) for k, v in ends.items()}


# ------------------------------------------------------------------ as one algorithm


class Plan(NamedTuple):
    """How long a run is, and where its worlds start.

    Attributes:
      steps: T, decisions per update.
      updates: of the whole run.
      seed: of the worlds' starts, in the TRAINING stream.
    """

    steps: int
    updates: int
    seed: int


def in_worlds(algorithm: Algorithm, arena: Arena, plan: Plan) -> Algorithm:
    """An algorithm whose every step is a rollout and the update from it; batches are ignored.

    Args:
      algorithm: one that learns in worlds (`explore`).
      arena: its worlds.
      plan: see Plan.

    Raises:
      InputError: the algorithm does not explore.
    """
    if algorithm.explore is None:
        raise InputError("this algorithm learns from a dataset, not in worlds: it cannot explore")
    return algorithm._replace(
        init=functools.partial(_init_all, algorithm, arena, plan),
        train_step=functools.partial(_train_step, algorithm, arena, plan),
    )


def _init_all(
    algorithm: Algorithm, arena: Arena, plan: Plan, key: jax.Array, batch: Any
) -> OnlineState:
    state = algorithm.init(key, batch)
    worlds = init(arena, streams.episode_key(streams.TRAINING, plan.seed))
    return OnlineState(state.step, state.params, state.opt_state, state.key, worlds)


def _train_step(
    algorithm: Algorithm, arena: Arena, plan: Plan, state: OnlineState, batch: Any
) -> tuple[OnlineState, Metrics]:
    del batch
    explore: Any = algorithm.explore
    worlds, rollout, ends = collect(arena, explore, state.params, state.worlds, plan.steps)
    learner = TrainState(state.step, state.params, state.opt_state, state.key)
    learner, metrics = algorithm.train_step(learner, rollout)
    per_update = arena.n_worlds * plan.steps * arena.policy_spec.n_action_steps
    n_steps = learner.step.astype(jnp.float32) * per_update
    metrics = {**metrics, **ends, "env_steps": n_steps}
    if arena.curriculum.mode != "off":
        worlds = _next_levels(arena, worlds, rollout, learner.step / plan.updates)
        metrics["level"] = worlds.state.info["level"].mean()
    done = OnlineState(learner.step, learner.params, learner.opt_state, learner.key, worlds)
    return done, metrics


def _next_levels(arena: Arena, worlds: Worlds, rollout: Rollout, progress: jax.Array) -> Worlds:
    """Worlds whose next episodes begin at the level that the curriculum says now."""
    config, told = arena.curriculum, rollout.metrics
    counts = rollout.ended * curriculum.at_frontier(worlds.frontier, told["level"])
    counts = counts * (1.0 - told.get("from_bank", jnp.zeros(())))
    won = (counts * told[_SUCCESS]).sum()
    frontier = curriculum.adr_update(config, worlds.frontier, won, counts.sum())
    key, following = jax.random.split(worlds.key)
    draw = functools.partial(curriculum.next_level, config, progress=progress, state=frontier)
    levels = jax.vmap(draw)(jax.random.split(key, arena.n_worlds))
    state = worlds.state.replace(info={**worlds.state.info, "level": levels})
    return worlds._replace(state=state, frontier=frontier, key=following)


def critic_specs(env: Env, observation: Sequence[ArraySpec]) -> tuple[ArraySpec, ...]:
    """What a critic sees: the simulator's state where the world gives it, else numbers.

    Args:
      env: the world.
      observation: what the policy sees.
    """
    told = [s for s in env.observation_specs if s.name == "privileged"]
    rest = [s for s in observation if not is_camera(s.name) and s.name != "privileged"]
    found = sorted((*told, *rest), key=lambda s: s.name)
    return tuple(found)

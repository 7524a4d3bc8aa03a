"""Closed-loop episodes on held-out starts, many worlds at once.

Worlds are stepped and the controller is called from the host (sim/worlds.py), so that a
JAX policy, an exported artefact and a scripted expert are driven by the same loop, in our
worlds as in Gymnasium's. Starts come from the EVALUATION stream
(sim/streams.py), which collection never uses.

Axis letters: N episodes, E worlds at once, T steps, A action, O observation steps.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np
from brax.envs.base import Env, State

from jaxpolicy.core import chunking, interruption
from jaxpolicy.core.specs import PREVIOUS_ACTION, InputError
from jaxpolicy.core.types import Params, PolicySpec
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.evaluation.recording import Watcher
from jaxpolicy.sim import streams, worlds, wrappers
from jaxpolicy.sim.render.pictures import Recording
from jaxpolicy.sim.worlds import Controller, World

__all__ = [
    "INCIDENT",
    "Controller",
    "ExpertController",
    "PolicyController",
    "Rollouts",
    "evaluate",
]

INCIDENT = "incident/"  # before the names of incidents (sim/tasks/incidents.py) among facts


class PolicyController:
    """A JAX policy with its observation history and what turns its chunks into actions."""

    def __init__(
        self,
        act: Callable[..., jax.Array],
        params: Params,
        spec: PolicySpec,
        seed: int = 0,
        confidence: Callable[..., jax.Array] | None = None,
    ):
        """Takes `Algorithm.act` (and `confidence`) with the parameters to run."""
        self._act = jax.jit(act)
        self._confidence = None if confidence is None else jax.jit(confidence)
        self._params = params
        self._spec = spec
        self._seed = seed
        self._history = chunking.History(spec.n_obs_steps)
        self._queue = chunking.make_buffer(spec.n_action_steps, spec.temporal_ensemble)
        self._last_action = np.zeros((1, spec.action.size), np.float32)
        self._predictions = 0
        self._sure: np.ndarray | None = None

    def reset(self, n: int) -> None:
        """Starts `n` episodes; noise does not depend on what was run before."""
        self._history.reset()
        self._queue.reset()
        self._last_action = np.zeros((n, self._spec.action.size), np.float32)
        self._predictions = 0
        self._sure = None

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Next actions [E, A]; predicts a chunk when the last one is used up, or every time.

        Raises:
          InputError: the world lacks an observation that the policy needs.
        """
        names = [s.name for s in self._spec.observation]
        observation = {**observation, PREVIOUS_ACTION: self._last_action}
        window = self._history.push({name: _get(observation, name) for name in names})
        if self._queue.empty:
            self._queue.fill(np.asarray(self._predict(window)))
        self._last_action = self._queue.pop()
        return self._last_action

    def confidence(self) -> np.ndarray | None:
        """[E] of the last prediction, None where the policy gives none."""
        return self._sure

    def _predict(self, window: dict[str, np.ndarray]) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(self._seed), self._predictions)
        act_key, confidence_key = jax.random.split(key)
        self._predictions += 1
        if self._confidence is not None:
            self._sure = np.asarray(self._confidence(self._params, window, confidence_key))
        return self._act(self._params, window, act_key)


def _get(observation: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in observation:
        raise InputError(
            f"the policy needs the observation '{name}', which the environment does not give; "
            f"it gives: {', '.join(sorted(observation))}"
        )
    return observation[name]


class ExpertController:
    """The task's scripted expert, as an upper bound and for looking at."""

    def __init__(self, env: Env):
        """`env` must have an `expert`."""
        self._act = jax.jit(jax.vmap(env.expert))

    def reset(self, n: int) -> None:
        """Nothing to forget: the expert is a function of the state."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Actions [E, A] for `privileged` [E, K]."""
        return np.asarray(self._act(observation["privileged"]))


@dataclasses.dataclass(frozen=True)
class Rollouts:
    """N finished episodes, in the order of their seeds.

    Attributes:
      seeds: int64 [N] of the EVALUATION stream.
      success: bool [N], the success predicate at the last step; None where the world has
        none.
      returns: float32 [N] sum of rewards.
      lengths: int64 [N] steps.
      terminated: bool [N], ended by the world and not by the time limit.
      first_success: int64 [N], steps taken when the success predicate first held, 0 for
        never; None where the world has none.
      final: every metric and named fact of the world at the last step, each [N, ...].
      peak: the largest value each of them had in the episode, each [N, ...].
      start: xy position of the first object of the scene at the start, float32 [N, 2] m,
        None where there is no scene.
      paths: xy position of the tool after every step, float32 [N, T, 2] m, NaN beyond an
        episode's end; None where the world names no tool.
      actions_clipped: share of action elements outside their limits.
      confidence: float32 [N], mean over the episode, or None.
      recordings: episodes kept for looking at.
      observations: windows of raw observations met on the way, each [M, O, ...].
      task, variation: names; variation [N].
      control_hz: control rate.
      n_instructions: different things that the task may ask for.
    """

    seeds: np.ndarray
    success: np.ndarray | None
    returns: np.ndarray
    lengths: np.ndarray
    terminated: np.ndarray
    first_success: np.ndarray | None
    final: Mapping[str, np.ndarray]
    peak: Mapping[str, np.ndarray]
    start: np.ndarray | None
    actions_clipped: float
    confidence: np.ndarray | None
    recordings: tuple[Recording, ...]
    observations: Mapping[str, np.ndarray]
    task: str
    variation: np.ndarray
    control_hz: float
    n_instructions: int = 1
    paths: np.ndarray | None = None

    @property
    def n_success(self) -> int:
        """Number of successes.

        Raises:
          InputError: the world has no success predicate.
        """
        if self.success is None:
            raise InputError(f"the environment '{self.task}' has no success predicate")
        return int(self.success.sum())


class _Log(NamedTuple):
    """E episodes as they ran, time first; only the first end[e] steps of each count."""

    end: np.ndarray  # [E]
    reward: np.ndarray  # [T, E]
    done: np.ndarray  # [T, E]
    truncation: np.ndarray  # [T, E]
    metrics: dict[str, np.ndarray]  # each [T, E, ...]
    start: np.ndarray | None  # [E, 2]
    clipped: np.ndarray  # [T, E] share of action elements outside their limits
    confidence: np.ndarray | None  # [T, E]
    observation: list[dict[str, np.ndarray]]  # T times each [E, ...]
    views: list[Any]  # T times what the watcher keeps


def evaluate(
    env: Env | World,
    controller: Controller,
    config: EvaluationConfig,
    progress: Callable[[int, int, int], None] | None = None,
    record_observations: int = 256,
    n_obs_steps: int = 1,
    stream: int = streams.EVALUATION,
) -> Rollouts:
    """Runs `config.n_episodes` episodes and says what happened.

    An episode succeeds if the world's "success" metric is true at its last step. The last
    batch is padded with further starts, whose outcomes are dropped.

    Args:
      env: one world (not vmapped) with a time limit, of any kind that `worlds.open_worlds`
        drives.
      controller: what to evaluate.
      config: how many, from which seeds.
      progress: called with (episodes done, episodes wanted, successes) after each batch.
      record_observations: M, windows of raw observations to keep from the first batch,
        spread over its worlds and steps.
      n_obs_steps: O, length of those windows.
      stream: of the starts, see sim/streams.py.

    Raises:
      InputError: no time limit, or the controller returned a wrong shape or NaN.
    """
    length = wrappers.episode_length(env)
    batch = min(config.batch, config.n_episodes)
    watcher = Watcher(env, config)
    windows: dict[str, np.ndarray] = {}
    parts: list[dict[str, Any]] = []
    n_success = 0
    for first in range(0, config.n_episodes, batch):
        seeds = config.seed + first + np.arange(batch)
        keys = streams.episode_keys(stream, seeds)
        log = _run(env, controller, keys, seeds, length, watcher)
        n = min(batch, config.n_episodes - first)
        parts.append(_summary(log, seeds, n, length))
        watcher.keep(log.views, log.end[:n], seeds, parts[-1].get("success"))
        if first == 0 and record_observations:
            windows = _windows(log, record_observations, n_obs_steps)
        n_success += int(np.sum(parts[-1].get("success", 0)))
        if progress is not None:
            progress(first + n, config.n_episodes, n_success)
    return _rollouts(env, _join(parts), watcher.draw(), windows)


def _run(
    env: Env,
    controller: Controller,
    keys: jax.Array,
    seeds: np.ndarray,
    length: int,
    watcher: Watcher,
) -> _Log:
    """E episodes in step with each other, until the last one has ended."""
    with worlds.open_worlds(env, len(seeds)) as opened:
        state = opened.reset(keys)
        start = _object_position(env, state)
        controller.reset(len(seeds))
        steps: list[dict[str, Any]] = []
        ended = np.zeros(len(seeds), bool)
        while len(steps) < length and not ended.all():
            interruption.check()
            observation = {k: np.asarray(v) for k, v in state.obs.items()}
            wanted = controller.act(observation)
            wanted = worlds.check_action(env.action_spec, wanted, seeds, len(steps))
            action, clipped = worlds.clip_action(env.action_spec, wanted)
            view = watcher.view(state)
            state = opened.step(state, action)
            steps.append(
                {**_facts(env, state), "clipped": clipped, "observation": observation,
                 "confidence": _confidence(controller), "view": view}
            )  # fmt: skip
            ended |= steps[-1]["done"] > 0
    return _log(steps, start)


def _facts(env: Env, state: State) -> dict[str, Any]:
    """What is kept of a state, on the host; each [E, ...].

    Manipulation tasks name the parts of their privileged observation, and what went wrong;
    these facts are kept beside the metrics, to say why an episode failed.
    """
    truncation = state.info.get("truncation", np.zeros(state.done.shape))
    facts = {"reward": state.reward, "done": state.done, "truncation": truncation}
    metrics = dict(state.metrics)
    if hasattr(env, "split_privileged"):
        metrics |= jax.vmap(env.split_privileged)(np.asarray(state.obs["privileged"]))
    metrics |= {INCIDENT + k: v for k, v in state.info.get("facts", {}).items()}
    return jax.tree.map(np.asarray, {**facts, "metrics": metrics})


def _object_position(env: Env, state: State) -> np.ndarray | None:
    """[E, 2] of the first free body, or else of the first mocap body."""
    if not hasattr(env, "scene"):
        return None
    model, physics = env.scene.model, state.pipeline_state
    free = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    if len(free):
        address = model.jnt_qposadr[free[0]]
        return np.asarray(physics.qpos)[:, address : address + 2]
    return np.asarray(physics.mocap_pos)[:, 0, :2] if model.nmocap else None


def _log(steps: list[dict[str, Any]], start: np.ndarray | None) -> _Log:
    done = np.stack([s["done"] for s in steps]) > 0
    end = np.where(done.any(axis=0), done.argmax(axis=0) + 1, len(steps))
    stack = {
        k: np.stack([s[k] for s in steps]) for k in ("reward", "done", "truncation", "clipped")
    }
    names = steps[0]["metrics"]
    sure = [s["confidence"] for s in steps]
    return _Log(
        end=end,
        metrics={k: np.stack([s["metrics"][k] for s in steps]) for k in names},
        start=start,
        confidence=None if sure[0] is None else np.stack(sure),
        observation=[s["observation"] for s in steps],
        views=[s["view"] for s in steps],
        **stack,
    )


def _confidence(controller: Controller) -> np.ndarray | None:
    ask = getattr(controller, "confidence", None)
    return None if ask is None else ask()


def _summary(log: _Log, seeds: np.ndarray, n: int, length: int) -> dict[str, Any]:
    """One value per episode for the first `n` episodes, which last `length` steps at most."""
    worlds = np.arange(n)
    last = log.end[:n] - 1
    alive = np.arange(len(log.reward))[:, None] <= last
    final = {k: v[last, worlds] for k, v in log.metrics.items()}
    peak = {k: _peak(v[:, :n], alive) for k, v in log.metrics.items()}
    summary = {
        "seeds": seeds[:n],
        "returns": (log.reward[:, :n] * alive).sum(axis=0),
        "lengths": log.end[:n],
        "terminated": (log.done[last, worlds] > 0) & (log.truncation[last, worlds] == 0),
        "clipped": (log.clipped[:, :n] * alive).sum(axis=0) / log.end[:n],
        "final": final,
        "peak": peak,
    }
    if log.start is not None:
        summary["start"] = log.start[:n]
    if "tool" in log.metrics:
        summary["paths"] = _paths(log.metrics["tool"][:, :n, :2], alive, length)
    if "success" in final:
        held = (log.metrics["success"][:, :n] > 0) & alive
        summary["success"] = final["success"] > 0
        summary["first_success"] = np.where(held.any(axis=0), held.argmax(axis=0) + 1, 0)
    if log.confidence is not None:
        summary["confidence"] = (log.confidence[:, :n] * alive).sum(axis=0) / log.end[:n]
    return summary


def _peak(values: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Largest of values [T, n, ...] where alive [T, n], over time."""
    mask = alive.reshape(*alive.shape, *[1] * (values.ndim - 2))
    return np.where(mask, values, -np.inf).max(axis=0)


def _paths(positions: np.ndarray, alive: np.ndarray, length: int) -> np.ndarray:
    """Positions [T, n, 2] while alive [T, n] -> [n, length, 2], NaN afterwards."""
    paths = np.full((positions.shape[1], length, 2), np.nan, np.float32)
    paths[:, : len(positions)] = np.where(alive[..., None], positions, np.nan).swapaxes(0, 1)
    return paths


def _join(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def _windows(log: _Log, n: int, n_obs_steps: int) -> dict[str, np.ndarray]:
    """`n` (or all there are) windows [O, ...], evenly spread over (world, step)."""
    worlds = np.repeat(np.arange(len(log.end)), log.end)
    times = np.concatenate([np.arange(end) for end in log.end])
    chosen = np.unique(np.linspace(0, len(times) - 1, n).round().astype(int))
    steps = chunking.history_indices(times[chosen], n_obs_steps)
    return {
        k: np.stack(
            [
                np.stack([log.observation[t][k][e] for t in row])
                for e, row in zip(worlds[chosen], steps, strict=True)
            ]
        )
        for k in log.observation[0]
    }


def _rollouts(
    env: Env,
    total: dict[str, Any],
    recordings: tuple[Recording, ...],
    windows: dict[str, np.ndarray],
) -> Rollouts:
    fields = {k: total[k] for k in ("seeds", "returns", "lengths", "terminated")}
    fields |= {k: total[k] for k in ("final", "peak")}
    optional = ("success", "first_success", "start", "paths", "confidence")
    fields |= {k: total.get(k) for k in optional}
    n = len(total["seeds"])
    return Rollouts(
        **fields,
        actions_clipped=float(total["clipped"].mean()),
        recordings=recordings,
        observations=windows,
        task=env.task,
        variation=np.full(n, getattr(env, "variation", "nominal")),
        control_hz=float(env.control_hz),
        n_instructions=len(getattr(env, "instructions", ("",))),
    )

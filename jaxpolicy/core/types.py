"""Records passed between stages. Axis letters are defined in specs.py."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpolicy.core.specs import ActionSpec, ArraySpec

__all__ = [
    "Algorithm",
    "Batch",
    "DatasetSpec",
    "Episode",
    "EpisodeMetadata",
    "Metrics",
    "Observation",
    "OnlineState",
    "Params",
    "PolicySpec",
    "Rollout",
    "TrainState",
]

# `image/<camera>` uint8 [..., H, W, 3]; `mask/<camera>` bool [...], False where that
# camera was missing (absent key: always there); `proprio` float32 [..., P];
# optional `language` float32 [..., L]; optional `privileged` float32 [..., K]
# (simulator state: for experts and critics, never for an exported policy).
Observation = Mapping[str, Any]
Params = Mapping[str, Any]
Metrics = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class EpisodeMetadata:
    """Facts about one episode.

    Attributes:
      episode_id: unique in its dataset and stable, so that splits are stable.
      success: True, False, or None where nobody said.
      collection_method: scripted, self_play, teleoperation, kinesthetic, dagger, unknown.
      operator: who collected it.
      seconds: duration of collecting it, in seconds of real time.
      source: dataset or file it came from.
      robot, task: names.
      seed: simulator seed, -1 where there was none.
      variation: what was randomised in it, by name; empty where nothing was.
      complete: False where the recording breaks off before the episode's end.
    """

    episode_id: str
    success: bool | None = None
    collection_method: str = "unknown"
    operator: str = ""
    seconds: float = 0.0
    source: str = ""
    robot: str = ""
    task: str = ""
    seed: int = -1
    variation: Mapping[str, float] = dataclasses.field(default_factory=dict)
    complete: bool = True


@dataclasses.dataclass(frozen=True)
class Episode:
    """One episode of T RLDS steps, as NumPy arrays.

    Attributes:
      observation: see Observation, each [T, ...].
      action: float32 [T, A], physical units; action[t] answers observation[t].
      reward: float32 [T].
      is_terminal: True where the episode ended for good, False at a time limit.
      language_instruction: text, "" where there is none.
      metadata: see EpisodeMetadata.
    """

    observation: Mapping[str, np.ndarray]
    action: np.ndarray
    reward: np.ndarray
    is_terminal: bool
    language_instruction: str
    metadata: EpisodeMetadata

    def __len__(self) -> int:
        return len(self.action)


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What each step of a dataset holds.

    Attributes:
      observation: one ArraySpec per key, sorted by name.
      action: the action vector.
    """

    observation: tuple[ArraySpec, ...]
    action: ActionSpec

    def __getitem__(self, key: str) -> ArraySpec:
        return {s.name: s for s in self.observation}[key]

    @property
    def keys(self) -> tuple[str, ...]:
        """Observation keys."""
        return tuple(s.name for s in self.observation)


@dataclasses.dataclass(frozen=True)
class PolicySpec:
    """The contract between a policy and the world: what goes in and what comes out.

    Attributes:
      observation: raw inputs of the policy, one step each, sorted by name.
      action: the action vector.
      n_obs_steps: O, observations seen.
      horizon: H, actions predicted; the first belongs to the newest observation.
      n_action_steps: actions executed before predicting again.
      temporal_ensemble: temperature of chunking.TemporalEnsemble, below 0: there is none.
      critic: what a value function sees while training; empty where there is none.
    """

    observation: tuple[ArraySpec, ...]
    action: ActionSpec
    n_obs_steps: int
    horizon: int
    n_action_steps: int
    temporal_ensemble: float = -1.0
    critic: tuple[ArraySpec, ...] = ()


class Batch(NamedTuple):
    """Training windows.

    Attributes:
      observation: each [B, O, ...], oldest step first; images stay uint8.
      action: float32 [B, H, A], physical units.
      action_mask: bool [B, H], False where an action lies beyond the episode's end
        (there the last action is repeated).
    """

    observation: Observation
    action: Any
    action_mask: Any


class Rollout(NamedTuple):
    """What E worlds did in T decisions of a policy that learns in them.

    Attributes:
      observation: windows before each decision, of the policy and of its critic, each
        [T, E, O, ...].
      final: windows of the critic after each decision and before any reset, each
        [T, E, O, ...].
      trace: what the log probabilities of the executed actions are computed from, each
        [T, E, ...].
      log_prob: float32 [T, E, K], of the K random choices behind each action.
      reward: float32 [T, E].
      terminated: float32 [T, E], 1 where the world ended the episode.
      ended: float32 [T, E], 1 where it ended, by a time limit too.
      metrics: float32 [T, E] each, of the worlds.
    """

    observation: Observation
    final: Observation
    trace: Any
    log_prob: jax.Array
    reward: jax.Array
    terminated: jax.Array
    ended: jax.Array
    metrics: Metrics


class OnlineState(NamedTuple):
    """TrainState of a method that learns in worlds, with those worlds; arrays only.

    Attributes:
      step, params, opt_state, key: see TrainState.
      worlds: see training.rollouts.Worlds, leading axis E.
    """

    step: jax.Array
    params: Params
    opt_state: Any
    key: jax.Array
    worlds: Any


class TrainState(NamedTuple):
    """All of training, arrays only.

    Attributes:
      step: int32 [], updates done.
      params: {"network": ..., "norm": ...}: all that acting needs; the optimiser
        sees "network" alone, "norm" holds NormStats by key.
      opt_state: optax state of params["network"].
      key: PRNG key; a step uses fold_in(key, step).
    """

    step: jax.Array
    params: Params
    opt_state: Any
    key: jax.Array


class Algorithm(NamedTuple):
    """A learning method: pure functions with networks and optimisers bound.

    Attributes:
      init: (key, batch) -> TrainState.
      train_step: (state, batch) -> (state, metrics).
      eval_step: (params, batch) -> metrics, on held-out data: the mean over batches
        is what validation reports; includes "loss" and "action_error". Of a method that
        learns in worlds: "loss" and its terms for samples, see ppo.example_samples.
      act: (params, observation [B, O, ...], key) -> action chunk [B, H, A].
      confidence: (params, observation, key) -> [B] in [0, 1].
      noise: shape per sample of the standard normal noise that `act` draws from its key;
        empty where it draws none.
      act_with_noise: (params, observation, noise [B, *noise]) -> [B, H, A]: `act` with the
        noise given, as exported policies run; None where it draws none.
      explore: of a method that learns in worlds, whose batches are Rollouts: (params,
        observation [B, O, ...], key) -> (actions to execute [B, n_action_steps, A], trace,
        log_prob), see Rollout; None of others.
    """

    init: Callable[..., Any]
    train_step: Callable[..., tuple[Any, Metrics]]
    eval_step: Callable[..., Metrics]
    act: Callable[..., jax.Array]
    confidence: Callable[..., jax.Array]
    noise: tuple[int, ...] = ()
    act_with_noise: Callable[..., jax.Array] | None = None
    explore: Callable[..., tuple[jax.Array, Any, jax.Array]] | None = None

"""Observation history and action chunks: index arithmetic and its online twins.

The windows that training sees and the buffers that a running policy keeps are defined
here side by side, so they cannot drift apart: at time t a policy sees steps t-O+1 ... t
(clipped to the start of the episode) and predicts the actions of t ... t+H-1 (the last
one repeated beyond the end).

Only NumPy is imported. Functions of arrays take those of any library of the array API
standard (https://data-apis.org/array-api), so JAX traces the same arithmetic.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = [
    "ActionQueue",
    "History",
    "TemporalEnsemble",
    "chunk_indices",
    "first_window",
    "history_indices",
    "make_buffer",
    "next_window",
    "temporal_ensemble",
]


def history_indices(t: Any, n_obs_steps: int) -> Any:
    """Steps seen at times `t`.

    Args:
      t: int [...], position in the episode.
      n_obs_steps: O.

    Returns:
      int [..., O], oldest first, clipped to 0.
    """
    xp = _library(t)
    return xp.maximum(xp.asarray(t)[..., None] + xp.arange(1 - n_obs_steps, 1), 0)


def chunk_indices(t: Any, horizon: int, length: Any) -> tuple[Any, Any]:
    """Steps whose actions are predicted at times `t` of episodes with `length` steps.

    Returns:
      indices int [..., H], clipped to length - 1, and mask bool [..., H], False where
      clipped.
    """
    xp = _library(t)
    wanted = xp.asarray(t)[..., None] + xp.arange(horizon)
    last = xp.asarray(length)[..., None] - 1
    return xp.minimum(wanted, last), wanted <= last


def first_window(observation: Any, n_obs_steps: int) -> Any:
    """The window at the start of an episode: [E, ...] -> [E, O, ...], all O the same."""
    return _library(observation).repeat(observation[:, None], n_obs_steps, axis=1)


def next_window(window: Any, observation: Any) -> Any:
    """[E, O, ...] without its oldest and with the newest observation [E, ...]."""
    return _library(window).concat((window[:, 1:], observation[:, None]), axis=1)


def _library(array: Any) -> Any:
    """The array library of an array; NumPy for numbers and lists."""
    return array.__array_namespace__() if hasattr(array, "__array_namespace__") else np


def temporal_ensemble(actions: np.ndarray, temperature: float) -> np.ndarray:
    """Weighted mean of several predictions of the same action.

    ACT (Zhao et al. 2023, https://arxiv.org/abs/2304.13705, Algorithm 2):
    w_i = exp(-m i), i = 0 for the oldest prediction.

    Args:
      actions: [N, ..., A], oldest prediction first.
      temperature: m >= 0; 0 is the plain mean.

    Returns:
      [..., A].
    """
    weights = np.exp(-temperature * np.arange(len(actions)))
    return np.tensordot(weights / weights.sum(), actions, axes=1)


class History:
    """The last O observations of E environments, online twin of `history_indices`."""

    def __init__(self, n_obs_steps: int):
        """Empty history of `n_obs_steps` (O) steps."""
        self._n = n_obs_steps
        self._window: dict[str, np.ndarray] = {}

    def reset(self) -> None:
        """Forgets everything; the next observation starts an episode."""
        self._window = {}

    def push(self, observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Adds an observation (each [E, ...]) and returns the window, each [E, O, ...]."""
        now = {k: np.asarray(v) for k, v in observation.items()}
        before = self._window
        self._window = {
            k: next_window(before[k], v) if before else first_window(v, self._n)
            for k, v in now.items()
        }
        return self._window


class ActionQueue:
    """Receding horizon: executes n_action_steps of each predicted chunk."""

    def __init__(self, n_action_steps: int):
        """Empty queue; `n_action_steps` of every chunk are used."""
        self._n = n_action_steps
        self._actions: list[np.ndarray] = []

    def reset(self) -> None:
        """Forgets the rest of the current chunk."""
        self._actions = []

    @property
    def empty(self) -> bool:
        """True when a new chunk must be predicted."""
        return not self._actions

    def fill(self, chunk: np.ndarray) -> None:
        """Takes a predicted chunk [E, H, A]."""
        self._actions = [chunk[:, i] for i in range(self._n)]

    def pop(self) -> np.ndarray:
        """The next action [E, A]."""
        return self._actions.pop(0)


class TemporalEnsemble:
    """Predicts at every step, and executes the mean of all that was predicted for it.

    Online twin of `temporal_ensemble`: the chunk predicted i steps ago has its action i for
    the current step, as long as i < H.
    """

    def __init__(self, temperature: float):
        """No predictions; `temperature` as of `temporal_ensemble`."""
        self._temperature = temperature
        self._chunks: list[np.ndarray] = []
        self._popped = True

    def reset(self) -> None:
        """Forgets all predictions."""
        self._chunks, self._popped = [], True

    @property
    def empty(self) -> bool:
        """True when a new chunk must be predicted: at every step."""
        return self._popped

    def fill(self, chunk: np.ndarray) -> None:
        """Takes the chunk [E, H, A] predicted at the current step."""
        self._chunks = [*self._chunks, chunk][-chunk.shape[1] :]
        self._popped = False

    def pop(self) -> np.ndarray:
        """The action of the current step [E, A]."""
        self._popped = True
        ages = range(len(self._chunks) - 1, -1, -1)
        predictions = np.stack([c[:, i] for c, i in zip(self._chunks, ages, strict=True)])
        return temporal_ensemble(predictions, self._temperature).astype(predictions.dtype)


def make_buffer(n_action_steps: int, temperature: float) -> ActionQueue | TemporalEnsemble:
    """What turns chunks into actions: a running policy, simulated or exported, has one.

    Args:
      n_action_steps: actions of each chunk that are executed.
      temperature: of a TemporalEnsemble; below 0: there is none, but an ActionQueue.
    """
    return ActionQueue(n_action_steps) if temperature < 0 else TemporalEnsemble(temperature)

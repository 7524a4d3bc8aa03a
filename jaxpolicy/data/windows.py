"""Training windows: from a position in an episode to frames of the whole dataset.

Frames of all episodes lie one after the other; an episode occupies [start, start +
length). The arithmetic within an episode is that of `jaxpolicy.core.chunking`.
"""

from typing import NamedTuple

import jax
import numpy as np

from jaxpolicy.core import chunking

__all__ = ["Index", "Window", "locate", "windows"]


class Index(NamedTuple):
    """Which samples: one entry per sample, int32 [..., B].

    Attributes:
      start: first frame of the sample's episode.
      length: steps of that episode.
      t: position in the episode, 0 <= t < length.
    """

    start: np.ndarray | jax.Array
    length: np.ndarray | jax.Array
    t: np.ndarray | jax.Array


def locate(starts: np.ndarray, lengths: np.ndarray, frames: np.ndarray) -> Index:
    """Frames [B] of episodes that begin at `starts` and have `lengths`, both [n]."""
    episode = np.searchsorted(starts, frames, side="right") - 1
    start = starts[episode]
    parts = (start, lengths[episode], frames - start)
    return Index(*(p.astype(np.int32) for p in parts))


class Window(NamedTuple):
    """Frames of the samples.

    Attributes:
      observation: int [..., B, O], oldest first.
      action: int [..., B, H].
      mask: bool [..., B, H], False beyond the episode's end.
    """

    observation: np.ndarray | jax.Array
    action: np.ndarray | jax.Array
    mask: np.ndarray | jax.Array


def windows(index: Index, n_obs_steps: int, horizon: int) -> Window:
    """Frames of `index` with O = n_obs_steps and H = horizon; NumPy and JAX alike."""
    start, length, t = index
    past = chunking.history_indices(t, n_obs_steps)
    future, mask = chunking.chunk_indices(t, horizon, length)
    return Window(start[..., None] + past, start[..., None] + future, mask)

"""Training windows: from a position in an episode to frames of the whole dataset.

Frames of all episodes lie one after the other; an episode occupies [start, start +
length). The arithmetic within an episode is that of `jaxpolicy.core.chunking`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core import chunking

__all__ = ["Index", "Window", "locate", "windows", "windows_in_jit"]


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
    """Frames of `index` with O = n_obs_steps and H = horizon, in NumPy."""
    start, length, t = (np.asarray(a) for a in index)
    past = chunking.history_indices(t, n_obs_steps)
    future, mask = chunking.chunk_indices(t, horizon, length)
    return Window(start[..., None] + past, start[..., None] + future, mask)


def windows_in_jit(index: Index, n_obs_steps: int, horizon: int) -> Window:
    """The same as `windows` on JAX arrays, traceable."""
    start, last, t = index.start[..., None], index.length[..., None] - 1, index.t[..., None]
    past = jnp.maximum(t + jnp.arange(1 - n_obs_steps, 1), 0)
    future = t + jnp.arange(horizon)
    return Window(start + past, start + jnp.minimum(future, last), future <= last)

"""Episodes thinned out to a lower rate."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np

from jaxpolicy.core.specs import RELATIVE_KINDS, InputError
from jaxpolicy.core.types import DatasetSpec, Episode
from jaxpolicy.data.mapping import Layout
from jaxpolicy.data.source import EpisodeSource

__all__ = ["ResampledSource", "kept_steps", "resample"]

# What elements are called that nobody named, see mapping.
_UNNAMED = re.compile(r"action_\d+\Z")


class ResampledSource:
    """An EpisodeSource at `hz` steps per second.

    Attributes:
      spec: that of the source with control_hz = hz.
    """

    spec: DatasetSpec

    def __init__(
        self,
        source: EpisodeSource,
        hz: float,
        action_kind: str,
        control_hz: float = 0,
        action_names: Sequence[str] = (),
    ):
        """Checks that it can be done.

        Args:
          source: the dataset.
          hz: wanted rate.
          action_kind: what the action means, see ActionSpec.kind.
          control_hz: rate of the source, 0 where its spec says.
          action_names: of the elements, empty where its spec says.

        Raises:
          InputError: the rate, the kind of action or which of deltas is the gripper is not
            known, or `hz` is higher.
        """
        self._source = source
        rate = control_hz or source.spec.action.control_hz
        if not rate:
            raise InputError(
                "data.resample_hz: the dataset does not say its rate; give data.control_hz"
            )
        if hz > rate:
            raise InputError(f"data.resample_hz={hz} is higher than the dataset's {rate} Hz")
        if action_kind == "unknown":
            raise InputError(
                "data.resample_hz: deltas are added up and positions are not, and the dataset "
                "does not say which its actions are; give data.action_kind"
            )
        names = tuple(action_names) or source.spec.action.names
        if action_kind in RELATIVE_KINDS and all(map(_UNNAMED.match, names)):
            raise InputError(
                "data.resample_hz: deltas are added up and the opening of a gripper is not, and "
                "the dataset does not name its actions; give data.action_names"
            )
        self._ratio = rate / hz
        self._added = _added(names, action_kind)
        action = dataclasses.replace(source.spec.action, kind=action_kind, control_hz=hz)
        self.spec = dataclasses.replace(source.spec, action=action)

    @property
    def layout(self) -> Layout | None:
        """Which field became what, where the source says so."""
        return getattr(self._source, "layout", None)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._source)

    def __getitem__(self, i: int) -> Episode:
        """Episode `i` with every camera decoded."""
        return self.load(i)

    def __iter__(self) -> Iterator[Episode]:
        """All episodes in order."""
        return (self.load(i) for i in range(len(self)))

    def load(self, i: int, cameras: Sequence[str] | None = None) -> Episode:
        """Episode `i`; only the named cameras are decoded (None: all, (): none)."""
        episode = self._source.load(i, cameras)
        return resample(episode, kept_steps(len(episode), self._ratio), self._added)

    def content_hash(self, i: int) -> str:
        """Digest of the source's episode."""
        return self._source.content_hash(i)

    def fingerprint(self) -> str:
        """Digest of the source and the rate."""
        return f"{self._source.fingerprint()}/{self._ratio:.9g}"


def kept_steps(n_steps: int, ratio: float) -> np.ndarray:
    """Steps that stay of `n_steps` when `ratio` of them become one: 0, ratio, 2 ratio, ..."""
    n = int(np.ceil(n_steps / ratio))
    kept = np.floor(np.arange(n) * ratio + 0.5).astype(int)
    return kept[kept < n_steps]


def resample(episode: Episode, kept: np.ndarray, added: np.ndarray) -> Episode:
    """`episode` with only the steps `kept`.

    A step that stays stands for those up to the next one: its action is their last, or where
    bool [A] `added`, their sum (so that deltas still lead to the same place); rewards add up.
    """
    if not len(episode):
        return episode
    last = np.append(kept[1:], len(episode)) - 1
    action = np.where(added, np.add.reduceat(episode.action, kept), episode.action[last])
    return dataclasses.replace(
        episode,
        observation={k: v[kept] for k, v in episode.observation.items()},
        action=action.astype(np.float32),
        reward=np.add.reduceat(episode.reward, kept).astype(np.float32),
    )


def _added(names: Sequence[str], kind: str) -> np.ndarray:
    """Bool [A]: deltas; a gripper's opening is a position even beside them."""
    is_relative = kind in RELATIVE_KINDS
    return np.array([is_relative and "grip" not in n.lower() for n in names])

"""What a dataset of any format looks like to the rest of the library."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from jaxpolicy.core import specs
from jaxpolicy.core.specs import ArraySpec, InputError
from jaxpolicy.core.types import DatasetSpec, Episode

__all__ = ["EpisodeSource", "MemorySource", "check_episode", "content_hash", "without_cameras"]


@runtime_checkable
class EpisodeSource(Protocol):
    """Random access to episodes. `spec` says what every step holds."""

    spec: DatasetSpec

    def __len__(self) -> int:
        """Number of episodes, failed ones included."""
        ...

    def __getitem__(self, i: int) -> Episode:
        """Episode `i` with every camera decoded."""
        ...

    def load(self, i: int, cameras: Sequence[str] | None = None) -> Episode:
        """Episode `i`; only the named cameras are decoded (None: all, (): none)."""
        ...

    def content_hash(self, i: int) -> str:
        """Hex digest of the steps of episode `i`, equal for identical episodes."""
        ...

    def fingerprint(self) -> str:
        """Hex digest that changes with any content; cheap, nothing is decoded."""
        ...


class MemorySource:
    """Episodes in memory, for tests and small experiments."""

    def __init__(self, episodes: Sequence[Episode], spec: DatasetSpec):
        """Keeps `episodes`, which must match `spec`."""
        self.spec = spec
        self._episodes = tuple(episodes)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    def __getitem__(self, i: int) -> Episode:
        """Episode `i`."""
        return self._episodes[i]

    def __iter__(self) -> Iterator[Episode]:
        """All episodes in order."""
        return iter(self._episodes)

    def load(self, i: int, cameras: Sequence[str] | None = None) -> Episode:
        """Episode `i` with only the named cameras."""
        return without_cameras(self._episodes[i], cameras)

    def content_hash(self, i: int) -> str:
        """Digest of the arrays and the instruction of episode `i`."""
        return content_hash(self._episodes[i])

    def fingerprint(self) -> str:
        """Digest of all contents."""
        digest = hashlib.sha256(repr(self.spec).encode())
        for episode in self._episodes:
            digest.update(repr(episode.metadata).encode())
            digest.update(content_hash(episode).encode())
        return digest.hexdigest()


def content_hash(episode: Episode) -> str:
    """SHA-256 over the arrays and the instruction, metadata left out."""
    digest = hashlib.sha256(episode.language_instruction.encode())
    arrays = {**episode.observation, "action": episode.action, "reward": episode.reward}
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def check_episode(episode: Episode, arrays: Sequence[ArraySpec]) -> None:
    """Raises InputError where `episode` lacks one of `arrays` or does not match it.

    Args:
      episode: any.
      arrays: observations, and "action" for the action.
    """
    where, n_steps = f"episode '{episode.metadata.episode_id}'", len(episode)
    if not n_steps:
        raise InputError(f"{where}: holds no steps")
    for spec in arrays:
        is_action = spec.name == "action"
        value = episode.action if is_action else episode.observation.get(spec.name)
        if value is None:
            raise InputError(f"{where}: observation '{spec.name}' is missing")
        spec.validate(value, where)
        if value.shape != (n_steps, *spec.shape):
            expected = [n_steps, *spec.shape]
            raise InputError(f"{where}: '{spec.name}' must be {expected}, got {list(value.shape)}")


def without_cameras(episode: Episode, cameras: Sequence[str] | None) -> Episode:
    """`episode` with only the named cameras (None: all)."""
    if cameras is None:
        return episode
    wanted = set(cameras)
    kept = {k: v for k, v in episode.observation.items() if _is_wanted(k, wanted)}
    return dataclasses.replace(episode, observation=kept)


def _is_wanted(key: str, cameras: set[str]) -> bool:
    for prefix in (specs.IMAGE_PREFIX, specs.MASK_PREFIX):
        if key.startswith(prefix):
            return key.removeprefix(prefix) in cameras
    return True

"""Episodes decoded once into memory-mapped arrays, frames of all episodes in a row."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np

from jaxpolicy.core import atomic, interruption
from jaxpolicy.core.specs import PREVIOUS_ACTION, ArraySpec, InputError, camera_names, is_camera
from jaxpolicy.core.types import Episode
from jaxpolicy.data import images
from jaxpolicy.data.source import EpisodeSource, check_episode

__all__ = ["Cache", "array_specs", "build", "exists", "open_cache", "write"]

_VERSION = 2
_META = "meta.json"


@dataclasses.dataclass(frozen=True)
class Cache:
    """N frames of all episodes, one after the other.

    Attributes:
      arrays: observation keys and "action" -> read-only memory map [N, ...]; images
        uint8, masks bool, the rest float32.
      starts: int64 [n_episodes], first frame of each episode.
      lengths: int64 [n_episodes], steps of each episode.
      directory: where the files lie.
      episodes: int64 [n_episodes], which episode of the source each is.
      skipped: source index -> why that episode could not be decoded.
    """

    arrays: Mapping[str, np.ndarray]
    starts: np.ndarray
    lengths: np.ndarray
    directory: str
    episodes: np.ndarray
    skipped: Mapping[int, str]

    @property
    def n_frames(self) -> int:
        """N."""
        return int(self.lengths.sum())

    @property
    def n_bytes(self) -> int:
        """Size of all arrays."""
        return sum(a.nbytes for a in self.arrays.values())


def build(
    source: EpisodeSource,
    indices: Sequence[int] | np.ndarray,
    keys: Sequence[str],
    directory: str | os.PathLike[str],
    progress: Callable[[int, int], None] | None = None,
    image_size: int = 0,
    corrupt: str = "quarantine",
) -> Cache:
    """Decodes the episodes `indices` of `source`, or reuses what was decoded before.

    Args:
      source: the dataset.
      indices: episodes, in the order their frames shall have.
      keys: observation keys, as in the DatasetSpec of `Processed`.
      directory: folder of caches; this one lies in a subfolder named by content.
      progress: called with (episodes done, episodes in all).
      image_size: side in pixels to which frames are resized; 0: as they are.
      corrupt: what happens to an episode that cannot be decoded: "quarantine" leaves it
        out and notes it in `Cache.skipped`, "error" stops.

    Raises:
      InputError: no episode can be decoded, or the folder cannot be written.
    """
    if not len(indices):
        raise InputError("no episodes to cache: this part of the split is empty")
    specs = array_specs(source, keys)
    path = pathlib.Path(directory) / _name(source, indices, specs, image_size)
    if not _is_complete(path):
        shutil.rmtree(path, ignore_errors=True)
        try:
            write(source, indices, specs, path, progress, image_size, corrupt)
        except InputError:
            # Another process may have written the same cache first.
            if not _is_complete(path):
                raise
    return open_cache(path)


def exists(
    source: EpisodeSource,
    indices: Sequence[int] | np.ndarray,
    keys: Sequence[str],
    directory: str | os.PathLike[str],
    image_size: int = 0,
) -> bool:
    """Whether `build` would find its work done."""
    name = _name(source, indices, array_specs(source, keys), image_size)
    return _is_complete(pathlib.Path(directory) / name)


def array_specs(source: EpisodeSource, keys: Sequence[str]) -> tuple[ArraySpec, ...]:
    """What each frame holds: the observations `keys`, then the action."""
    known = {s.name: s for s in source.spec.observation}
    size = source.spec.action.size
    known[PREVIOUS_ACTION] = ArraySpec(PREVIOUS_ACTION, (size,))
    missing = [k for k in keys if k not in known]
    if missing:
        raise InputError(f"no observation '{missing[0]}' in the dataset; it has {sorted(known)}")
    return (*(known[k] for k in keys), ArraySpec("action", (size,)))


def _name(
    source: EpisodeSource,
    indices: Sequence[int] | np.ndarray,
    specs: Sequence[ArraySpec],
    image_size: int,
) -> str:
    digest = hashlib.sha256(f"{_VERSION} {image_size} {source.fingerprint()}".encode())
    digest.update(np.asarray(indices, np.int64).tobytes())
    digest.update(repr([(s.name, s.shape, s.dtype) for s in specs]).encode())
    return digest.hexdigest()[:24]


def write(
    source: EpisodeSource,
    indices: Iterable[int],
    specs: Sequence[ArraySpec],
    path: pathlib.Path,
    progress: Callable[[int, int], None] | None = None,
    image_size: int = 0,
    corrupt: str = "quarantine",
) -> None:
    """Decodes episodes into the new folder `path`; see `build`."""
    cameras = camera_names([s.name for s in specs])
    todo = [int(i) for i in indices]
    lengths: list[int] = []
    skipped: dict[int, str] = {}
    with atomic.new_directory(path) as directory, ExitStack() as stack:
        files = {s.name: stack.enter_context(open(directory / _file(s.name), "wb")) for s in specs}
        for n, i in enumerate(todo):
            try:
                episode = _with_previous_action(source.load(i, cameras))
                check_episode(episode, specs)
            except InputError as e:
                if corrupt == "error" or len(skipped) + 1 == len(todo):
                    raise
                skipped[i] = str(e)
            else:
                _append(files, specs, episode, image_size)
                lengths.append(len(episode))
            if progress:
                progress(n + 1, len(todo))
            interruption.check()
        meta = {
            "version": _VERSION,
            "lengths": lengths,
            "episodes": [i for i in todo if i not in skipped],
            "skipped": {str(i): why for i, why in skipped.items()},
            "arrays": _describe(specs, image_size),
        }
        atomic.write_text(directory / _META, json.dumps(meta))


def _append(
    files: Mapping[str, BinaryIO], specs: Sequence[ArraySpec], episode: Episode, image_size: int
) -> None:
    for spec in specs:
        value = episode.action if spec.name == "action" else episode.observation[spec.name]
        if is_camera(spec.name):
            value = images.resize(value, image_size)
        files[spec.name].write(np.ascontiguousarray(value).data)


def _with_previous_action(episode: Episode) -> Episode:
    """Adds the action before each step, zeros at the first."""
    before = np.concatenate([np.zeros_like(episode.action[:1]), episode.action[:-1]])
    observation = {**episode.observation, PREVIOUS_ACTION: before}
    return dataclasses.replace(episode, observation=observation)


def _describe(specs: Sequence[ArraySpec], image_size: int) -> dict[str, Any]:
    shapes = {s.name: s.shape for s in specs}
    if image_size:
        square = (image_size, image_size, 3)
        shapes |= {s.name: square for s in specs if is_camera(s.name)}
    return {s.name: {"shape": shapes[s.name], "dtype": s.dtype} for s in specs}


def _file(key: str) -> str:
    return key.replace("/", ".") + ".bin"


def _is_complete(path: pathlib.Path) -> bool:
    """True when every file is there with its right size."""
    try:
        meta = json.loads((path / _META).read_text())
        n = sum(meta["lengths"])
        sizes = {k: _n_bytes(n, a) for k, a in meta["arrays"].items()}
        return all((path / _file(k)).stat().st_size == s for k, s in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _n_bytes(n: int, array: Mapping[str, Any]) -> int:
    return n * int(np.prod(array["shape"])) * np.dtype(array["dtype"]).itemsize


def open_cache(path: pathlib.Path) -> Cache:
    """Opens a folder that `build` wrote."""
    meta = json.loads((path / _META).read_text())
    lengths = np.array(meta["lengths"], np.int64)
    n = int(lengths.sum())
    arrays = {
        key: np.memmap(path / _file(key), np.dtype(a["dtype"]), mode="r", shape=(n, *a["shape"]))
        for key, a in meta["arrays"].items()
    }
    return Cache(
        arrays=arrays,
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        directory=str(path),
        episodes=np.array(meta["episodes"], np.int64),
        skipped={int(i): why for i, why in meta["skipped"].items()},
    )

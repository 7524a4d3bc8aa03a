"""Writes RLDS directories: streams episodes into TFRecord shards, appears atomically."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np

from jaxpolicy.core import atomic, json_file
from jaxpolicy.core.specs import ArraySpec, InputError, is_camera
from jaxpolicy.core.types import DatasetSpec, Episode
from jaxpolicy.data import images
from jaxpolicy.data.facts import FACTS_FILE, Facts
from jaxpolicy.data.formats import example_proto, features, tfrecord
from jaxpolicy.data.formats.example_proto import Value
from jaxpolicy.data.formats.features import STEPS, Feature
from jaxpolicy.data.formats.rlds_names import METADATA, OBSERVATION, VARIATION, feature_name
from jaxpolicy.data.source import check_episode

__all__ = ["Recording", "write"]

_SPLIT = "train"
_PART = "part.json"
_ENCODING, _QUALITY, _SHARD_MB = "jpeg", 95, 256
_METADATA_TEXT = ("episode_id", "collection_method", "operator", "source", "robot", "task")
_METADATA_NUMBERS = {
    "has_success": "bool",
    "success": "bool",
    "seconds": "float32",
    "seed": "int64",
}
_STEP_SCALARS = {
    "reward": "float32",
    "discount": "float32",
    "is_first": "bool",
    "is_last": "bool",
    "is_terminal": "bool",
}


def write(
    path: str | os.PathLike[str],
    episodes: Iterable[Episode],
    spec: DatasetSpec,
    name: str,
    image_encoding: str = _ENCODING,
    quality: int = _QUALITY,
    shard_mb: int = _SHARD_MB,
) -> int:
    """Writes `episodes` as an RLDS directory that TFDS reads; returns how many.

    Memory does not grow with the number of episodes. Everything is one TFDS split,
    "train": the train/val/test split of this library is made and stored by
    `process`. The folder appears only when complete.

    Args:
      path: new folder (or an empty one).
      episodes: consumed once; failed episodes belong in here with success=False.
      spec: what every step holds; each episode is checked against it.
      name: dataset name, a letter followed by letters, digits and underscores.
      image_encoding: "jpeg" or "png" (lossless).
      quality: of JPEG, 1 to 100.
      shard_mb: a new file is begun when one grows beyond this.

    Raises:
      InputError: names the episode and key that do not match `spec`, or the path.
    """
    if image_encoding not in images.ENCODINGS:
        raise InputError(
            f"image encoding must be one of {images.ENCODINGS}, got '{image_encoding}'"
        )
    _check_names(name, spec)
    encoder = _Encoder(spec, image_encoding, quality)
    with atomic.new_directory(path) as directory:
        with _Shards(directory, shard_mb * 2**20) as shards, encoder:
            for episode in episodes:
                shards.add(encoder(episode))
        _describe(path, shards, directory, name, spec, image_encoding)
        return sum(shards.lengths)


class Recording(contextlib.AbstractContextManager):
    """What `write` writes, by a program that may be killed and go on later.

    Until it is finished everything is in a hidden folder beside `path`. What was added before
    the last `commit` is safe; what was added after it is dropped by the next Recording of the
    same path. Ids of episodes are compared with those of this process alone.

    Attributes:
      told: what the last `commit` was given, {} in the beginning.
    """

    def __init__(
        self, path: str | os.PathLike[str], spec: DatasetSpec, name: str, settings: Mapping
    ):
        """Begins, or goes on.

        Args:
          path: new folder (or an empty one).
          spec, name: see `write`.
          settings: what decides the episodes, as JSON reads back.

        Raises:
          InputError: what was begun there has other settings, or nothing can be written.
        """
        _check_names(name, spec)
        self._path, self._spec, self._name = pathlib.Path(path), spec, name
        self._settings = settings
        self._directory = self._path.with_name(f".{self._path.name}.part")
        atomic.require_free(self._path)
        found = json_file.read(self._directory / _PART)
        if found is not None and found["settings"] != settings:
            raise InputError(
                f"{self._directory} holds the beginning of a dataset of other settings; give "
                "the same settings, give another place, or delete it"
            )
        if found is None:
            shutil.rmtree(self._directory, ignore_errors=True)
            atomic.make_directory(self._directory)
        self.told: dict[str, Any] = found["told"] if found else {}
        self._shards = _Shards(self._directory, _SHARD_MB * 2**20)
        if found:
            _undo_names(self._directory, name)
            self._shards.go_on(found["lengths"], found["size"], found["n_bytes"])
        self._encoder = _Encoder(spec, _ENCODING, _QUALITY)

    def add(self, episodes: Iterable[Episode]) -> None:
        """Writes episodes; `commit` may be called while they are made."""
        try:
            for episode in episodes:
                self._shards.add(self._encoder(episode))
        except OSError as e:
            raise InputError(f"{self._path}: cannot write: {e.strerror}") from e

    def commit(self, told: Mapping[str, Any]) -> None:
        """All that was added is safe, and so is what is `told` about it."""
        self.told = dict(told)
        state = {"settings": self._settings, "told": self.told, **self._shards.state()}
        json_file.write(self._directory / _PART, state)

    def finish(self, files: Mapping[str, str]) -> None:
        """Makes `path` of it, with some more text files by name.

        Raises:
          InputError: there are no episodes, or the folder cannot be written.
        """
        self._shards.close()
        try:
            _describe(self._path, self._shards, self._directory, self._name, self._spec, _ENCODING)
            for name, text in files.items():
                atomic.write_text(self._directory / name, text)
            os.replace(self._directory, self._path)
            atomic.remove(self._path / _PART)
        except OSError as e:
            raise InputError(f"{self._path}: cannot write: {e.strerror}") from e

    @property
    def n_episodes(self) -> int:
        """Episodes so far."""
        return sum(self._shards.lengths)

    def discard(self) -> None:
        """Removes all that was begun."""
        self._shards.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __exit__(self, *_: object) -> None:
        # What matters is closed by then; a disk that is full is full here too.
        with contextlib.suppress(OSError):
            self._shards.close()
        self._encoder.__exit__()


def _check_names(name: str, spec: DatasetSpec) -> None:
    if len({feature_name(k) for k in spec.keys}) < len(spec.keys):
        raise InputError(f"observation keys {spec.keys} collide when '/' becomes '_'")
    if not (name.isidentifier() and name.isascii() and name[0].isalpha()):
        raise InputError(
            f"dataset name '{name}' must be a letter followed by letters, digits and underscores"
        )


class _Shards(contextlib.AbstractContextManager):
    """Numbered files of records, a new one whenever the last is full."""

    def __init__(self, directory: pathlib.Path, limit: int):
        self.lengths: list[int] = []
        self.n_bytes = 0
        self._directory, self._limit = directory, limit
        self._file: BinaryIO | None = None

    def add(self, payload: bytes) -> None:
        if self._file is None or self._file.tell() > self._limit:
            self.close()
            self._file = open(self.path(len(self.lengths)), "wb")
            self.lengths.append(0)
        tfrecord.write(self._file, payload)
        self.n_bytes += len(payload)
        self.lengths[-1] += 1

    def path(self, i: int) -> pathlib.Path:
        return self._directory / f"shard-{i}"

    def state(self) -> dict[str, Any]:
        """Where it stands, for `go_on`; all of it is on disk."""
        if self._file is None:
            return {"lengths": self.lengths, "size": 0, "n_bytes": self.n_bytes}
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"lengths": self.lengths, "size": self._file.tell(), "n_bytes": self.n_bytes}

    def go_on(self, lengths: Sequence[int], size: int, n_bytes: int) -> None:
        """Continues where `state` was; what was written since is dropped."""
        self.lengths, self.n_bytes = list(lengths), n_bytes
        for path in self._directory.iterdir():
            if path.name not in {_PART, *(f"shard-{i}" for i in range(len(lengths)))}:
                path.unlink()
        if lengths:
            os.truncate(self.path(len(lengths) - 1), size)
            self._file = open(self.path(len(lengths) - 1), "ab")

    def close(self) -> None:
        """Closes the last file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __exit__(self, *_: object) -> None:
        self.close()


def _describe(
    path: str | os.PathLike[str],
    shards: _Shards,
    directory: pathlib.Path,
    name: str,
    spec: DatasetSpec,
    encoding: str,
) -> None:
    """Makes a dataset of shards that are complete."""
    if not shards.lengths:
        raise InputError(f"{os.fspath(path)}: there are no episodes to write")
    _write_descriptions(directory, _info(name, shards), spec, encoding)
    _rename_shards(shards, directory, name)


def _rename_shards(shards: _Shards, directory: pathlib.Path, name: str) -> None:
    """The number of shards is part of their names and known only at the end."""
    n = len(shards.lengths)
    for i in range(n):
        os.replace(shards.path(i), directory / f"{name}-{_SPLIT}.tfrecord-{i:05d}-of-{n:05d}")


def _undo_names(directory: pathlib.Path, name: str) -> None:
    """Undoes `_rename_shards`, where a program was killed during or after it."""
    for path in directory.glob(f"{name}-{_SPLIT}.tfrecord-*-of-*"):
        number = int(path.name.split("-")[-3])
        os.replace(path, directory / f"shard-{number}")


def _info(name: str, shards: _Shards) -> dict[str, Any]:
    split = {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": _SPLIT,
        "numBytes": str(shards.n_bytes),
        "shardLengths": [str(n) for n in shards.lengths],
    }
    return {
        "description": "Robot episodes in RLDS form, written by jaxpolicy.",
        "fileFormat": "tfrecord",
        "name": name,
        "releaseNotes": {"1.0.0": "Initial release."},
        "splits": [split],
        "version": "1.0.0",
    }


def _write_descriptions(
    directory: pathlib.Path, info: dict[str, Any], spec: DatasetSpec, encoding: str
) -> None:
    atomic.write_text(directory / "dataset_info.json", json.dumps(info, indent=2) + "\n")
    atomic.write_text(directory / "features.json", features.to_json(_features(spec, encoding)))
    facts = Facts(1, spec.observation, spec.action)
    atomic.write_text(directory / FACTS_FILE, facts.to_json())


def _features(spec: DatasetSpec, encoding: str) -> Iterator[Feature]:
    for array in spec.observation:
        kind = "image" if is_camera(array.name) else "tensor"
        path = OBSERVATION + feature_name(array.name)
        how = encoding if kind == "image" else ""
        yield Feature(path, kind, array.shape, array.dtype, how, f"Unit: {array.unit or '-'}.")
    doc = ", ".join(f"{n} [{u}]" for n, u in zip(spec.action.names, spec.action.units, strict=True))
    yield Feature(STEPS + "action", "tensor", (spec.action.size,), "float32", doc=doc)
    for name, dtype in _STEP_SCALARS.items():
        yield Feature(STEPS + name, "tensor", (), dtype)
    yield Feature(STEPS + "language_instruction", "text")
    for name in _METADATA_TEXT:
        yield Feature(METADATA + name, "text")
    yield Feature(VARIATION, "text", doc="Name -> number: what was randomised.")
    for name, dtype in _METADATA_NUMBERS.items():
        yield Feature(METADATA + name, "tensor", (), dtype)


class _Encoder(contextlib.AbstractContextManager):
    """Episode -> serialised Example; images are encoded by a few threads."""

    def __init__(self, spec: DatasetSpec, encoding: str, quality: int):
        self._spec, self._encoding, self._quality = spec, encoding, quality
        self._arrays = (*spec.observation, ArraySpec("action", (spec.action.size,)))
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        self._seen: set[str] = set()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def __call__(self, episode: Episode) -> bytes:
        _check(episode, self._arrays, self._seen)
        self._seen.add(episode.metadata.episode_id)
        return example_proto.encode(
            {**self._observation(episode), **_step_values(episode), **_metadata_values(episode)}
        )

    def _observation(self, episode: Episode) -> dict[str, Value]:
        values = ((s, episode.observation[s.name]) for s in self._spec.observation)
        return {OBSERVATION + feature_name(s.name): self._value(s, v) for s, v in values}

    def _value(self, spec: ArraySpec, value: np.ndarray) -> Value:
        return list(self._pool.map(self._image, value)) if is_camera(spec.name) else value

    def _image(self, image: np.ndarray) -> bytes:
        return images.encode(image, self._encoding, self._quality)


def _check(episode: Episode, arrays: Sequence[ArraySpec], seen: set[str]) -> None:
    name = episode.metadata.episode_id
    if name in seen or not name:
        raise InputError(f"episode '{name}': episode_id must be unique and not empty")
    check_episode(episode, arrays)


def _step_values(episode: Episode) -> dict[str, Value]:
    n = len(episode)
    first, last = np.arange(n) == 0, np.arange(n) == n - 1
    values: dict[str, Value] = {
        "action": episode.action,
        "reward": np.asarray(episode.reward, np.float32),
        "discount": np.ones(n, np.float32),
        "is_first": first,
        "is_last": last & episode.metadata.complete,
        "is_terminal": last & episode.is_terminal,
        "language_instruction": [episode.language_instruction.encode()] * n,
    }
    return {STEPS + k: v for k, v in values.items()}


def _metadata_values(episode: Episode) -> dict[str, Value]:
    facts = dataclasses.asdict(episode.metadata)
    facts["has_success"] = episode.metadata.success is not None
    facts["success"] = bool(episode.metadata.success)
    texts = {METADATA + k: [facts[k].encode()] for k in _METADATA_TEXT}
    numbers = {METADATA + k: np.array([facts[k]], t) for k, t in _METADATA_NUMBERS.items()}
    variation = json.dumps(dict(episode.metadata.variation), sort_keys=True)
    return {**texts, **numbers, VARIATION: [variation.encode()]}

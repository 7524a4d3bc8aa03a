"""Minari datasets: data/main_data.hdf5 with a group episode_<i> each.

Layout: minari.farama.org/content/dataset_standards. Observations are arrays, dictionaries or
tuples of T + 1 rows; the last one, which no action answers, is left out.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import EpisodeMetadata
from jaxpolicy.data.formats import arrays, hdf5
from jaxpolicy.data.formats.hdf5 import Array, Group
from jaxpolicy.data.reader import Declared, Field, Steps, hash_files

__all__ = ["DATA_FILE", "MinariReader", "matches"]

DATA_FILE = "main_data.hdf5"
_METADATA_FILE = "metadata.json"
_PATTERNS = (DATA_FILE, f"data/{DATA_FILE}", f"*/data/{DATA_FILE}", f"*/*/data/{DATA_FILE}")
# What environments of Gymnasium-Robotics and others call it.
_SUCCESS = ("infos/success", "infos/is_success")
_FLAGS = ("rewards", "terminations", "truncations")
_MAX_METADATA = 2**24


class MinariReader:
    """Episodes of a Minari dataset.

    Attributes:
      location: the HDF5 file.
      fields, declared: see data.reader.Reader; fields are named as below an episode.
    """

    location: pathlib.Path
    fields: Mapping[str, Field]
    declared: Declared

    def __init__(self, path: str | os.PathLike[str]):
        """Lists the episodes; reads of the first how large things are.

        Args:
          path: main_data.hdf5, or a folder up to three levels above it.

        Raises:
          InputError: names the file and group that is missing or corrupt.
        """
        self.location = _find(pathlib.Path(path))
        about = _read_metadata(self.location.parent / _METADATA_FILE)
        self._name = str(about.get("dataset_id") or self.location.name)
        self._task = _environment(about)
        self.declared = Declared()
        self._survey = hdf5.survey([self.location])[self.location]
        with hdf5.opened(self.location, self._survey) as root:
            self._names = [n for n in root.names if n.startswith("episode_")]
        if not self._names:
            raise InputError(f"{self.location}: the dataset holds no episodes (episode_0)")
        self.fields = arrays.first_readable(len(self), self._describe)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._names)

    def read(self, i: int, names: Collection[str]) -> Steps:
        """Episode `i`; `values` holds the fields `names`, nothing else is decoded."""
        with self._opened(i) as episode:
            stored = episode.pick(*names, *_FLAGS, *_SUCCESS)
            rows = (0, _n_steps(episode))
            ended = _last(stored, "terminations")
            broken_off = ended is False and _last(stored, "truncations") is False
            success = [_last(stored, n) for n in _SUCCESS]
            seed = episode.attribute("seed")
            return Steps(
                values=arrays.values(stored, self.fields, names, rows, episode.where),
                n_steps=rows[1],
                metadata=EpisodeMetadata(
                    episode_id=self._names[i],
                    success=next((s for s in success if s is not None), None),
                    source=self._name,
                    task=self._task,
                    seed=int(seed) if isinstance(seed, int) else -1,
                    complete=not broken_off,
                ),
                reward=arrays.scalars(stored, ("rewards",), rows),
                is_terminal=bool(ended),
            )

    def content_hash(self, i: int) -> str:
        """Digest of everything in episode `i` as stored."""
        with self._opened(i) as episode:
            return arrays.digest(episode.arrays(), (0, None), "")

    def fingerprint(self) -> str:
        """Digest of the data and of their description."""
        beside = self.location.parent / _METADATA_FILE
        paths = [self.location, *([beside] if beside.is_file() else [])]
        return hash_files(paths, self.location.parent)

    def _describe(self, i: int) -> Mapping[str, Field]:
        with self._opened(i) as episode:
            n_steps = _n_steps(episode)
            return arrays.fields(episode.arrays(), (n_steps, n_steps + 1), "observations")

    @contextlib.contextmanager
    def _opened(self, i: int) -> Iterator[Group]:
        with hdf5.opened(self.location, self._survey) as root:
            yield root.group(self._names[i])


def matches(path: pathlib.Path) -> bool:
    """Whether `path` is a main_data.hdf5, or there is one in it or up to three levels below."""
    if path.is_file():
        return hdf5.looks_like(
            path,
            lambda top: any(n.startswith("episode_") for n in top),
            lambda name: name == DATA_FILE,
        )
    return bool(_below(path))


def _below(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted({p for pattern in _PATTERNS for p in path.glob(pattern)})


def _find(path: pathlib.Path) -> pathlib.Path:
    """The HDF5 file: `path` or the only main_data.hdf5 below."""
    if path.is_file():
        return path
    found = _below(path)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{path}: holds several datasets, name one: {', '.join(map(str, found))}")
    raise InputError(f"{path}: no data/{DATA_FILE} here or below; not a Minari dataset")


def _read_metadata(path: pathlib.Path) -> dict[str, Any]:
    """metadata.json; {} where there is none (Minari < 0.5)."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MAX_METADATA:
            raise InputError(f"{path}: is larger than {_MAX_METADATA >> 20} MiB; not of a dataset")
        value = json.loads(path.read_text(encoding="utf-8"))
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as e:
        raise InputError(f"{path}: not valid JSON: {e}") from e
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a JSON object")
    return value


def _environment(about: Mapping[str, Any]) -> str:
    """Gymnasium's name of the environment, "" where nobody said."""
    spec = about.get("env_spec")
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        value = json.loads(spec) if isinstance(spec, str) else spec
        name = value.get("id") if isinstance(value, dict) else ""
        return name if isinstance(name, str) else ""
    return ""


def _n_steps(episode: Group) -> int:
    """T, the number of rewards, as large as total_steps says."""
    n_steps, claimed = len(episode.array("rewards")), episode.attribute("total_steps")
    if claimed is not None and claimed != n_steps:
        raise InputError(
            f"{episode.where}: total_steps is {claimed}, 'rewards' holds {n_steps}; "
            "the file is damaged"
        )
    return n_steps


def _last(stored: Mapping[str, Array], name: str) -> bool | None:
    """The last row of an array of flags; None where there is none."""
    array = stored.get(name)
    if array is None or array.kind != "number" or len(array.shape) != 1 or not len(array):
        return None
    return bool(array.read(len(array) - 1)[0])

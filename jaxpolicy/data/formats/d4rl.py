"""D4RL datasets: flat arrays of all steps in one HDF5 file, cut into episodes by flags.

Layout: the wiki of Farama-Foundation/D4RL: observations, actions, rewards, terminals, timeouts
(an episode's end by time), infos/*. Steps after the last flag are an episode that breaks off.
"""

import contextlib
import os
import pathlib
from collections.abc import Collection, Mapping

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import EpisodeMetadata
from jaxpolicy.data.formats import arrays, hdf5
from jaxpolicy.data.formats.hdf5 import Group
from jaxpolicy.data.reader import Declared, Field, Steps, hash_files

__all__ = ["D4rlReader", "matches"]

# next_observations repeats observations; metadata describes the policy that collected.
_LEFT_OUT = ("next_observations", "metadata")


class D4rlReader:
    """Episodes of a D4RL file; only the flags are read beforehand.

    Attributes:
      location: the HDF5 file.
      fields, declared: see data.reader.Reader; fields are named as in the file.
    """

    location: pathlib.Path
    fields: Mapping[str, Field]
    declared: Declared

    def __init__(self, path: str | os.PathLike[str]):
        """Finds the ends of the episodes.

        Args:
          path: HDF5 file, or a folder that holds one.

        Raises:
          InputError: names the file and array that is missing or corrupt.
        """
        found = hdf5.files(pathlib.Path(path))
        if len(found) != 1:
            raise InputError(f"{os.fspath(path)}: must be, or hold, one HDF5 file of D4RL")
        self.location = found[0]
        self.declared = Declared()
        self._survey = hdf5.survey([self.location])[self.location]
        with self._opened() as root:
            n_steps = len(root.array("actions"))
            if not n_steps:
                raise InputError(f"{self.location}: 'actions' holds no steps")
            self._terminals = _flags(root, "terminals", n_steps)
            self._stops = _stops(self._terminals | _flags(root, "timeouts", n_steps))
            self.fields = arrays.fields(root.arrays(_LEFT_OUT), (n_steps,), "observations")

    def __len__(self) -> int:
        """Number of episodes, an unfinished one included."""
        return len(self._stops)

    def read(self, i: int, names: Collection[str]) -> Steps:
        """Episode `i`; `values` holds the fields `names`, nothing else is read."""
        rows = self._rows(i)
        where = f"{self.location}: steps {rows[0]} to {rows[1]}"
        with self._opened() as root:
            stored = root.pick(*names, "rewards")
            return Steps(
                values=arrays.values(stored, self.fields, names, rows, where),
                n_steps=rows[1] - rows[0],
                metadata=EpisodeMetadata(
                    episode_id=f"episode-{i:06d}",
                    source=self.location.name,
                    task=self.location.stem,
                    complete=self._is_complete(i),
                ),
                reward=arrays.scalars(stored, ("rewards",), rows),
                is_terminal=bool(self._terminals[rows[1] - 1]),
            )

    def content_hash(self, i: int) -> str:
        """Digest of everything in the steps of episode `i` as stored."""
        with self._opened() as root:
            stored = root.arrays(_LEFT_OUT)
            steps = {n: a for n, a in stored.items() if self.fields[n].kind != "other"}
            return arrays.digest(steps, self._rows(i), "")

    def fingerprint(self) -> str:
        """Digest of the file."""
        return hash_files([self.location], self.location.parent)

    def _opened(self) -> contextlib.AbstractContextManager[Group]:
        return hdf5.opened(self.location, self._survey)

    def _rows(self, i: int) -> tuple[int, int]:
        """(first step, one past the last) of episode `i`."""
        stop, _ = self._stops[i]
        return (self._stops[i - 1][0] if i else 0), stop

    def _is_complete(self, i: int) -> bool:
        return self._stops[i][1]


def matches(path: pathlib.Path) -> bool:
    """Whether `path` is, or holds, one HDF5 file with observations, actions and flags."""
    return len(hdf5.files(path)) == 1 and hdf5.looks_like(
        path,
        lambda top: (
            {"observations", "actions"} <= top.keys()
            and top["actions"] in ("array", "damaged")
            and not top.keys().isdisjoint(("terminals", "timeouts", "rewards"))
        ),
        lambda name: False,
    )


def _flags(root: Group, name: str, n_steps: int) -> np.ndarray:
    """Bool [N]; all False where the file has no such flags."""
    if name not in root:
        return np.zeros(n_steps, bool)
    values = arrays.scalars({name: root.array(name)}, (name,), (0, n_steps))
    return np.zeros(n_steps, bool) if values is None else values != 0


def _stops(ends: np.ndarray) -> list[tuple[int, bool]]:
    """(one past the last step, whether a flag ends it) of every episode."""
    stops = [(int(i) + 1, True) for i in np.flatnonzero(ends)]
    if len(ends) and not ends[-1]:
        stops.append((len(ends), False))
    return stops

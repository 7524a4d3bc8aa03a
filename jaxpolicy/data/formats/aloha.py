"""ALOHA and ACT datasets: a folder of episode_<i>.hdf5, one episode each.

Layout: record_episodes.py and record_sim_episodes.py of tonyzhaozh/aloha and tonyzhaozh/act,
and of Mobile ALOHA, which packs images: observations/{qpos, qvel, effort, images/<camera>},
action (positions of the leader arm's joints), base_action, attributes sim and compress.

Packed images are JPEG, a row of padded bytes a frame; `compress_len`, the lengths before
padding, is not needed, for the end of a JPEG is marked. They are decoded as the pictures that
any viewer shows: a recorder that handed RGB frames to OpenCV's encoder swapped red and blue.

The files do not say their rate (50 Hz on ALOHA, less elsewhere): set data.control_hz, unless
there is an attribute control_hz or fps.
"""

import contextlib
import os
import pathlib
from collections.abc import Collection, Mapping

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import EpisodeMetadata
from jaxpolicy.data.formats import arrays, hdf5
from jaxpolicy.data.formats.hdf5 import Group
from jaxpolicy.data.reader import Declared, Field, Steps, hash_files

__all__ = ["AlohaReader", "matches"]

_ACTION, _PROPRIO = "action", "observations/qpos"
# Two arms of six joints and a gripper, as opening from 0 to 1: constants.py of tonyzhaozh/act.
_TWO_ARMS = (*("rad",) * 6, "1") * 2
_LEFT_OUT = ("compress_len",)
_INSTRUCTIONS = ("language_instruction", "instruction", "task_description", "language")
_REWARDS = ("reward", "rewards")
_RATES = ("control_hz", "fps")


class AlohaReader:
    """Episodes of a folder in ALOHA's layout.

    Attributes:
      location: file or folder.
      fields, declared: see data.reader.Reader; fields are named as in the file.
    """

    location: pathlib.Path
    fields: Mapping[str, Field]
    declared: Declared

    def __init__(self, path: str | os.PathLike[str]):
        """Lists the files; reads of the first how large things are.

        Args:
          path: HDF5 file, or a folder of them.

        Raises:
          InputError: names the file and group that is missing or corrupt.
        """
        self.location = pathlib.Path(path)
        self._files = hdf5.files(self.location)
        if not self._files:
            raise InputError(f"{self.location}: no episode_0.hdf5 here; not an ALOHA dataset")
        self._surveys = hdf5.survey(self._files)
        self.fields, self.declared = arrays.first_readable(len(self), self._describe)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._files)

    def read(self, i: int, names: Collection[str]) -> Steps:
        """Episode `i`; `values` holds the fields `names`, nothing else is decoded."""
        path = self._files[i]
        with self._opened(i) as root:
            stored, rows = root.pick(*names, *_REWARDS), (0, len(root.array(_ACTION)))
            return Steps(
                values=arrays.values(stored, self.fields, names, rows, str(path)),
                n_steps=rows[1],
                metadata=EpisodeMetadata(
                    episode_id=path.stem,
                    success=_flag(root, "success"),
                    source=path.parent.name,
                    task=root.text("task", "task_name"),
                ),
                instruction=root.text(*_INSTRUCTIONS),
                reward=arrays.scalars(stored, _REWARDS, rows),
            )

    def content_hash(self, i: int) -> str:
        """Digest of everything in the steps of episode `i` as stored."""
        with self._opened(i) as root:
            return arrays.digest(root.arrays(_LEFT_OUT), (0, None), root.text(*_INSTRUCTIONS))

    def fingerprint(self) -> str:
        """Digest of the files."""
        root = self.location if self.location.is_dir() else self.location.parent
        return hash_files(self._files, root)

    def _describe(self, i: int) -> tuple[Mapping[str, Field], Declared]:
        with self._opened(i) as root:
            n_rows = (len(root.array(_ACTION)),)
            fields = arrays.fields(root.arrays(_LEFT_OUT), n_rows, "observations/")
            return fields, _declared(root, fields)

    def _opened(self, i: int) -> contextlib.AbstractContextManager[Group]:
        return hdf5.opened(self._files[i], self._surveys[self._files[i]])


def matches(path: pathlib.Path) -> bool:
    """Whether `path` is, or holds first of all, HDF5 with `observations` and `action`."""
    return hdf5.looks_like(
        path,
        lambda top: top.get("observations") in ("group", "damaged") and _ACTION in top,
        lambda name: name.startswith("episode_"),
    )


def _declared(root: Group, fields: Mapping[str, Field]) -> Declared:
    rates = [root.attribute(n) for n in _RATES]
    rate = next((float(r) for r in rates if type(r) in (int, float) and 0 < r < 1e6), 0.0)
    return Declared(
        action=(_ACTION,),
        proprio=(_PROPRIO,) if _PROPRIO in fields else (),
        action_kind="joint_position",
        action_units=_TWO_ARMS if fields[_ACTION].shape == (len(_TWO_ARMS),) else (),
        control_hz=rate,
    )


def _flag(root: Group, name: str) -> bool | None:
    value = root.attribute(name)
    return bool(value) if isinstance(value, bool | int) else None

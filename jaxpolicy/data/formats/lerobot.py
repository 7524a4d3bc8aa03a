"""LeRobot datasets, format v3.0, v2.1 and v2.0: Parquet, with cameras as video or images.

Read with pyarrow and PyAV (extra "lerobot"); LeRobot itself is not needed. `lerobot_writer`
writes v3.0 that LeRobot loads.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import EpisodeMetadata
from jaxpolicy.data import images, reader
from jaxpolicy.data.facts import FACTS_FILE, Facts
from jaxpolicy.data.formats import lerobot_tables
from jaxpolicy.data.formats.lerobot_files import Folder, fill
from jaxpolicy.data.formats.lerobot_index import read_index, read_tasks
from jaxpolicy.data.formats.lerobot_info import INFO_FILE, read_info
from jaxpolicy.data.formats.lerobot_names import RECORD_COLUMN, Record, feature_name
from jaxpolicy.data.formats.lerobot_tables import Tables
from jaxpolicy.data.formats.lerobot_video import Videos
from jaxpolicy.data.reader import Declared, Field, Steps, check_size

__all__ = ["LeRobotReader", "matches"]

_FACTS = f"meta/{FACTS_FILE}"
_FLAGS = ("next.done", "next.success", "next.truncated")
_REWARD = "next.reward"


def matches(path: pathlib.Path) -> bool:
    """Whether `path` holds a meta/info.json that names a codebase_version."""
    try:
        with open(path / INFO_FILE, "rb") as file:
            return (path / INFO_FILE).is_file() and b'"codebase_version"' in file.read(2**20)
    except (OSError, ValueError):
        return False


class LeRobotReader:
    """Episodes of a LeRobot dataset.

    Attributes:
      location: its folder.
      fields, declared: see data.reader.Reader; names as in info.json.
      name: of the folder.
    """

    location: pathlib.Path
    fields: Mapping[str, Field]
    declared: Declared

    def __init__(self, path: str | os.PathLike[str]):
        """Reads the descriptions, no episode yet.

        Args:
          path: folder with meta/info.json.

        Raises:
          InputError: names the file that is missing, malformed or inconsistent, or the
            package that is missing.
        """
        self.location = pathlib.Path(path)
        self.name = self.location.name
        self._folder = Folder(self.location)
        self._info = read_info(self._folder)
        self._tables = Tables()
        self._index = read_index(self._folder, self._info, self._tables)
        self._tasks = read_tasks(self._folder, self._info, self._tables)
        self.declared = self._declare()
        self.fields = self._fields()

    def __len__(self) -> int:
        """Number of episodes, failed ones included."""
        return len(self._index)

    def read(self, i: int, names: Collection[str]) -> Steps:
        """Episode `i`; `values` holds the fields `names`, nothing else is decoded."""
        path, where = self._data_path(i)
        n_steps = int(self._index.lengths[i])
        check_size(n_steps, [self.fields[n] for n in names], where)
        facts = self._present(path, (*_FLAGS, _REWARD, "task_index", "timestamp"))
        own = [n for n in names if n not in self._info.videos]
        table = self._rows(i, path, sorted({*own, *facts, "episode_index"}))
        times = self._times(table, n_steps, where)
        values = {n: self._field(table, n, where) for n in own}
        for name in sorted(set(names) & self._info.videos):
            values[name] = self._frames(i, name, times)
        return self._steps(i, values, table, where)

    def content_hash(self, i: int) -> str:
        """Digest of the numbers, the coded pictures and the instruction of episode `i`.

        Cameras count as they are stored: two episodes with the same pictures that were
        encoded differently are not taken for one.
        """
        path, where = self._data_path(i)
        check_size(int(self._index.lengths[i]), self.fields.values(), where)
        own = [n for n, f in self.fields.items() if n not in self._info.videos]
        stored = self._present(path, own)
        table = self._rows(i, path, sorted({*stored, "episode_index", "task_index", "timestamp"}))
        values = {n: self._field(table, n, where) for n in stored if self._is_number(n)}
        digest = hashlib.sha256(reader.hash_values(values, self._task(table, where)).encode())
        for name in stored:
            if self.fields[name].kind == "image":
                for data, _ in lerobot_tables.pictures(table, name, where):
                    digest.update(hashlib.sha256(data or b"").digest())
        for name in sorted(self._info.videos):
            digest.update(self._video_digest(i, name, len(table)).encode())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Digest of all files of the dataset."""
        index = self._index
        paths = [p for m in ("meta/*", "meta/episodes/*/*") for p in _files(self.location, m)]
        paths += [self._data_path(i)[0] for i in _one_per_file(index.files)]
        for name in sorted(index.videos):
            paths += [self._video_path(i, name) for i in _one_per_file(index.videos[name].files)]
        return reader.hash_files(paths, self.location)

    # -------------------------------------------------------------- places

    def _data_path(self, i: int) -> tuple[pathlib.Path, str]:
        """Data file of episode `i`, and how messages name the episode."""
        place = fill(self._info.data_path, self._index.values(i), str(self.location / INFO_FILE))
        path = self._folder.file(place)
        return path, f"{path}: episode {self._index.ids[i]}"

    def _video_path(self, i: int, name: str) -> pathlib.Path:
        values: dict[str, int | str] = {**self._index.video_values(i, name), "video_key": name}
        place = fill(self._info.video_path, values, str(self.location / INFO_FILE))
        return self._folder.file(place)

    def _rows(self, i: int, path: pathlib.Path, columns: Sequence[str]) -> Any:
        """Steps of episode `i` as a table; checks that they are its own."""
        first, n_steps = int(self._index.first_rows[i]), int(self._index.lengths[i])
        if self._info.version == 2 and self._tables.n_rows(path) != n_steps:
            raise InputError(
                f"{path}: holds {self._tables.n_rows(path)} rows, its description says {n_steps}"
            )
        table = self._tables.rows(path, first, first + n_steps, columns)
        found = lerobot_tables.array(table, "episode_index", (), "int64", str(path))
        if (found != self._index.ids[i]).any():
            raise InputError(
                f"{path}: rows {first} to {first + n_steps} must be of episode "
                f"{self._index.ids[i]}, they are of {np.unique(found)[:3].tolist()}"
            )
        return table

    def _present(self, path: pathlib.Path, names: Sequence[str]) -> list[str]:
        there = set(self._tables.columns(path))
        return [n for n in names if n in there]

    # -------------------------------------------------------------- contents

    def _is_number(self, name: str) -> bool:
        return self.fields[name].kind == "number"

    def _field(self, table: Any, name: str, where: str) -> np.ndarray:
        field = self.fields[name]
        if field.kind == "number":
            shape = [d or 0 for d in field.shape]
            return lerobot_tables.array(table, name, shape, field.dtype, where)
        if field.kind == "image":
            return self._pictures(table, field, where)
        raise InputError(f"{where}: feature '{name}' is not an array of numbers or a picture")

    def _pictures(self, table: Any, field: Field, where: str) -> np.ndarray:
        """Images that lie in the table, uint8 [T, H, W, 3]."""
        shape = tuple(d or 0 for d in field.shape)
        out = np.empty((len(table), *shape), np.uint8)
        for t, (data, path) in enumerate(lerobot_tables.pictures(table, field.name, where)):
            place = f"{where}, step {t}, '{field.name}'"
            data = self._folder.file(path).read_bytes() if data is None else data
            frame = images.decode(data, place)
            if frame.shape != shape:
                raise InputError(f"{place}: must be {list(shape)}, got {list(frame.shape)}")
            out[t] = frame
        return out

    def _frames(self, i: int, name: str, times: np.ndarray) -> np.ndarray:
        start = float(self._index.videos[name].starts[i])
        shape = [d or 0 for d in self.fields[name].shape]
        path = self._video_path(i, name)
        try:
            return self._videos.frames(path, start + times, 0.5 / self._info.fps, shape)
        except InputError as e:
            raise InputError(f"{e} (episode {self._index.ids[i]})") from e

    def _video_digest(self, i: int, name: str, n_steps: int) -> str:
        start, step = float(self._index.videos[name].starts[i]), 1 / self._info.fps
        shape = [d or 0 for d in self.fields[name].shape]
        window = start - step / 2, start + (n_steps - 0.5) * step
        return self._videos.digest(self._video_path(i, name), *window, shape)

    @functools.cached_property
    def _videos(self) -> Videos:
        return Videos()

    def _times(self, table: Any, n_steps: int, where: str) -> np.ndarray:
        """Times of the steps from the start of the episode, s, ascending."""
        if "timestamp" not in table.column_names:
            return np.arange(n_steps) / self._info.fps
        times = lerobot_tables.array(table, "timestamp", (), "float64", where)
        if not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise InputError(f"{where}: timestamps must be finite and ascend")
        return times

    def _task(self, table: Any, where: str) -> str:
        if "task_index" not in table.column_names or not len(table):
            return ""
        index = int(lerobot_tables.array(table, "task_index", (), "int64", where)[0])
        try:
            return self._tasks[index]
        except KeyError as e:
            raise InputError(f"{where}: task {index} is not among the dataset's tasks") from e

    def _flag(self, table: Any, name: str, where: str) -> np.ndarray | None:
        """A number or flag of every step, [T]; None where the dataset has none."""
        if name not in table.column_names or not self._is_scalar(name):
            return None
        field = self.fields[name]
        return lerobot_tables.array(table, name, (), field.dtype, where)

    def _is_scalar(self, name: str) -> bool:
        field = self.fields.get(name)
        return field is not None and field.kind == "number" and field.shape in ((), (1,))

    def _steps(self, i: int, values: Mapping[str, np.ndarray], table: Any, where: str) -> Steps:
        done, success, truncated = (self._flag(table, n, where) for n in _FLAGS)
        task = self._task(table, where)
        metadata = self._metadata(i, task, success)
        is_terminal = _last(done) and not _last(truncated)
        record = self._index.text(self._tables, i, RECORD_COLUMN) if self.declared.spec else ""
        if record:
            own = Record.from_json(record, f"{self.location}: episode {self._index.ids[i]}")
            metadata, is_terminal = own.metadata, own.is_terminal
        return Steps(
            values=values,
            n_steps=len(table),
            metadata=metadata,
            instruction=task,
            reward=self._flag(table, _REWARD, where),
            is_terminal=is_terminal,
        )

    def _metadata(self, i: int, task: str, success: np.ndarray | None) -> EpisodeMetadata:
        said = {0: False, 1: True}.get(int(self._index.success[i]))
        return EpisodeMetadata(
            episode_id=f"episode_{self._index.ids[i]:06d}",
            success=said if success is None else bool(success.any()),
            source=self.name,
            robot=self._info.robot,
            task=task,
        )

    # -------------------------------------------------------------- descriptions

    def _declare(self) -> Declared:
        if self._folder.has(_FACTS):
            facts = Facts.from_json(
                json.dumps(self._folder.json(_FACTS)), str(self.location / _FACTS)
            )
            return Declared(
                observation={s.name: feature_name(s.name) for s in facts.observation},
                spec=facts.spec,
                action=("action",),
            )
        action = self._info.fields.get("action")
        is_joints = bool(action and action.names) and all(
            n.endswith(".pos")
            for n in action.names  # type: ignore[union-attr]
        )
        return Declared(
            action_kind="joint_position" if is_joints else "", control_hz=self._info.fps
        )

    def _fields(self) -> dict[str, Field]:
        """What info.json says; scalars of ours have shape [], which LeRobot writes as [1]."""
        spec = self.declared.spec
        scalars = {feature_name(s.name) for s in spec.observation if s.shape == ()} if spec else ()
        return {
            n: dataclasses.replace(f, shape=()) if n in scalars and f.shape == (1,) else f
            for n, f in self._info.fields.items()
        }


def _files(root: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    return sorted(p for p in root.glob(pattern) if p.is_file())


def _one_per_file(files: np.ndarray) -> list[int]:
    """An episode of every different row of [N, 2]."""
    return np.unique(files, axis=0, return_index=True)[1].tolist()


def _last(flags: np.ndarray | None) -> bool:
    return flags is not None and len(flags) > 0 and bool(flags[-1])

"""Writes LeRobot v3.0 that LeRobot loads: streams episodes, appears atomically.

Extra "lerobot"; LeRobot itself is not needed. What LeRobot has no place for (units, bounds,
kind of action, who collected an episode) goes to meta/jaxpolicy.json and to one more column
of meta/episodes, which LeRobot leaves alone.
"""

import contextlib
import dataclasses
import fractions
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxpolicy.core import atomic
from jaxpolicy.core.specs import ArraySpec, InputError, is_camera
from jaxpolicy.core.types import DatasetSpec, Episode
from jaxpolicy.data import images
from jaxpolicy.data.facts import FACTS_FILE, Facts
from jaxpolicy.data.formats import lerobot_stats
from jaxpolicy.data.formats.lerobot_files import package
from jaxpolicy.data.formats.lerobot_info import BOOKKEEPING, INFO_FILE
from jaxpolicy.data.formats.lerobot_names import RECORD_COLUMN, Record, feature_name
from jaxpolicy.data.formats.lerobot_stats import STATS, Running, Stats
from jaxpolicy.data.formats.lerobot_table_writer import (
    TableWriter,
    column,
    column_type,
    hugging_face_type,
)
from jaxpolicy.data.formats.lerobot_video_writer import CODECS, VideoPlace, VideoWriter, encode
from jaxpolicy.data.source import check_episode

__all__ = ["write"]

_CHUNK = 1000
_ROWS_AT_ONCE = 200
# Of a description on disk, about; most are statistics of a few numbers.
_VALUE_BYTES = 16
# What every step holds besides observation and action.
_STEP = {"next.reward": "float32", "next.done": "bool"}
_INDEX = dict(zip(BOOKKEEPING, ("float32", "int64", "int64", "int64", "int64"), strict=True))
_CARD = """---
task_categories:
- robotics
tags:
- LeRobot
configs:
- config_name: default
  data_files: data/*/*.parquet
---

# {name}

A LeRobot v3.0 dataset written by jaxpolicy: {episodes} episodes, {frames} frames.
"""


def write(
    path: str | os.PathLike[str],
    episodes: Iterable[Episode],
    spec: DatasetSpec,
    name: str,
    codec: str = "av1",
    crf: int = 30,
    data_mb: int = 100,
    video_mb: int = 200,
) -> int:
    """Writes `episodes` as a LeRobot v3.0 dataset; returns how many.

    Memory does not grow with the number of steps; 100 bytes are kept for an episode and each
    different instruction. The folder appears only when complete.

    Args:
      path: new folder (or an empty one).
      episodes: consumed once; failed episodes belong in here with success=False.
      spec: what every step holds; each episode is checked against it.
      name: for the dataset card; LeRobot knows a dataset by its folder.
      codec: of cameras: "av1" (LeRobot's default), "h264", or "png" for lossless images
        inside the Parquet files.
      crf: quality of video, lower is better.
      data_mb, video_mb: sizes at which a new file is begun.

    Raises:
      InputError: names the episode and key that do not match `spec`, or the path.
    """
    codecs = (*CODECS, "png")
    if codec not in codecs:
        raise InputError(f"codec must be one of {', '.join(codecs)}, got '{codec}'")
    hz = spec.action.control_hz
    if not 0 < hz <= 1e5:
        raise InputError(
            f"LeRobot needs the rate of the steps: control_hz must be above 0, got {hz}; give "
            "data.control_hz"
        )
    _check_names(spec)
    plan = _Plan(spec, codec, crf, data_mb * 2**20, video_mb * 2**20)
    with atomic.new_directory(path) as directory:
        with _Writer(directory, plan) as writer:
            for episode in episodes:
                writer.add(episode)
        if not writer.n_episodes:
            raise InputError(f"{os.fspath(path)}: there are no episodes to write")
        writer.describe(name)
        return writer.n_episodes


def _check_names(spec: DatasetSpec) -> None:
    names = [feature_name(k) for k in spec.keys]
    taken = {*_STEP, *_INDEX, "action"}
    twice = sorted({n for n in names if names.count(n) > 1 or n in taken})
    if twice:
        raise InputError(
            f"observation keys {', '.join(spec.keys)} collide in LeRobot as {', '.join(twice)}; "
            "rename them"
        )


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is written and how."""

    spec: DatasetSpec
    codec: str
    crf: int
    data_bytes: int
    video_bytes: int

    @property
    def fps(self) -> fractions.Fraction:
        return fractions.Fraction(self.spec.action.control_hz).limit_denominator(1001)

    @property
    def cameras(self) -> dict[str, str]:
        """Feature -> observation key."""
        return {feature_name(k): k for k in self.spec.keys if is_camera(k)}

    @property
    def has_videos(self) -> bool:
        return self.codec in CODECS and bool(self.cameras)

    @property
    def numbers(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Feature -> dtype and shape, of all that is no picture."""
        vectors = [s for s in self.spec.observation if not is_camera(s.name)]
        found = {feature_name(s.name): (s.dtype, s.shape or (1,)) for s in vectors}
        found["action"] = ("float32", (self.spec.action.size,))
        return found | {n: (d, (1,)) for n, d in (_STEP | _INDEX).items()}

    def features(self) -> dict[str, dict[str, Any]]:
        """As info.json lists them."""
        names = {"action": list(self.spec.action.names)}
        kind = "video" if self.has_videos else "image"
        pictures = {
            n: {
                "dtype": kind,
                "shape": list(self.spec[k].shape),
                "names": ["height", "width", "channels"],
            }
            for n, k in self.cameras.items()
        }
        return pictures | {
            n: {"dtype": d, "shape": list(s), "names": names.get(n)}
            for n, (d, s) in self.numbers.items()
        }


class _Writer(contextlib.AbstractContextManager):
    """The files of a dataset that is being written."""

    def __init__(self, directory: pathlib.Path, plan: _Plan):
        self.n_episodes = 0
        self._n_frames = 0
        self._directory, self._plan = directory, plan
        self._arrays = (*plan.spec.observation, ArraySpec("action", (plan.spec.action.size,)))
        self._seen: set[str] = set()
        self._tasks: dict[str, int] = {}
        self._stats = Running()
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        self._data = TableWriter(directory / "data", _data_schema(plan), plan.data_bytes)
        self._rows: list[dict[str, Any]] = []
        self._descriptions = TableWriter(
            directory / "meta/episodes", _episode_schema(plan), plan.data_bytes
        )
        cameras = plan.cameras if plan.has_videos else {}
        self._videos = {
            n: VideoWriter(directory / "videos" / n, plan.fps, plan.video_bytes) for n in cameras
        }

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if kind is None and self._rows:
            self._flush()
        self._data.close()
        self._descriptions.close()
        for video in self._videos.values():
            video.close()

    def add(self, episode: Episode) -> None:
        """Writes one episode."""
        _check(episode, self._arrays, self._seen)
        self._seen.add(episode.metadata.episode_id)
        if not self.n_episodes:
            self._robot = episode.metadata.robot
        task = self._tasks.setdefault(episode.language_instruction, len(self._tasks))
        numbers = self._numbers(episode, task)
        cameras = {n: episode.observation[k] for n, k in self._plan.cameras.items()}
        stats = {n: lerobot_stats.of_numbers(v) for n, v in numbers.items()}
        pictured = self._pool.map(lerobot_stats.of_pictures, cameras.values())
        stats |= dict(zip(cameras, pictured, strict=True))
        places = self._write_videos(cameras)
        pictures = {} if self._plan.has_videos else cameras
        file = self._write_steps(numbers, pictures)
        self._stats.add(stats)
        self._rows.append(self._row(episode, file, places, stats))
        self.n_episodes += 1
        self._n_frames += len(episode)
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()

    def _numbers(self, episode: Episode, task: int) -> dict[str, np.ndarray]:
        """Feature -> [T, *shape]."""
        t = np.arange(len(episode))
        values: dict[str, Any] = {
            feature_name(k): episode.observation[k] for k in self._plan.spec.keys
        }
        values |= {
            "action": episode.action,
            "next.reward": episode.reward,
            "next.done": t == t[-1],
            "timestamp": t / float(self._plan.fps),
            "frame_index": t,
            "episode_index": np.full(len(t), self.n_episodes),
            "index": t + self._n_frames,
            "task_index": np.full(len(t), task),
        }
        return {
            n: np.asarray(values[n], dtype).reshape(-1, *shape)
            for n, (dtype, shape) in self._plan.numbers.items()
        }

    def _write_videos(self, cameras: Mapping[str, np.ndarray]) -> dict[str, VideoPlace]:
        if not self._plan.has_videos:
            return {}
        encoded = self._pool.map(self._encode, cameras.values())
        return {
            n: self._videos[n].add(video, len(cameras[n]))
            for n, video in zip(cameras, encoded, strict=True)
        }

    def _encode(self, frames: np.ndarray) -> bytes:
        return encode(frames, self._plan.fps, self._plan.codec, self._plan.crf)

    def _write_steps(
        self, numbers: Mapping[str, np.ndarray], pictures: Mapping[str, np.ndarray]
    ) -> int:
        """Writes a table of the steps; returns the number of the file."""
        columns = {n: column(v) for n, v in numbers.items()}
        for name, frames in pictures.items():
            columns[name] = [
                {"bytes": data, "path": f"frame-{t:06d}.png"}
                for t, data in enumerate(self._pool.map(_png, frames))
            ]
        return self._data.add(package("pyarrow").table(columns, self._data.schema))

    def _row(
        self,
        episode: Episode,
        file: int,
        places: Mapping[str, VideoPlace],
        stats: Mapping[str, Stats],
    ) -> dict[str, Any]:
        """Description of an episode, a row of meta/episodes."""
        row = {
            "episode_index": self.n_episodes,
            "tasks": [episode.language_instruction],
            "length": len(episode),
            **_file_indices("data", file),
            "dataset_from_index": self._n_frames,
            "dataset_to_index": self._n_frames + len(episode),
            RECORD_COLUMN: Record(episode.metadata, episode.is_terminal).to_json(),
        }
        for name, place in places.items():
            row |= _file_indices(f"videos/{name}", place.file)
            row[f"videos/{name}/from_timestamp"] = place.start
            row[f"videos/{name}/to_timestamp"] = place.stop
        for name, values in stats.items():
            row |= {f"stats/{name}/{k}": values[k].tolist() for k in STATS}
        return row

    def _flush(self) -> None:
        """Writes the buffered descriptions."""
        schema, pa = self._descriptions.schema, package("pyarrow")
        file = self._descriptions.place(_VALUE_BYTES * len(self._rows) * len(schema))
        rows = [r | _file_indices("meta/episodes", file) for r in self._rows]
        self._descriptions.add(pa.Table.from_pylist(rows, schema))
        self._rows = []

    def describe(self, name: str) -> None:
        """Writes what is known only at the end."""
        meta, info = self._directory / "meta", self._info()
        (self._directory / INFO_FILE).write_text(json.dumps(info, indent=4) + "\n")
        stats = {n: {k: v.tolist() for k, v in s.items()} for n, s in self._stats.result().items()}
        (meta / "stats.json").write_text(json.dumps(stats, indent=4) + "\n")
        _write_tasks(meta / "tasks.parquet", list(self._tasks))
        facts = Facts(1, self._plan.spec.observation, self._plan.spec.action)
        (meta / FACTS_FILE).write_text(facts.to_json())
        card = _CARD.format(name=name, episodes=self.n_episodes, frames=self._n_frames)
        (self._directory / "README.md").write_text(card)

    def _info(self) -> dict[str, Any]:
        """Contents of info.json."""
        plan, features = self._plan, self._plan.features()
        for name, video in self._videos.items():
            features[name]["info"] = video.info() | {"video.crf": plan.crf}
        file = "chunk-{chunk_index:03d}/file-{file_index:03d}"
        return {
            "codebase_version": "v3.0",
            "robot_type": self._robot or None,
            "total_episodes": self.n_episodes,
            "total_frames": self._n_frames,
            "total_tasks": len(self._tasks),
            "chunks_size": _CHUNK,
            "data_files_size_in_mb": max(1, plan.data_bytes >> 20),
            "video_files_size_in_mb": max(1, plan.video_bytes >> 20),
            "fps": int(plan.fps) if plan.fps.denominator == 1 else float(plan.fps),
            "splits": {"train": f"0:{self.n_episodes}"},
            "data_path": f"data/{file}.parquet",
            "video_path": f"videos/{{video_key}}/{file}.mp4" if self._videos else None,
            "features": features,
        }


def _check(episode: Episode, arrays: Sequence[ArraySpec], seen: set[str]) -> None:
    name = episode.metadata.episode_id
    if name in seen or not name:
        raise InputError(f"episode '{name}': episode_id must be unique and not empty")
    check_episode(episode, arrays)


def _png(frame: np.ndarray) -> bytes:
    return images.encode(frame, "png")


def _file_indices(prefix: str, file: int) -> dict[str, int]:
    return {f"{prefix}/chunk_index": file // _CHUNK, f"{prefix}/file_index": file % _CHUNK}


def _data_schema(plan: _Plan) -> Any:
    """Of data files, with the note by which the `datasets` package knows pictures."""
    pa = package("pyarrow")
    pictures = {} if plan.has_videos else plan.cameras
    kinds = {n: column_type(*v) for n, v in plan.numbers.items()}
    kinds |= {n: pa.struct({"bytes": pa.binary(), "path": pa.string()}) for n in pictures}
    types = {n: hugging_face_type(*v) for n, v in plan.numbers.items()}
    types |= {n: {"_type": "Image"} for n in pictures}
    note = json.dumps({"info": {"features": types}})
    return pa.schema(kinds, metadata={"huggingface": note})


def _episode_schema(plan: _Plan) -> Any:
    """Of files in meta/episodes."""
    pa = package("pyarrow")
    integers = ["episode_index", "length", "dataset_from_index", "dataset_to_index"]
    prefixes = ["data", "meta/episodes"]
    kinds: dict[str, Any] = {"tasks": pa.list_(pa.string()), RECORD_COLUMN: pa.string()}
    for name in plan.cameras:
        if plan.has_videos:
            prefixes.append(f"videos/{name}")
            kinds |= {f"videos/{name}/{k}_timestamp": pa.float64() for k in ("from", "to")}
        kinds |= _stats_kinds(name, 3)
    integers += [f"{p}/{k}_index" for p in prefixes for k in ("chunk", "file")]
    for name, (_, shape) in plan.numbers.items():
        kinds |= _stats_kinds(name, len(shape))
    return pa.schema({n: pa.int64() for n in integers} | kinds)


def _stats_kinds(name: str, n_axes: int) -> dict[str, Any]:
    pa = package("pyarrow")
    kind = pa.float64()
    for _ in range(n_axes):
        kind = pa.list_(kind)
    kinds = {f"stats/{name}/{k}": kind for k in STATS}
    return kinds | {f"stats/{name}/count": pa.list_(pa.int64())}


def _write_tasks(path: pathlib.Path, tasks: Sequence[str]) -> None:
    """A table that pandas reads with the text as its index, which LeRobot relies on."""
    pa = package("pyarrow")
    text = {"field_name": "task", "name": "task", "pandas_type": "unicode", "numpy_type": "object"}
    number = dict.fromkeys(("field_name", "name"), "task_index")
    number |= dict.fromkeys(("pandas_type", "numpy_type"), "int64")
    columns = [{**c, "metadata": None} for c in (number, text)]
    note = {"index_columns": ["task"], "column_indexes": [], "columns": columns}
    note |= {"attributes": {}, "pandas_version": "2.0.0"}
    schema = pa.schema(
        {"task_index": pa.int64(), "task": pa.string()}, {"pandas": json.dumps(note)}
    )
    table = pa.table({"task_index": list(range(len(tasks))), "task": list(tasks)}, schema)
    package("pyarrow.parquet").write_table(table, path)

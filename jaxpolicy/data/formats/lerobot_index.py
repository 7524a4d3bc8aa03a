"""Where the episodes of a LeRobot dataset lie: compact arrays, read by columns.

100,000 episodes with two cameras take some 10 MB here. The rest of an episode's description
stays on disk until it is asked for (`Index.texts`).
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats import lerobot_tables
from jaxpolicy.data.formats.lerobot_files import Folder
from jaxpolicy.data.formats.lerobot_info import Info
from jaxpolicy.data.formats.lerobot_tables import Tables

__all__ = ["Index", "Tasks", "VideoPlaces", "read_index", "read_tasks"]

EPISODES_PATTERN = "meta/episodes/*/*.parquet"
EPISODES_LINES = "meta/episodes.jsonl"
TASKS_FILE = "meta/tasks.parquet"
TASKS_LINES = "meta/tasks.jsonl"
# Where pandas puts an index that has no name.
_TASK_COLUMNS = ("task", "__index_level_0__")
_MAX = 2**40


@dataclasses.dataclass(frozen=True)
class VideoPlaces:
    """Where one camera's video of every episode lies.

    Attributes:
      files: int64 [N, 2], values for the template of the path.
      starts: float64 [N], time of the first frame, s.
    """

    files: np.ndarray
    starts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Index:
    """Places of N episodes.

    Attributes:
      ids: int64 [N], episode_index.
      lengths: int64 [N], steps.
      slots: names of the two values in templates of paths.
      files: int64 [N, 2], values for the template of the data file.
      first_rows: int64 [N], row of the first step in the data file.
      videos: by field.
      success: int8 [N], -1 where nobody says.
      sources: files of descriptions, v3 only.
      source_rows: int64 [N, 2], file of `sources` and row in it.
    """

    ids: np.ndarray
    lengths: np.ndarray
    slots: tuple[str, str]
    files: np.ndarray
    first_rows: np.ndarray
    videos: Mapping[str, VideoPlaces]
    success: np.ndarray
    sources: tuple[pathlib.Path, ...] = ()
    source_rows: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2), np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def values(self, i: int) -> dict[str, int]:
        """Values for the template of the data file of episode `i`."""
        return dict(zip(self.slots, map(int, self.files[i]), strict=True))

    def video_values(self, i: int, name: str) -> dict[str, int]:
        """Values for the template of the video of field `name`."""
        return dict(zip(self.slots, map(int, self.videos[name].files[i]), strict=True))

    def text(self, tables: Tables, i: int, column: str) -> str:
        """A text that the description of episode `i` holds, "" where there is none."""
        if not self.sources:
            return ""
        source, row = map(int, self.source_rows[i])
        path = self.sources[source]
        if column not in tables.columns(path):
            return ""
        table = tables.rows(path, row, row + 1, [column])
        return lerobot_tables.texts(table, column, str(path))[0]


def read_index(folder: Folder, info: Info, tables: Tables) -> Index:
    """Reads where the episodes lie.

    Raises:
      InputError: missing or malformed descriptions, or not as many as info.json says.
    """
    index = _read_rows(folder, info, tables) if info.version == 3 else _read_lines(folder, info)
    if len(index) != info.n_episodes or not len(index):
        raise InputError(
            f"{folder.root}: {len(index)} episodes are described, info.json says "
            f"{info.n_episodes}; the dataset is {'incomplete' if len(index) else 'empty'}"
        )
    if len(np.unique(index.ids)) != len(index):
        raise InputError(f"{folder.root}: the descriptions repeat an episode_index")
    if index.lengths.sum() != info.n_frames:
        raise InputError(
            f"{folder.root}: the episodes have {index.lengths.sum()} steps together, info.json "
            f"says {info.n_frames}; the dataset is incomplete"
        )
    return index


# ------------------------------------------------------------------ v3: Parquet


def _read_rows(folder: Folder, info: Info, tables: Tables) -> Index:
    sources = folder.files(EPISODES_PATTERN)
    if not sources:
        raise InputError(f"{folder.root}: no {EPISODES_PATTERN}; the dataset is incomplete")
    cameras = {n: f"videos/{n}" for n in sorted(info.videos)}
    integers = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    integers += [f"{c}/{k}_index" for c in cameras.values() for k in ("chunk", "file")]
    seconds = [f"{c}/from_timestamp" for c in cameras.values()]
    parts = [_columns(tables, path, integers, seconds) for path in sources]
    values = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    counts = [len(p["length"]) for p in parts]
    files = np.stack([values["data/chunk_index"], values["data/file_index"]], 1)
    return Index(
        ids=values["episode_index"],
        lengths=values["length"],
        slots=("chunk_index", "file_index"),
        files=files,
        first_rows=_first_rows(values["episode_index"], values["length"], files),
        videos={n: _video_places(values, c) for n, c in cameras.items()},
        success=values["success"].astype(np.int8),
        sources=tuple(sources),
        source_rows=np.stack(
            [np.repeat(np.arange(len(parts)), counts), np.concatenate([*map(np.arange, counts)])],
            axis=1,
        ),
    )


def _columns(
    tables: Tables, path: pathlib.Path, integers: Sequence[str], seconds: Sequence[str]
) -> dict[str, np.ndarray]:
    """Columns of one file of descriptions, and `success` where it has that."""
    flags = ["success"] if "success" in tables.columns(path) else []
    found: dict[str, list[np.ndarray]] = {n: [] for n in (*integers, *seconds, "success")}
    for batch in tables.batches(path, [*integers, *seconds, *flags]):
        for name in integers:
            found[name].append(_checked(batch, name, "int64", path))
        for name in seconds:
            found[name].append(_checked(batch, name, "float64", path))
        found["success"].append(_success(batch, path) if flags else np.full(len(batch), -1))
    return {n: np.concatenate(v) if v else np.zeros(0, np.int64) for n, v in found.items()}


def _checked(batch: object, name: str, dtype: str, path: pathlib.Path) -> np.ndarray:
    """A column of numbers from 0 to a trillion."""
    value = lerobot_tables.array(batch, name, (), dtype, str(path))
    wrong = ~((value >= 0) & (value < _MAX))
    if wrong.any():
        raise InputError(f"{path}: column '{name}' holds {value[wrong][0]}; the file is damaged")
    return value


def _success(batch: object, path: pathlib.Path) -> np.ndarray:
    """Column `success` of booleans, which nobody guarantees; -1 where it is anything else."""
    try:
        return lerobot_tables.array(batch, "success", (), "bool", str(path)).astype(np.int64)
    except InputError:
        return np.full(len(batch), -1)  # type: ignore[arg-type]


def _first_rows(ids: np.ndarray, lengths: np.ndarray, files: np.ndarray) -> np.ndarray:
    """Steps of earlier episodes in the same file."""
    order = np.lexsort((ids, files[:, 1], files[:, 0]))
    ends = np.cumsum(lengths[order])
    starts = ends - lengths[order]
    is_first = np.ones(len(ids), bool)
    is_first[1:] = (np.diff(files[order], axis=0) != 0).any(axis=1)
    rows = np.empty(len(ids), np.int64)
    rows[order] = starts - starts[np.maximum.accumulate(np.where(is_first, np.arange(len(ids)), 0))]
    return rows


def _video_places(values: Mapping[str, np.ndarray], camera: str) -> VideoPlaces:
    files = np.stack([values[f"{camera}/chunk_index"], values[f"{camera}/file_index"]], 1)
    return VideoPlaces(files, values[f"{camera}/from_timestamp"])


# ------------------------------------------------------------------ v2: JSON lines


def _read_lines(folder: Folder, info: Info) -> Index:
    where = str(folder.root / EPISODES_LINES)
    rows = [_line(value, where) for value in folder.lines(EPISODES_LINES)]
    ids, lengths, success = np.array(rows, np.int64).reshape(-1, 3).T
    files = np.stack([ids // info.chunk_size, ids], 1)
    return Index(
        ids=ids,
        lengths=lengths,
        slots=("episode_chunk", "episode_index"),
        files=files,
        first_rows=np.zeros(len(ids), np.int64),
        videos={n: VideoPlaces(files, np.zeros(len(ids))) for n in info.videos},
        success=success.astype(np.int8),
    )


def _line(value: Mapping[str, object], where: str) -> tuple[int, int, int]:
    numbers = [value.get("episode_index"), value.get("length")]
    if not all(type(n) is int and 0 <= n < _MAX for n in numbers):
        raise InputError(f"{where}: needs counts episode_index and length, got {numbers}"[:300])
    success = value.get("success")
    return (*numbers, int(success) if type(success) is bool else -1)  # type: ignore[return-value]


# ------------------------------------------------------------------ tasks


class Tasks:
    """Texts of the tasks by task_index; one text per task is kept."""

    def __init__(self, ids: Sequence[int], texts: Sequence[str]):
        """`texts[k]` belongs to task_index `ids[k]`."""
        self._texts = dict(zip(ids, texts, strict=True))

    def __getitem__(self, index: int) -> str:
        """Text of a task; raises KeyError."""
        return self._texts[index]


def read_tasks(folder: Folder, info: Info, tables: Tables) -> Tasks:
    """Reads the tasks.

    Raises:
      InputError: missing or malformed.
    """
    if info.version == 2:
        lines = [_task(v, str(folder.root / TASKS_LINES)) for v in folder.lines(TASKS_LINES)]
        return Tasks([i for i, _ in lines], [t for _, t in lines])
    path = folder.file(TASKS_FILE)
    found = [c for c in _TASK_COLUMNS if c in tables.columns(path)]
    if not found:
        raise InputError(f"{path}: no column 'task'; there are {', '.join(tables.columns(path))}")
    ids: list[int] = []
    texts: list[str] = []
    for batch in tables.batches(path, ["task_index", found[0]]):
        ids += _checked(batch, "task_index", "int64", path).tolist()
        texts += lerobot_tables.texts(batch, found[0], str(path))
    return Tasks(ids, texts)


def _task(value: Mapping[str, object], where: str) -> tuple[int, str]:
    index, text = value.get("task_index"), value.get("task")
    if type(index) is not int or not isinstance(text, str):
        raise InputError(f"{where}: needs task_index and task, got {str(value)[:100]}")
    return index, text

"""meta/info.json of a LeRobot dataset: version, rate, features and where files lie."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from jaxpolicy.core.specs import InputError
from jaxpolicy.data.formats.lerobot_files import Folder
from jaxpolicy.data.reader import Field

__all__ = ["BOOKKEEPING", "INFO_FILE", "Info", "read_info"]

INFO_FILE = "meta/info.json"
# Features that every dataset has and that are no part of a step.
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_DATA_PATHS = {
    2: "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    3: "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
}
_VIDEO_PATHS = {
    2: "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    3: "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}
_NUMBERS = (
    *("float16", "float32", "float64", "bool"),
    *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)),
)
_MAX_COUNT = 2**40
_MAX_SIDE = 4096
_MAX_ELEMENTS = 2**28


@dataclasses.dataclass(frozen=True)
class Info:
    """What the file says, checked.

    Attributes:
      version: major version of the format, 2 or 3.
      fps: steps per second.
      fields: what a step holds, as data.reader wants it.
      videos: names of the fields that lie in video files.
      n_episodes, n_frames: in the whole dataset.
      chunk_size: files per folder.
      data_path, video_path: templates.
      robot: its name.
    """

    version: int
    fps: float
    fields: Mapping[str, Field]
    videos: frozenset[str]
    n_episodes: int
    n_frames: int
    chunk_size: int
    data_path: str
    video_path: str
    robot: str


def read_info(folder: Folder) -> Info:
    """Reads and checks the file.

    Raises:
      InputError: it is missing, malformed, or of a version that is not known.
    """
    where, value = str(folder.root / INFO_FILE), folder.json(INFO_FILE)
    version = _version(value.get("codebase_version"), where)
    features = value.get("features")
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise InputError(f"{where}: 'features' must map names to objects")
    return Info(
        version=version,
        fps=_fps(value.get("fps"), where),
        fields={n: _field(n, f, where) for n, f in features.items() if n not in BOOKKEEPING},
        videos=frozenset(n for n, f in features.items() if f.get("dtype") == "video"),
        n_episodes=_count(value, "total_episodes", where),
        n_frames=_count(value, "total_frames", where),
        chunk_size=max(1, _count({"chunks_size": 1000, **value}, "chunks_size", where)),
        data_path=_text(value, "data_path", _DATA_PATHS[version], where),
        video_path=_text(value, "video_path", _VIDEO_PATHS[version], where),
        robot=_text(value, "robot_type", "", where),
    )


def _version(text: Any, where: str) -> int:
    match = re.fullmatch(r"v?([23])\.\d{1,3}(\.\d{1,3})?", text) if isinstance(text, str) else None
    if match is None:
        raise InputError(
            f"{where}: codebase_version must be v2.0, v2.1 or v3.x, got {str(text)[:40]!r}; "
            "convert the dataset with LeRobot's own scripts"
        )
    return int(match[1])


def _fps(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not 0 < value <= 1e5:
        raise InputError(f"{where}: fps must be a number above 0, got {str(value)[:40]}")
    return float(value)


def _count(value: Mapping[str, Any], key: str, where: str) -> int:
    count = value.get(key)
    if type(count) is not int or not 0 <= count < _MAX_COUNT:
        raise InputError(f"{where}: {key} must be a count, got {str(count)[:40]}")
    return count


def _text(value: Mapping[str, Any], key: str, default: str, where: str) -> str:
    text = value.get(key)
    if text is None:
        return default
    if not isinstance(text, str) or len(text) > 1000:
        raise InputError(f"{where}: {key} must be text, got {str(text)[:40]!r}")
    return text


def _field(name: str, feature: Mapping[str, Any], where: str) -> Field:
    place, dtype = f"{where}: feature '{name[:100]}'", feature.get("dtype")
    if dtype in ("video", "image"):
        shape = _picture_shape(feature, place)
        is_colour = shape[2] == 3 and not _is_depth(feature)
        return Field(name, "image" if is_colour else "other", shape, "uint8")
    if dtype in _NUMBERS:
        return Field(name, "number", _shape(feature, place), str(dtype), _names(feature))
    if not isinstance(dtype, str):
        raise InputError(f"{place}: dtype must be text, got {str(dtype)[:40]}")
    return Field(name, "text" if dtype == "string" else "other", (), dtype[:40])


def _shape(feature: Mapping[str, Any], place: str) -> tuple[int, ...]:
    shape = feature.get("shape")
    if not isinstance(shape, list) or not all(type(d) is int and d >= 0 for d in shape):
        raise InputError(f"{place}: shape must be a list of sizes, got {str(shape)[:60]}")
    if len(shape) > 8 or math.prod(shape) > _MAX_ELEMENTS:
        raise InputError(f"{place}: shape {str(shape)[:60]} is absurd; the file is damaged")
    return tuple(shape)


def _picture_shape(feature: Mapping[str, Any], place: str) -> tuple[int, int, int]:
    """[H, W, C], whatever order the file uses."""
    shape = _shape(feature, place)
    if len(shape) != 3 or not 0 < min(shape) <= max(shape) <= _MAX_SIDE:
        raise InputError(
            f"{place}: a picture must have three sizes of 1 to {_MAX_SIDE}, got {list(shape)}"
        )
    channel = _channel_axis(feature.get("names"), shape)
    height, width = (d for i, d in enumerate(shape) if i != channel)
    return height, width, shape[channel]


def _channel_axis(names: Any, shape: tuple[int, ...]) -> int:
    """0 or 2. Names decide, unless what they call a channel cannot be one."""
    names = names if isinstance(names, list) else []
    named = [i for i, n in enumerate(names[:3]) if str(n).startswith("channel")]
    if len(named) == 1 and named[0] in (0, 2) and shape[named[0]] in (1, 3, 4):
        return named[0]
    return 0 if shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4) else 2


def _is_depth(feature: Mapping[str, Any]) -> bool:
    info = feature.get("info")
    marks = {**feature, **(info if isinstance(info, dict) else {})}
    return any(marks.get(k) is True for k in ("is_depth_map", "video.is_depth_map"))


def _names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the elements: a list, {"motors": [..]} or {name: index}; else none."""
    names, size = feature.get("names"), math.prod(feature["shape"])
    if isinstance(names, dict) and all(type(v) is int for v in names.values()):
        names = [n for n, _ in sorted(names.items(), key=lambda pair: pair[1])]
    elif isinstance(names, dict):
        names = [n for group in names.values() if isinstance(group, list) for n in group]
    if not isinstance(names, list) or len(names) != size:
        return ()
    return tuple(n[:100] for n in names) if all(isinstance(n, str) for n in names) else ()

"""RLDS datasets: a TFDS directory, one tf.train.Example per episode.

The canonical format. Reads any such directory in TFRecord, ArrayRecord or Parquet
(bridge_dataset and other Open X-Embodiment data among them); `rlds_writer` writes
directories that `tfds.builder_from_directory(d).as_dataset()` reads. TensorFlow is not
needed.
"""

import bisect
import contextlib
import functools
import hashlib
import itertools
import json
import math
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import EpisodeMetadata
from jaxpolicy.data import images
from jaxpolicy.data.facts import FACTS_FILE, Facts
from jaxpolicy.data.formats import example_proto, features, records, rlds_names
from jaxpolicy.data.formats.example_proto import Value
from jaxpolicy.data.formats.features import STEPS, Feature
from jaxpolicy.data.formats.records import Shard
from jaxpolicy.data.formats.rlds_names import METADATA, OBSERVATION
from jaxpolicy.data.mapping import UNBOUNDED
from jaxpolicy.data.reader import Declared, Field, Steps, check_size

__all__ = ["FEATURES_FILE", "INFO_FILE", "RldsReader", "find_directory", "matches"]

INFO_FILE = "dataset_info.json"
FEATURES_FILE = "features.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_INFO_PATTERNS = (INFO_FILE, f"*/{INFO_FILE}", f"*/*/{INFO_FILE}")
_KINDS = {"image": "image", "tensor": "number", "text": "text"}


class _Place(NamedTuple):
    """Where an episode is: its shard, its record there, its split and position in the split."""

    shard: Shard
    record: int
    split: str
    position: int


class RldsReader:
    """Episodes of an RLDS directory; all its splits form one pool.

    Attributes:
      location: the folder with dataset_info.json.
      fields, declared: see data.reader.Reader; names are paths below `steps`.
      name: of the dataset.
    """

    location: pathlib.Path
    fields: Mapping[str, Field]
    declared: Declared

    def __init__(self, path: str | os.PathLike[str]):
        """Reads the descriptions and indexes the records, no episode yet.

        Args:
          path: folder with dataset_info.json, or one above it.

        Raises:
          InputError: names the file that is missing, corrupt or inconsistent.
        """
        self.location = find_directory(path)
        info = _read_json(self.location / INFO_FILE)
        self.name = str(info.get("name", self.location.name))
        self._features = _read_features(self.location / FEATURES_FILE)
        self._parts = _parts(self.location, info)
        self._ends = list(itertools.accumulate(len(s) for _, _, s in self._parts))
        self._values = functools.lru_cache(maxsize=2)(self._decode)
        self.declared = _declared(self.location)
        self.fields = self._fields()

    def __len__(self) -> int:
        """Number of episodes, failed ones included."""
        return self._ends[-1]

    def read(self, i: int, names: Collection[str]) -> Steps:
        """Episode `i`; `values` holds the fields `names`, nothing else is decoded."""
        values, where = self._values(i)
        n_steps = _n_steps(values, self._features, where)
        check_size(n_steps, [self.fields[n] for n in names], where)
        flag = functools.partial(_flag, values, self._features, where=where)
        return Steps(
            values={n: self._field(values, n, n_steps, where) for n in names},
            n_steps=n_steps,
            metadata=_metadata(values, self._place(i), self.name, flag("is_last", True)),
            instruction=_instruction(values),
            reward=_scalars(values, self._features, "reward", n_steps, where),
            is_terminal=flag("is_terminal", False),
            absent=frozenset(
                n for n, flag in self._flags.items() if not np.any(values.get(flag, 0))
            ),
        )

    def content_hash(self, i: int) -> str:
        """Digest of everything in the steps of episode `i` as stored, undecoded."""
        values, _ = self._values(i)
        digest = hashlib.sha256()
        for path in sorted(p for p in values if p.startswith(STEPS)):
            digest.update(path.encode() + b"\0")
            value = values[path]
            parts = [value.tobytes()] if isinstance(value, np.ndarray) else value
            for part in parts:
                digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Digest of the descriptions and of every record."""
        digest = hashlib.sha256()
        for name in (INFO_FILE, FEATURES_FILE, FACTS_FILE):
            path = self.location / name
            digest.update(path.read_bytes() if path.exists() else b"")
        for split, _, shard in self._parts:
            digest.update(f"{split} {shard.fingerprint()}\n".encode())
        return digest.hexdigest()

    def _place(self, i: int) -> _Place:
        part = bisect.bisect_right(self._ends, i)
        split, offset, shard = self._parts[part]
        record = i - (self._ends[part - 1] if part else 0)
        return _Place(shard, record, split, offset + record)

    def _decode(self, i: int) -> tuple[dict[str, Value], str]:
        place = self._place(i)
        where = f"{place.shard.path}: episode {place.position} of '{place.split}'"
        return example_proto.decode(place.shard.read(place.record), where), where

    def _field(
        self, values: Mapping[str, Value], name: str, n_steps: int, where: str
    ) -> np.ndarray:
        feature = self._features[STEPS + name]
        if feature.kind == "image":
            return _pictures(values, feature, self.fields[name].shape, n_steps, where)
        return example_proto.column(values, feature, n_steps, where)

    @property
    def _flags(self) -> dict[str, str]:
        """Image field -> path of the episode's flag that says whether it was there."""
        found = {}
        for path in self._features:
            if path.startswith(METADATA + "has_"):
                camera = path.removeprefix(METADATA + "has_")
                if OBSERVATION + camera in self._features:
                    found["observation/" + camera] = path
        return found

    def _fields(self) -> dict[str, Field]:
        """What a step holds; open image sizes are those of the first episode."""
        flags = {} if self.declared.spec else self._flags
        return {
            f.path.removeprefix(STEPS): Field(
                name=f.path.removeprefix(STEPS),
                kind=_KINDS.get(f.kind, "other"),
                shape=self._image_shape(f) if f.kind == "image" else f.shape,
                dtype=f.dtype or "str",
                doc=f.doc,
                optional=f.path.removeprefix(STEPS) in flags,
            )
            for f in self._features.values()
            if f.path.startswith(STEPS)
        }

    def _image_shape(self, feature: Feature) -> tuple[int | None, ...]:
        if None not in feature.shape:
            return feature.shape
        values, where = self._values(0)
        first = _encoded(values, feature.path, where)[0]
        return images.decode(first, f"{where}, step 0, '{feature.path}'").shape


def _encoded(values: Mapping[str, Value], path: str, where: str) -> Sequence[bytes]:
    found = values.get(path)
    if found is None or isinstance(found, np.ndarray) or not len(found):
        raise InputError(f"{where}: image feature '{path}' is missing")
    return found


def _pictures(
    values: Mapping[str, Value],
    feature: Feature,
    shape: tuple[int | None, ...],
    n_steps: int,
    where: str,
) -> np.ndarray:
    """Decoded images of `shape`, uint8 [T, H, W, 3]; stops at the first of another size."""
    path, encoded = feature.path, _encoded(values, feature.path, where)
    if len(encoded) != n_steps:
        raise InputError(f"{where}: '{path}' holds {len(encoded)} images, not {n_steps}")
    frames = []
    for t, data in enumerate(encoded):
        frame = images.decode(data, f"{where}, step {t}, '{path}'")
        if frame.shape != shape:
            raise InputError(
                f"{where}, step {t}: '{path}' must be {list(shape)}, got {list(frame.shape)}"
            )
        frames.append(frame)
    return np.stack(frames)


def _declared(directory: pathlib.Path) -> Declared:
    """What this library left beside the data, if it wrote it."""
    path = directory / FACTS_FILE
    if not path.exists():
        return Declared()
    facts = Facts.from_json(_read_text(path), str(path))
    return Declared(
        observation={
            s.name: "observation/" + rlds_names.feature_name(s.name) for s in facts.observation
        },
        spec=facts.spec,
        action=("action",),
    )


def matches(path: pathlib.Path) -> bool:
    """Whether there is a dataset_info.json in `path` or up to two levels below."""
    return path.is_dir() and any(next(path.glob(p), None) for p in _INFO_PATTERNS)


def find_directory(path: str | os.PathLike[str]) -> pathlib.Path:
    """The folder that holds dataset_info.json: `path`, or the only one below it."""
    root = pathlib.Path(path)
    if not root.is_dir():
        raise InputError(f"{root}: no such dataset folder")
    if (root / INFO_FILE).is_file():
        return root
    below = sorted(p.parent for pattern in _INFO_PATTERNS for p in root.glob(pattern))
    if len(below) == 1:
        return below[0]
    if below:
        raise InputError(f"{root}: holds several datasets, name one: {', '.join(map(str, below))}")
    raise InputError(f"{root}: no {INFO_FILE} here or below; not an RLDS dataset")


def _read_text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as e:
        raise InputError(f"{path}: missing; an RLDS dataset needs it") from e
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: cannot read: {e}") from e


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    text = _read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise InputError(f"{path}: not valid JSON: {e}") from e
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a JSON object")
    return value


def _read_features(path: pathlib.Path) -> dict[str, Feature]:
    return features.parse(_read_text(path), str(path))


def _parts(directory: pathlib.Path, info: Mapping[str, Any]) -> list[tuple[str, int, Shard]]:
    """(split, episodes of the split before it, shard) for every file."""
    file_format = info.get("fileFormat", "tfrecord")
    if file_format not in tuple(records.SHARDS):
        raise InputError(
            f"{directory / INFO_FILE}: fileFormat must be one of {sorted(records.SHARDS)}, got "
            f"'{file_format}'"
        )
    try:
        parts = [p for split in info.get("splits", []) for p in _shards(directory, info, split)]
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise InputError(f"{directory / INFO_FILE}: malformed splits: {e!r}") from e
    if not any(len(shard) for _, _, shard in parts):
        raise InputError(f"{directory}: the dataset holds no episodes")
    return parts


def _shards(
    directory: pathlib.Path, info: Mapping[str, Any], split: Mapping[str, Any]
) -> Iterator[tuple[str, int, Shard]]:
    lengths, offset = [int(n) for n in split.get("shardLengths", [])], 0
    for i, expected in enumerate(lengths):
        path = directory / _shard_name(directory, info, split, (i, len(lengths)))
        shard = records.SHARDS[info.get("fileFormat", "tfrecord")](path)
        if len(shard) != expected:
            raise InputError(
                f"{path}: holds {len(shard)} records, {INFO_FILE} says {expected}; "
                "the file is truncated or not of this dataset"
            )
        yield split["name"], offset, shard
        offset += expected


def _shard_name(
    directory: pathlib.Path,
    info: Mapping[str, Any],
    split: Mapping[str, Any],
    shard: tuple[int, int],
) -> str:
    name = split.get("filepathTemplate") or _TEMPLATE
    values = {
        "DATASET": info["name"],
        "SPLIT": split["name"],
        "FILEFORMAT": info.get("fileFormat", "tfrecord"),
        "SHARD_X_OF_Y": f"{shard[0]:05d}-of-{shard[1]:05d}",
        "SHARD_INDEX": f"{shard[0]:05d}",
        "NUM_SHARDS": f"{shard[1]:05d}",
    }
    for key, value in values.items():
        name = name.replace(f"{{{key}}}", str(value))
    if pathlib.PurePath(name).name != name:
        raise InputError(f"{directory / INFO_FILE}: shard name '{name}' leaves the folder")
    return name


def _n_steps(values: Mapping[str, Value], found: Mapping[str, Feature], where: str) -> int:
    """T, from the scalar that every RLDS step has, else from the action."""
    for path in (STEPS + "is_first", STEPS + "is_last", STEPS + "is_terminal", STEPS + "reward"):
        if path in values and path in found:
            n_steps = len(values[path])
            break
    else:
        n_steps = next(_n_rows(values, found), 0)
    if not n_steps:
        raise InputError(f"{where}: the episode holds no steps")
    return n_steps


def _n_rows(values: Mapping[str, Value], found: Mapping[str, Feature]) -> Iterator[int]:
    """What every field of numbers says T is."""
    for path, value in values.items():
        feature = found.get(path)
        if path.startswith(STEPS) and feature and feature.kind == "tensor":
            per_step = 1 if feature.encoding else math.prod(d or 1 for d in feature.shape)
            yield len(value) // per_step


def _scalars(
    values: Mapping[str, Value], found: Mapping[str, Feature], name: str, n_steps: int, where: str
) -> np.ndarray | None:
    """A number of every step, None where the dataset has none or several a step."""
    feature = found.get(STEPS + name)
    if feature is None or feature.kind != "tensor" or feature.shape not in ((), (1,)):
        return None
    return example_proto.column(values, feature, n_steps, where)


def _flag(
    values: Mapping[str, Value],
    found: Mapping[str, Feature],
    name: str,
    default: bool,
    where: str,
) -> bool:
    """A flag of the last step."""
    value = values.get(STEPS + name)
    if STEPS + name not in found or value is None:
        return default
    if not isinstance(value, np.ndarray) or not value.size:
        raise InputError(f"{where}: feature '{STEPS + name}' must hold numbers")
    return bool(value[-1])


def _text(values: Mapping[str, Value], path: str) -> str:
    value = values.get(path, ())
    if isinstance(value, np.ndarray) or not len(value):
        return ""
    return value[0].decode("utf-8", "replace")


def _instruction(values: Mapping[str, Value]) -> str:
    names = ("language_instruction", "observation/natural_language_instruction")
    return next(filter(None, (_text(values, STEPS + n) for n in names)), "")


def _number(values: Mapping[str, Value], name: str, default: float) -> float:
    value = values.get(METADATA + name)
    return value[0].item() if isinstance(value, np.ndarray) and value.size else default


def _metadata(
    values: Mapping[str, Value], place: _Place, name: str, complete: bool
) -> EpisodeMetadata:
    prefix = METADATA
    success = bool(_number(values, "success", 0)) if prefix + "success" in values else None
    known = bool(_number(values, "has_success", 1))
    return EpisodeMetadata(
        episode_id=_episode_id(values, place),
        success=success if known else None,
        collection_method=_text(values, prefix + "collection_method") or "unknown",
        operator=_text(values, prefix + "operator"),
        seconds=float(_number(values, "seconds", 0.0)),
        source=_text(values, prefix + "source") or f"{name}/{place.split}",
        robot=_text(values, prefix + "robot"),
        task=_text(values, prefix + "task"),
        seed=int(_number(values, "seed", -1)),
        variation=_variation(_text(values, rlds_names.VARIATION), place),
        complete=complete,
    )


def _variation(text: str, place: _Place) -> dict[str, float]:
    """What was randomised, name -> number, from JSON; none where there is no text.

    Raises:
      InputError: it is anything else.
    """
    found: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text) if text else {}
    if not isinstance(found, dict) or not all(map(_is_finite, found.values())):
        raise InputError(
            f"{place.shard.path}: {rlds_names.VARIATION} of episode {place.position} must be "
            f"JSON that maps names to finite numbers, got {text[:80]!r}"
        )
    return {name: float(value) for name, value in found.items()}


def _is_finite(value: Any) -> bool:
    """Whether a value from JSON is a number that float32 can hold."""
    return type(value) in (int, float) and abs(value) < UNBOUNDED


def _episode_id(values: Mapping[str, Value], place: _Place) -> str:
    """Stable and unique: the text id; else file and number; else place in the dataset."""
    path = METADATA + "episode_id"
    text, file_path = _text(values, path), _text(values, METADATA + "file_path")
    if text:
        return text
    if file_path:
        return f"{file_path}#{int(_number(values, 'episode_id', 0))}"
    return f"{place.split}-{place.position:06d}"

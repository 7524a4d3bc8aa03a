"""RLDS datasets: a TFDS directory of TFRecord files, one tf.train.Example per episode.

The canonical format. Reads any such directory (bridge_dataset and other Open
X-Embodiment data among them) and writes directories that
`tfds.builder_from_directory(d).as_dataset()` reads. TensorFlow is not needed.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxpolicy.data import example_proto, features, images, rlds_layout, tfrecord
from jaxpolicy.data.config import DataConfig
from jaxpolicy.data.example_proto import Value
from jaxpolicy.data.features import STEPS, Feature
from jaxpolicy.data.rlds_writer import write
from jaxpolicy.specs import IMAGE_PREFIX, InputError, camera_names, is_camera, mask_key
from jaxpolicy.types import DatasetSpec, Episode, EpisodeMetadata

__all__ = ["INFO_FILE", "FEATURES_FILE", "RldsSource", "find_directory", "write"]

INFO_FILE = "dataset_info.json"
FEATURES_FILE = "features.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One episode: its record, split and position in the split."""

    record: tfrecord.Record
    split: str
    position: int


class RldsSource:
    """Episodes of an RLDS directory; all its splits form one pool.

    Where a dataset flags a camera as absent from an episode (`has_<camera>` in the
    episode's metadata), its images are zeros and `mask/<camera>` is False. A flag
    that says absent while the images are real pictures is not believed: some
    published datasets carry flags that were never filled in.
    """

    spec: DatasetSpec

    def __init__(self, path: str | os.PathLike[str], config: DataConfig | None = None):
        """Reads the descriptions and indexes the records, no episode yet.

        Args:
          path: folder with dataset_info.json, or one above it.
          config: action_keys and proprio_keys for datasets of others.

        Raises:
          InputError: names the file that is missing, corrupt or inconsistent.
        """
        self.directory = find_directory(path)
        self._info = _read_json(self.directory / INFO_FILE)
        self.name = str(self._info.get("name", self.directory.name))
        self._features = _read_features(self.directory / FEATURES_FILE)
        self._layout = _layout(self.directory, self._features, config or DataConfig())
        self._entries = _entries(self.directory, self._info)
        self._images = tuple(filter(is_camera, self._layout.observation))
        self.spec = self._with_image_sizes(self._layout.spec)

    def __len__(self) -> int:
        """Number of episodes, failed ones included."""
        return len(self._entries)

    def __getitem__(self, i: int) -> Episode:
        """Episode `i` with every camera decoded."""
        return self.load(i)

    def __iter__(self) -> Iterator[Episode]:
        """All episodes in the order of the files."""
        return (self.load(i) for i in range(len(self)))

    def load(self, i: int, cameras: Sequence[str] | None = None) -> Episode:
        """Episode `i`; only the named cameras are decoded (None: all, (): none)."""
        values, where = self._values(i)
        n_steps = _n_steps(values, self._features, where)
        keys = self._images if cameras is None else [self._camera_key(c) for c in cameras]
        observation = self._arrays(values, n_steps, where)
        for key in keys:
            observation |= self._camera(values, key, n_steps, where)
        return Episode(
            observation=observation,
            action=self._join(values, self._layout.action, n_steps, where).astype(np.float32),
            reward=_optional(values, self._features, "reward", n_steps, where),
            is_terminal=bool(_optional(values, self._features, "is_terminal", n_steps, where)[-1]),
            language_instruction=_instruction(values),
            metadata=_metadata(values, self._entries[i], self.name),
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
        """Digest of the descriptions and of every record's stored checksum."""
        digest = hashlib.sha256()
        for name in (INFO_FILE, FEATURES_FILE, rlds_layout.FACTS_FILE):
            path = self.directory / name
            digest.update(path.read_bytes() if path.exists() else b"")
        layout = self._layout
        names = [sorted(layout.observation.items()), sorted(layout.flags.items()), layout.action]
        digest.update(json.dumps(names).encode())
        for entry in self._entries:
            record = entry.record
            digest.update(f"{entry.split} {record.length} {record.crc}\n".encode())
        return digest.hexdigest()

    def _camera_key(self, camera: str) -> str:
        key = IMAGE_PREFIX + camera
        if key not in self._images:
            there = ", ".join(camera_names(self._images)) or "none"
            raise InputError(f"{self.directory}: no camera '{camera}'; there are: {there}")
        return key

    def _values(self, i: int) -> tuple[dict[str, Value], str]:
        entry = self._entries[i]
        where = f"{entry.record.path}: episode {entry.position} of '{entry.split}'"
        return example_proto.decode(tfrecord.read(entry.record), where), where

    def _arrays(self, values: Mapping[str, Value], n_steps: int, where: str) -> dict[str, Any]:
        specs = {s.name: s for s in self.spec.observation}
        return {
            key: self._join(values, paths, n_steps, where)
            .reshape(n_steps, *specs[key].shape)
            .astype(specs[key].dtype)
            for key, paths in self._layout.observation.items()
            if not is_camera(key)
        }

    def _join(
        self, values: Mapping[str, Value], paths: Sequence[str], n_steps: int, where: str
    ) -> np.ndarray:
        parts = [example_proto.column(values, self._features[p], n_steps, where) for p in paths]
        return np.concatenate([p.reshape(n_steps, -1) for p in parts], 1)

    def _camera(
        self, values: Mapping[str, Value], key: str, n_steps: int, where: str
    ) -> dict[str, np.ndarray]:
        frames = self._decode(values, self._layout.observation[key][0], n_steps, where)
        flag = self._layout.flags.get(key)
        if flag is None:
            return {key: frames}
        present = bool(np.any(values.get(flag, 0))) or not images.is_blank(frames)
        mask = np.full(n_steps, present)
        return {key: frames if present else np.zeros_like(frames), mask_key(key): mask}

    def _decode(
        self, values: Mapping[str, Value], path: str, n_steps: int, where: str
    ) -> np.ndarray:
        encoded = values.get(path)
        if encoded is None or isinstance(encoded, np.ndarray):
            raise InputError(f"{where}: image feature '{path}' is missing")
        if len(encoded) != n_steps:
            raise InputError(f"{where}: '{path}' holds {len(encoded)} images, not {n_steps}")
        places = (f"{where}, step {t}, '{path}'" for t in range(n_steps))
        frames = [images.decode(b, p) for b, p in zip(encoded, places, strict=True)]
        expected = _with_size(self._features[path].shape, frames[0].shape)
        for t, frame in enumerate(frames):
            if frame.shape != expected:
                raise InputError(
                    f"{where}, step {t}: '{path}' must be {list(expected)}, got {list(frame.shape)}"
                )
        return np.stack(frames)

    def _with_image_sizes(self, spec: DatasetSpec) -> DatasetSpec:
        """Fills sizes that features.json leaves open from the first episode."""
        if all(0 not in s.shape for s in spec.observation):
            return spec
        values, where = self._values(0)
        n_steps = _n_steps(values, self._features, where)
        filled = []
        for s in spec.observation:
            if is_camera(s.name) and 0 in s.shape:
                path = self._layout.observation[s.name][0]
                frames = self._decode(values, path, n_steps, where)
                s = dataclasses.replace(s, shape=frames.shape[1:])
            filled.append(s)
        return DatasetSpec(tuple(filled), spec.action)


def find_directory(path: str | os.PathLike[str]) -> pathlib.Path:
    """The folder that holds dataset_info.json: `path`, or the only one below it."""
    root = pathlib.Path(path)
    if not root.is_dir():
        raise InputError(f"{root}: no such dataset folder")
    if (root / INFO_FILE).is_file():
        return root
    below = sorted(p.parent for depth in ("*", "*/*") for p in root.glob(f"{depth}/{INFO_FILE}"))
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


def _layout(
    directory: pathlib.Path, found: Mapping[str, Feature], config: DataConfig
) -> rlds_layout.Layout:
    facts = directory / rlds_layout.FACTS_FILE
    where = str(directory / FEATURES_FILE)
    if not facts.exists():
        return rlds_layout.guess(found, config, where)
    return rlds_layout.from_facts(
        rlds_layout.Facts.from_json(_read_text(facts), str(facts)), found, where
    )


def _entries(directory: pathlib.Path, info: Mapping[str, Any]) -> list[_Entry]:
    file_format = info.get("fileFormat", "tfrecord")
    if file_format != "tfrecord":
        raise InputError(f"{directory / INFO_FILE}: fileFormat '{file_format}' is not tfrecord")
    entries = []
    try:
        for split in info.get("splits", []):
            records = _split_records(directory, info, split)
            entries += [_Entry(r, split["name"], n) for n, r in enumerate(records)]
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise InputError(f"{directory / INFO_FILE}: malformed splits: {e!r}") from e
    if not entries:
        raise InputError(f"{directory}: the dataset holds no episodes")
    return entries


def _split_records(
    directory: pathlib.Path, info: Mapping[str, Any], split: Mapping[str, Any]
) -> Iterator[tfrecord.Record]:
    lengths = [int(n) for n in split.get("shardLengths", [])]
    for i, expected in enumerate(lengths):
        path = directory / _shard_name(directory, info, split, (i, len(lengths)))
        records = tfrecord.index(path)
        if len(records) != expected:
            raise InputError(
                f"{path}: holds {len(records)} records, {INFO_FILE} says {expected}; "
                "the file is truncated or not of this dataset"
            )
        yield from records


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
        "FILEFORMAT": "tfrecord",
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
        path = STEPS + "action"
        n_steps = len(values.get(path, ())) // max(
            1, int(np.prod([d or 1 for d in found[path].shape]))
        )
    if not n_steps:
        raise InputError(f"{where}: the episode holds no steps")
    return n_steps


def _optional(
    values: Mapping[str, Value], found: Mapping[str, Feature], name: str, n_steps: int, where: str
) -> np.ndarray:
    feature = found.get(STEPS + name)
    if feature is None or feature.kind != "tensor":
        return np.zeros(n_steps, np.float32)
    return example_proto.column(values, feature, n_steps, where).astype(np.float32)


def _text(values: Mapping[str, Value], path: str) -> str:
    value = values.get(path, ())
    if isinstance(value, np.ndarray) or not len(value):
        return ""
    return value[0].decode("utf-8", "replace")


def _instruction(values: Mapping[str, Value]) -> str:
    names = ("language_instruction", "observation/natural_language_instruction")
    return next(filter(None, (_text(values, STEPS + n) for n in names)), "")


def _number(values: Mapping[str, Value], name: str, default: float) -> float:
    value = values.get(rlds_layout.METADATA + name)
    return value[0].item() if isinstance(value, np.ndarray) and value.size else default


def _metadata(values: Mapping[str, Value], entry: _Entry, name: str) -> EpisodeMetadata:
    prefix = rlds_layout.METADATA
    success = bool(_number(values, "success", 0)) if prefix + "success" in values else None
    known = bool(_number(values, "has_success", 1))
    return EpisodeMetadata(
        episode_id=_episode_id(values, entry),
        success=success if known else None,
        collection_method=_text(values, prefix + "collection_method") or "unknown",
        operator=_text(values, prefix + "operator"),
        seconds=float(_number(values, "seconds", 0.0)),
        source=_text(values, prefix + "source") or f"{name}/{entry.split}",
        robot=_text(values, prefix + "robot"),
        task=_text(values, prefix + "task"),
        seed=int(_number(values, "seed", -1)),
        variation=_variation(_text(values, rlds_layout.VARIATION), entry),
    )


def _variation(text: str, entry: _Entry) -> dict[str, float]:
    """What was randomised, name -> number, from JSON; none where there is no text.

    Raises:
      InputError: it is anything else.
    """
    found: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text) if text else {}
    if not isinstance(found, dict) or not all(map(_is_finite, found.values())):
        raise InputError(
            f"{entry.record.path}: {rlds_layout.VARIATION} of episode {entry.position} must be "
            f"JSON that maps names to finite numbers, got {text[:80]!r}"
        )
    return {name: float(value) for name, value in found.items()}


def _is_finite(value: Any) -> bool:
    """Whether a value from JSON is a number that float32 can hold."""
    return type(value) in (int, float) and abs(value) < rlds_layout.UNBOUNDED


def _episode_id(values: Mapping[str, Value], entry: _Entry) -> str:
    """Stable and unique: the text id; else file and number; else place in the dataset."""
    path = rlds_layout.METADATA + "episode_id"
    text, file_path = _text(values, path), _text(values, rlds_layout.METADATA + "file_path")
    if text:
        return text
    if file_path:
        return f"{file_path}#{int(_number(values, 'episode_id', 0))}"
    return f"{entry.split}-{entry.position:06d}"


def _with_size(declared: tuple[int | None, ...], actual: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a if d is None else d for d, a in zip(declared, actual, strict=True))

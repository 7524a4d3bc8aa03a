"""Stage 2: from recorded episodes to a cleaned, split and measured dataset.

Writes three small files and copies no data:
  source.json      what was read, what was dropped and why, what a step holds
  split.json       the part of every episode
  statistics.json  NormStats of action and proprio, fitted on the train part only
"""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxpolicy import atomic, normalization, schema, specs
from jaxpolicy.data import splits
from jaxpolicy.data.config import DataConfig
from jaxpolicy.data.mapping import UNBOUNDED
from jaxpolicy.data.source import EpisodeSource
from jaxpolicy.normalization import NormStats
from jaxpolicy.specs import ActionSpec, ArraySpec, InputError, camera_names
from jaxpolicy.types import DatasetSpec, Episode

__all__ = ["EpisodeEntry", "Processed", "load", "process", "select_spec"]

SOURCE_FILE = "source.json"
SPLIT_FILE = "split.json"
STATISTICS_FILE = "statistics.json"
TEST_READS_FILE = "test_reads.jsonl"

_DROPPED = ("failed", "duplicate", "nan")


@dataclasses.dataclass(frozen=True)
class EpisodeEntry:
    """One kept episode.

    Attributes:
      index: position in the source.
      episode_id: unique.
      part: train, val or test.
      length: T, steps.
      content: digest of its content.
    """

    index: int
    episode_id: str
    part: str
    length: int
    content: str


@dataclasses.dataclass(frozen=True)
class Processed:
    """A dataset ready for training.

    Attributes:
      directory: where its three files lie.
      spec: what the policy sees of a step, and the action.
      norm: NormStats by key, "action" and, where there is one, "proprio".
      episodes: the kept ones, in source order.
      counts: found, failed, duplicate, nan (dropped), kept, steps, and episodes
        per part.
      fingerprint: of the source.
      dataset_hash: of source and config together; goes into every report.
    """

    directory: str
    spec: DatasetSpec
    norm: dict[str, NormStats]
    episodes: tuple[EpisodeEntry, ...]
    counts: dict[str, int]
    fingerprint: str
    dataset_hash: str

    def indices(self, part: str) -> np.ndarray:
        """Source indices of "train" or "val", ascending.

        Raises:
          InputError: unknown part, or "test", which `unlock_test` gives.
        """
        if part == "test":
            raise InputError(
                "the test part is locked: tuning on it makes it worthless; call "
                "unlock_test(reason) once, for the final figure"
            )
        return self._indices(part)

    def unlock_test(self, reason: str) -> np.ndarray:
        """Source indices of the test part; the reading is recorded with its reason."""
        if not reason.strip():
            raise InputError("reading the test part needs a reason")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry = {"time": now, "reason": reason, "dataset_hash": self.dataset_hash}
        atomic.append_line(pathlib.Path(self.directory) / TEST_READS_FILE, json.dumps(entry))
        return self._indices("test")

    def _indices(self, part: str) -> np.ndarray:
        if part not in splits.PARTS:
            raise InputError(f"part must be one of {splits.PARTS}, got '{part}'")
        return np.array([e.index for e in self.episodes if e.part == part], np.int64)

    def check(self, source: EpisodeSource) -> None:
        """Raises InputError when `source` is not what was processed."""
        if source.fingerprint() != self.fingerprint:
            raise InputError(
                f"{self.directory}: made from other data than the dataset given now; "
                "process again into a new folder"
            )


def process(
    source: EpisodeSource, config: DataConfig, directory: str | os.PathLike[str]
) -> Processed:
    """Cleans, splits and measures `source`; reuses `directory` when nothing changed.

    An existing split in `directory` with the same shares is kept for the episodes it
    names.

    Raises:
      InputError: a camera that is not there, an action that is not finite, nothing
        left after cleaning, or a folder that cannot be written.
    """
    root = pathlib.Path(directory)
    spec = select_spec(source.spec, config)
    fingerprint = source.fingerprint()
    dataset_hash = _hash(fingerprint, config)
    if _stored_hash(root) == dataset_hash:
        return load(root)
    kept, counts = _clean(source, config)
    entries = _split(kept, config, _previous(root, config))
    train = [e.index for e in entries if e.part == "train"]
    norm = _statistics(source, train, spec)
    spec = dataclasses.replace(spec, action=_bounded(spec.action, norm["action"]))
    counts.update({p: 0 for p in splits.PARTS})
    counts.update(e.part for e in entries)
    processed = Processed(str(root), spec, norm, entries, dict(counts), fingerprint, dataset_hash)
    _write(root, processed, config)
    return processed


def select_spec(spec: DatasetSpec, config: DataConfig) -> DatasetSpec:
    """What the policy sees of `spec`, as the configuration chooses.

    Cameras with their masks, proprio, language, previous action.

    Raises:
      InputError: a camera that is not there (names those that are), or action names
        and units of the wrong number.
    """
    available = camera_names(spec.keys)
    missing = [c for c in config.cameras if c not in available]
    if missing:
        raise InputError(
            f"data.cameras: no camera '{missing[0]}' in the dataset; there are: "
            f"{', '.join(available) or 'none'}"
        )
    cameras = config.cameras or available
    wanted = {p + c for c in cameras for p in (specs.IMAGE_PREFIX, specs.MASK_PREFIX)}
    wanted |= {"proprio"} if config.proprio else set()
    wanted |= {"language"} if config.language else set()
    observation = tuple(s for s in spec.observation if s.name in wanted)
    if not observation:
        raise InputError("data: nothing left for the policy to see; allow cameras or proprio")
    action = _named(spec.action, config)
    if config.previous_action:
        previous = ArraySpec(specs.PREVIOUS_ACTION, (action.size,), unit=", ".join(action.units))
        observation = tuple(sorted((*observation, previous), key=lambda s: s.name))
    return DatasetSpec(observation, action)


def _named(action: ActionSpec, config: DataConfig) -> ActionSpec:
    for field in ("action_names", "action_units"):
        given = getattr(config, field)
        if given and len(given) != action.size:
            raise InputError(f"data.{field} has {len(given)} entries, the action has {action.size}")
    return dataclasses.replace(
        action,
        kind=config.action_kind or action.kind,
        names=config.action_names or action.names,
        units=config.action_units or action.units,
        control_hz=config.control_hz or action.control_hz,
    )


def _bounded(action: ActionSpec, stats: NormStats) -> ActionSpec:
    """Bounds nobody declared become those of the train part."""
    low, high = np.array(action.minimum), np.array(action.maximum)
    low = np.where(low <= -UNBOUNDED, stats.minimum, low)
    high = np.where(high >= UNBOUNDED, stats.maximum, high)
    return dataclasses.replace(
        action, minimum=tuple(map(float, low)), maximum=tuple(map(float, high))
    )


def _clean(source: EpisodeSource, config: DataConfig) -> tuple[list[EpisodeEntry], Counter[str]]:
    """Kept episodes (part still empty) and counts."""
    counts = Counter({"found": len(source), **dict.fromkeys(_DROPPED, 0)})
    kept: list[EpisodeEntry] = []
    seen: set[str] = set()
    for i in range(len(source)):
        episode, content = source.load(i, ()), source.content_hash(i)
        reason = _reason_to_drop(episode, config, content in seen)
        seen.add(content)
        if reason:
            counts[reason] += 1
        else:
            name = episode.metadata.episode_id
            kept.append(EpisodeEntry(i, name, "", len(episode), content))
    counts["kept"], counts["steps"] = len(kept), sum(e.length for e in kept)
    if not kept:
        dropped = ", ".join(f"{counts[k]} {k}" for k in _DROPPED)
        raise InputError(f"no episodes left of {len(source)}: dropped {dropped}")
    return _unique_ids(kept), counts


def _reason_to_drop(episode: Episode, config: DataConfig, is_duplicate: bool) -> str:
    if config.cleaning.failed and episode.metadata.success is False:
        return "failed"
    if config.cleaning.duplicates and is_duplicate:
        return "duplicate"
    problem = _not_finite(episode)
    if problem and config.cleaning.corrupt == "error":
        raise InputError(
            f"episode '{episode.metadata.episode_id}', {problem}; repair the data or set "
            "data.cleaning.corrupt=quarantine"
        )
    return "nan" if problem else ""


def _not_finite(episode: Episode) -> str:
    """Where the first NaN or infinite value lies, "" if there is none."""
    values = {"action": episode.action, "proprio": episode.observation.get("proprio")}
    for name, value in values.items():
        if value is not None and not np.isfinite(value).all():
            step = int(np.argmin(np.isfinite(value).all(axis=-1)))
            return f"step {step}: {name} holds NaN or infinite values"
    return ""


def _unique_ids(entries: Sequence[EpisodeEntry]) -> list[EpisodeEntry]:
    """Repeated ids of different episodes get a piece of their content's digest."""
    repeated = {i for i, n in Counter(e.episode_id for e in entries).items() if n > 1}
    times: Counter[str] = Counter()
    result = []
    for e in entries:
        if e.episode_id in repeated:
            name = f"{e.episode_id}~{e.content[:12]}"
            times[name] += 1
            e = dataclasses.replace(e, episode_id=f"{name}~{times[name]}")
        result.append(e)
    return result


def _split(
    entries: Sequence[EpisodeEntry], config: DataConfig, previous: Mapping[str, str]
) -> tuple[EpisodeEntry, ...]:
    parts = splits.assign([e.episode_id for e in entries], config.split, previous)
    return tuple(dataclasses.replace(e, part=parts[e.episode_id]) for e in entries)


def _statistics(
    source: EpisodeSource, train: Sequence[int], spec: DatasetSpec
) -> dict[str, NormStats]:
    """One pass over the train part: action and proprio side by side, then taken apart."""
    with_proprio = "proprio" in spec.keys
    stats = normalization.fit(_rows(source, train, with_proprio))
    n = spec.action.size
    norm = {"action": NormStats(*(v[:n] for v in stats))}
    return norm | ({"proprio": NormStats(*(v[n:] for v in stats))} if with_proprio else {})


def _rows(source: EpisodeSource, train: Sequence[int], with_proprio: bool) -> Iterator[np.ndarray]:
    for i in train:
        episode = source.load(i, ())
        parts = [episode.action] + [episode.observation["proprio"]] * with_proprio
        yield np.concatenate(parts, axis=1)


def _hash(fingerprint: str, config: DataConfig) -> str:
    """Of everything that changes the files; how data is loaded does not."""
    facts = dataclasses.asdict(config)
    for key in ("loader", "cache_budget_mb", "format"):
        del facts[key]
    return hashlib.sha256(f"1 {fingerprint} {json.dumps(facts)}".encode()).hexdigest()


def _stored_hash(root: pathlib.Path) -> str:
    try:
        return json.loads((root / SOURCE_FILE).read_text())["dataset_hash"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _previous(root: pathlib.Path, config: DataConfig) -> dict[str, str]:
    """Episode id -> part, as an earlier call with the same shares decided."""
    path = root / SPLIT_FILE
    if not path.exists():
        return {}
    stored = _read(path)
    try:
        if tuple(stored["shares"]) != config.split:
            return {}
        return {e["episode_id"]: e["part"] for e in stored["episodes"]}
    except (KeyError, TypeError) as e:
        raise InputError(f"{path}: malformed; delete it to split anew: {e!r}") from e


def _write(root: pathlib.Path, processed: Processed, config: DataConfig) -> None:
    norm = {k: {f: getattr(s, f).tolist() for f in s._fields} for k, s in processed.norm.items()}
    episodes = [dataclasses.asdict(e) for e in processed.episodes]
    facts = {
        "config": dataclasses.asdict(config),
        "counts": processed.counts,
        "dataset_hash": processed.dataset_hash,
        "fingerprint": processed.fingerprint,
        "spec": dataclasses.asdict(processed.spec),
    }
    atomic.remove(root / SOURCE_FILE)
    atomic.write_text(root / STATISTICS_FILE, _json(norm))
    atomic.write_text(root / SPLIT_FILE, _json({"shares": config.split, "episodes": episodes}))
    # Removed first and written last: its hash says that the other two are complete.
    atomic.write_text(root / SOURCE_FILE, _json(facts))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _read(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise InputError(f"{path}: missing; run the process stage first") from e
    except (OSError, ValueError) as e:
        raise InputError(f"{path}: cannot read: {e}") from e


def load(directory: str | os.PathLike[str]) -> Processed:
    """Reads what `process` wrote.

    Raises:
      InputError: a file is missing or malformed.
    """
    root = pathlib.Path(directory)
    facts, norm = _read(root / SOURCE_FILE), _read(root / STATISTICS_FILE)
    try:
        return Processed(
            directory=str(root),
            spec=schema.from_mapping(DatasetSpec, facts["spec"], f"{root / SOURCE_FILE}: spec"),
            norm={k: _norm_stats(v) for k, v in norm.items()},
            episodes=tuple(EpisodeEntry(**e) for e in _read(root / SPLIT_FILE)["episodes"]),
            counts=dict(facts["counts"]),
            fingerprint=facts["fingerprint"],
            dataset_hash=facts["dataset_hash"],
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{root}: malformed; delete it and process again: {e!r}") from e


def _norm_stats(value: Mapping[str, Any]) -> NormStats:
    return NormStats(*(np.asarray(value[f], np.float32) for f in NormStats._fields))

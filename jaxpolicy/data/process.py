"""Stage 2: from recorded episodes to a cleaned, split and measured dataset.

Writes small files and copies no data:
  source.json      what was read, how many were dropped by which rule, what a step holds
  episodes.jsonl   one line per episode: its part, or the rule that dropped it and why
  statistics.json  NormStats of action and proprio, fitted on the train part only
  card.json, card.html  the dataset at a glance, for people

Memory: about 100 bytes an episode on top of a constant; everything else goes through files.
"""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxpolicy.core import atomic, normalization, schema, specs
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import ArraySpec, InputError, camera_names
from jaxpolicy.core.types import DatasetSpec
from jaxpolicy.data import card, cleaning, scan, splits, stated
from jaxpolicy.data.config import DataConfig
from jaxpolicy.data.scan import Scan
from jaxpolicy.data.source import EpisodeSource

__all__ = ["EpisodeEntry", "Processed", "load", "process", "select_spec"]

SOURCE_FILE = "source.json"
EPISODES_FILE = "episodes.jsonl"
STATISTICS_FILE = "statistics.json"
TEST_READS_FILE = "test_reads.jsonl"

# What is held of a kept episode; part: position in splits.PARTS.
_KEPT = np.dtype([("index", np.int64), ("part", np.int8), ("length", np.int64)])


@dataclasses.dataclass(frozen=True)
class EpisodeEntry:
    """One line of episodes.jsonl.

    Attributes:
      index: position in the source.
      episode_id: unique.
      task: its task, or its instruction.
      length: T, steps; 0 where it could not be read.
      part: train, val or test; "" where it was dropped.
      dropped: the rule that dropped it, see cleaning.RULES; "" where it was kept.
      why: why it was dropped.
    """

    index: int
    episode_id: str
    task: str
    length: int
    part: str
    dropped: str = ""
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Processed:
    """A dataset ready for training.

    Attributes:
      directory: where its files lie.
      spec: what the policy sees of a step, and the action.
      norm: NormStats by key, "action" and, where there is one, "proprio".
      counts: found, one per rule that drops, kept, steps, and episodes per part.
      fingerprint: of the source.
      dataset_hash: of source and config together; goes into every report.
    """

    directory: str
    spec: DatasetSpec
    norm: dict[str, NormStats]
    counts: dict[str, int]
    fingerprint: str
    dataset_hash: str
    _kept: np.ndarray = dataclasses.field(repr=False, compare=False)

    @property
    def episodes(self) -> tuple[EpisodeEntry, ...]:
        """The kept episodes, in source order, read from disk."""
        return tuple(e for e in self.all_episodes() if e.part)

    def all_episodes(self) -> Iterator[EpisodeEntry]:
        """Every episode of the source, those that were dropped with the reason."""
        return _read_entries(pathlib.Path(self.directory) / EPISODES_FILE)

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

    def lengths(self, part: str) -> np.ndarray:
        """Steps of every episode of "train" or "val", as `indices` orders them."""
        return self._kept["length"][np.isin(self._kept["index"], self.indices(part))]

    def describe(self, index: int, why: str) -> str:
        """A line of JSON about an episode that cannot be used after all."""
        return json.dumps({"index": index, "why": why, "dataset_hash": self.dataset_hash})

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
        return self._kept["index"][self._kept["part"] == splits.PARTS.index(part)]

    def check(self, source: EpisodeSource) -> None:
        """Raises InputError when `source` is not what was processed."""
        if source.fingerprint() != self.fingerprint:
            raise InputError(
                f"{self.directory}: made from other data than the dataset given now; "
                "process again into a new folder"
            )


def process(
    source: EpisodeSource,
    config: DataConfig,
    directory: str | os.PathLike[str],
    progress: scan.Progress | None = None,
) -> Processed:
    """Cleans, splits and measures `source`; reuses `directory` when nothing changed.

    An existing split in `directory` with the same shares is kept for the episodes it
    names.

    Args:
      source: the dataset.
      config: see DataConfig.
      directory: gets the files.
      progress: called with (episodes read, episodes in all).

    Raises:
      InputError: a camera that is not there, a corrupt episode where those are errors,
        nothing left after cleaning, actions outside the limits that were given, or a folder
        that cannot be written.
    """
    root = pathlib.Path(directory)
    spec = select_spec(source.spec, config)
    fingerprint = source.fingerprint()
    dataset_hash = _hash(fingerprint, config)
    if _stored_hash(root) == dataset_hash:
        return load(root)
    atomic.make_parent(root)
    try:
        with atomic.scratch(root) as folder:
            seen = scan.scan(source, folder, progress)
            work = _Work(source, config, spec, seen, root)
            _write(work, fingerprint, dataset_hash)
    except OSError as e:
        raise InputError(f"{root}: cannot write: {e.strerror}") from e
    return load(root)


@dataclasses.dataclass(frozen=True)
class _Work:
    """A dataset in the making."""

    source: EpisodeSource
    config: DataConfig
    spec: DatasetSpec
    scan: Scan
    root: pathlib.Path


def _write(work: _Work, fingerprint: str, dataset_hash: str) -> None:
    """All files, source.json last: its hash says that the others are complete."""
    rules = _clean(work)
    parts = _split(work, rules)
    _check_limits(work, parts == 0)
    norm = _statistics(work, parts == 0)
    spec = dataclasses.replace(work.spec, action=stated.bounded(work.spec.action, norm["action"]))
    counts = _counts(work.scan, rules, parts)
    facts = {
        "config": dataclasses.asdict(work.config),
        "counts": counts,
        "dataset_hash": dataset_hash,
        "fingerprint": fingerprint,
        "spec": dataclasses.asdict(spec),
    }
    root = work.root
    atomic.remove(root / SOURCE_FILE)
    stats = {k: {f: getattr(s, f).tolist() for f in s._fields} for k, s in norm.items()}
    atomic.write_text(root / STATISTICS_FILE, _json(stats))
    with atomic.new_file(root / EPISODES_FILE) as path:
        _write_entries(path, work.scan, rules, parts, work.config)
    found = card.Facts(work.source, work.scan, rules, parts, spec, norm, counts)
    card.write(root, found, _read_entries(root / EPISODES_FILE))
    atomic.write_text(root / SOURCE_FILE, _json(facts))


def select_spec(spec: DatasetSpec, config: DataConfig) -> DatasetSpec:
    """What the policy sees of `spec`, as the configuration chooses.

    Cameras with their masks, proprio, language, previous action.

    Raises:
      InputError: a camera that is not there (names those that are), or names, units or
        limits of the wrong number.
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
    wanted |= {specs.PRIVILEGED} if config.privileged else set()
    wanted |= {"language"} if config.language else set()
    observation = tuple(stated.described(s, config) for s in spec.observation if s.name in wanted)
    if not observation:
        raise InputError("data: nothing left for the policy to see; allow cameras or proprio")
    action = stated.named(spec.action, config)
    if config.previous_action:
        units, names = ", ".join(action.units), action.names
        previous = ArraySpec(specs.PREVIOUS_ACTION, (action.size,), unit=units, names=names)
        observation = tuple(sorted((*observation, previous), key=lambda s: s.name))
    return DatasetSpec(observation, action)


def _check_limits(work: _Work, train: np.ndarray) -> None:
    """Raises InputError where actions of the train part lie outside limits that were given."""
    action = work.spec.action
    if action.limits_from != specs.FROM_SETTINGS:
        return
    low, high = np.array(action.minimum, np.float32), np.array(action.maximum, np.float32)
    counts, steps = np.zeros(action.size, np.int64), 0
    for rows in work.scan.rows(train):
        block = rows[:, : action.size]
        counts += ((block < low) | (block > high)).sum(axis=0)
        steps += len(block)
    told = [
        f"'{name}' in {n} of {steps} steps (limits {a:g} to {b:g})"
        for name, n, a, b in zip(action.names, counts, low, high, strict=True)
        if n
    ]
    if told:
        raise InputError(
            "data.action_minimum and data.action_maximum: actions of the training data lie "
            f"outside: {', '.join(told)}; widen the limits, or leave these episodes out"
        )


def _clean(work: _Work) -> np.ndarray:
    """int8 [N], the rule that drops each episode or -1.

    Raises:
      InputError: nothing is left, or a corrupt episode is an error.
    """
    seen, config = work.scan, work.config.cleaning
    readable = seen.episodes["readable"]
    if not len(readable):
        raise InputError("the dataset holds no episodes")
    if config.corrupt == "error":
        _stop_at_corrupt(seen)
    everything = normalization.fit(seen.rows(readable)) if readable.any() else None
    if everything is None:
        raise InputError(f"no episode can be read; the first: {_first_problem(seen, ~readable)}")
    facts = cleaning.Facts(seen, everything.q01, everything.q99, work.spec.action.kind)
    rules = cleaning.find(facts, config)
    if not (rules < 0).any():
        counts = _counts(seen, rules, rules)
        dropped = ", ".join(f"{counts[k]} {k}" for k in cleaning.RULES)
        raise InputError(f"no episodes left of {len(rules)}: dropped {dropped}")
    return rules


def _stop_at_corrupt(seen: Scan) -> None:
    bad = ~seen.episodes["readable"] & (seen.episodes["success"] != 0)
    if bad.any():
        raise InputError(
            f"{_first_problem(seen, bad)}; repair the data or set data.cleaning.corrupt=quarantine"
        )


def _first_problem(seen: Scan, bad: np.ndarray) -> str:
    return next(t.problem for t, b in zip(seen.texts(), bad, strict=True) if b)


def _split(work: _Work, rules: np.ndarray) -> np.ndarray:
    """int8 [N], positions in splits.PARTS, -1 where dropped."""
    kept = rules < 0
    episodes = work.scan.episodes[kept]
    _, tasks = np.unique(episodes["task"], return_inverse=True)
    previous = _previous(work, kept)
    parts = np.full(len(rules), -1, np.int8)
    parts[kept] = splits.assign(tasks, episodes["dither"], work.config.split, previous)
    return parts


def _names(seen: Scan) -> Iterator[str]:
    """Unique ids: of episodes with the same, all but the first get a piece of their digest."""
    keys, times = np.unique(seen.episodes["key"], return_counts=True)
    repeated = set(keys[times > 1].tolist())
    used: Counter[str] = Counter()
    for text, episode in zip(seen.texts(), seen.episodes, strict=True):
        name = text.episode_id
        if int(episode["key"]) in repeated:
            used[name] += 1
            if used[name] > 1:
                name = f"{name}~{bytes(episode['content']).hex()[:12]}~{used[name]}"
        yield name


def _previous(work: _Work, kept: np.ndarray) -> np.ndarray:
    """int8 [n kept], parts that an earlier call with the same shares decided, -1: none."""
    path = work.root / EPISODES_FILE
    if not path.exists() or _stored_shares(work.root) != work.config.split:
        return np.full(kept.sum(), -1, np.int8)
    pairs = ((scan.hash64(e.episode_id), splits.PARTS.index(e.part)) for e in _parted(path))
    known = np.sort(np.fromiter(pairs, [("key", np.uint64), ("part", np.int8)]), order="key")
    names = (scan.hash64(n) for n in _names(work.scan))
    wanted = np.fromiter(names, np.uint64, len(kept))[kept]
    if not len(known):
        return np.full(len(wanted), -1, np.int8)
    nearest = known[np.minimum(np.searchsorted(known["key"], wanted), len(known) - 1)]
    return np.where(nearest["key"] == wanted, nearest["part"], -1)


def _parted(path: pathlib.Path) -> Iterator[EpisodeEntry]:
    return (e for e in _read_entries(path) if e.part in splits.PARTS)


def _stored_shares(root: pathlib.Path) -> tuple[float, ...]:
    """Shares of the split in `root`; they stand in the first line of episodes.jsonl."""
    with open(root / EPISODES_FILE, encoding="utf-8") as file:
        try:
            return tuple(json.loads(file.readline())["shares"])
        except (ValueError, KeyError, TypeError) as e:
            raise InputError(
                f"{root / EPISODES_FILE}: malformed; delete it to split anew: {e!r}"
            ) from e


def _statistics(work: _Work, train: np.ndarray) -> dict[str, NormStats]:
    """One pass over the train part: action and proprio side by side, then taken apart."""
    stats = normalization.fit(work.scan.rows(train))
    n = work.spec.action.size
    norm = {"action": NormStats(*(v[:n] for v in stats))}
    if "proprio" in work.spec.keys:
        norm["proprio"] = NormStats(*(v[n:] for v in stats))
    if specs.PRIVILEGED in work.spec.keys:
        loaded = (work.source.load(int(i), ()) for i in np.flatnonzero(train))
        norm[specs.PRIVILEGED] = normalization.fit(e.observation[specs.PRIVILEGED] for e in loaded)
    return norm


def _counts(seen: Scan, rules: np.ndarray, parts: np.ndarray) -> dict[str, int]:
    dropped = {name: int((rules == k).sum()) for k, name in enumerate(cleaning.RULES)}
    kept = rules < 0
    in_parts = {name: int((parts[kept] == k).sum()) for k, name in enumerate(splits.PARTS)}
    steps = int(seen.episodes["length"][kept].sum())
    return {"found": len(rules), **dropped, "kept": int(kept.sum()), "steps": steps, **in_parts}


def _write_entries(
    path: pathlib.Path, seen: Scan, rules: np.ndarray, parts: np.ndarray, config: DataConfig
) -> None:
    names = [*cleaning.RULES, ""]
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps({"shares": config.split}) + "\n")
        episodes = zip(_names(seen), seen.texts(), seen.episodes, rules, parts, strict=True)
        for i, (name, text, episode, rule, part) in enumerate(episodes):
            entry = EpisodeEntry(
                index=i,
                episode_id=name,
                task=text.task,
                length=int(episode["length"]),
                part=splits.PARTS[part] if part >= 0 else "",
                dropped=names[rule],
                why=text.problem or cleaning.WHY.get(names[rule], ""),
            )
            file.write(json.dumps(dataclasses.asdict(entry)) + "\n")


def _read_entries(path: pathlib.Path) -> Iterator[EpisodeEntry]:
    """Lines of episodes.jsonl after the first, which holds the shares."""
    try:
        with open(path, encoding="utf-8") as file:
            json.loads(file.readline())["shares"]
            for line in file:
                yield EpisodeEntry(**json.loads(line))
    except FileNotFoundError as e:
        raise InputError(f"{path}: missing; run the process stage first") from e
    except (OSError, ValueError) as e:
        raise InputError(f"{path}: cannot read: {e}") from e
    except (TypeError, KeyError) as e:
        raise InputError(f"{path}: malformed; delete it and process again: {e!r}") from e


def _hash(fingerprint: str, config: DataConfig) -> str:
    """Of everything that changes the files; how data is loaded does not."""
    facts = dataclasses.asdict(config)
    for key in _LOADING:
        del facts[key]
    # Without them the hash is that of datasets from before there were such settings.
    for key in _LATER:
        if not facts[key]:
            del facts[key]
    return hashlib.sha256(f"2 {fingerprint} {json.dumps(facts)}".encode()).hexdigest()


_LATER = ("action_minimum", "action_maximum", "proprio_names", "proprio_units")
_LOADING = ("loader", "cache_budget_mb", "disk_budget_mb", "workers", "format", "image_size")


def _stored_hash(root: pathlib.Path) -> str:
    try:
        return json.loads((root / SOURCE_FILE).read_text())["dataset_hash"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""


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
    rows = ((e.index, splits.PARTS.index(e.part), e.length) for e in _parted(root / EPISODES_FILE))
    try:
        return Processed(
            directory=str(root),
            spec=schema.from_mapping(DatasetSpec, facts["spec"], f"{root / SOURCE_FILE}: spec"),
            norm={k: _norm_stats(v) for k, v in norm.items()},
            counts=dict(facts["counts"]),
            fingerprint=facts["fingerprint"],
            dataset_hash=facts["dataset_hash"],
            _kept=np.fromiter(rows, _KEPT),
        )
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise InputError(f"{root}: malformed; delete it and process again: {e!r}") from e


def _norm_stats(value: Mapping[str, Any]) -> NormStats:
    return NormStats(*(np.asarray(value[f], np.float32) for f in NormStats._fields))

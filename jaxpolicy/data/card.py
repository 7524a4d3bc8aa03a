"""A dataset at a glance: card.json for scripts, card.html for people."""

import base64
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from jaxpolicy.core import atomic
from jaxpolicy.core.counting import counted
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import FROM_DATA, InputError, camera_names, is_camera
from jaxpolicy.core.types import DatasetSpec, Episode
from jaxpolicy.data import card_html, cleaning, images, scan
from jaxpolicy.data.scan import Scan
from jaxpolicy.data.source import EpisodeSource

__all__ = ["CARD_HTML", "CARD_JSON", "Facts", "build", "write"]

CARD_JSON = "card.json"
CARD_HTML = "card.html"

_BINS = 30
_MAX_TASKS = 50
_MAX_LISTED = 100
_N_PICTURES = 6
_PICTURE_HEIGHT = 120


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a card is made from.

    Attributes:
      source: the dataset.
      scan: see Scan.
      rules, parts: int8 [N], see cleaning.find and splits.assign.
      spec: what a step holds.
      norm: statistics of the train part.
      counts: see process.Processed.
    """

    source: EpisodeSource
    scan: Scan
    rules: np.ndarray
    parts: np.ndarray
    spec: DatasetSpec
    norm: Mapping[str, NormStats]
    counts: Mapping[str, int]


def write(directory: pathlib.Path, facts: Facts, entries: Iterable[Any]) -> None:
    """Writes both files into `directory`.

    Args:
      directory: existing folder.
      facts: see Facts.
      entries: EpisodeEntry of every episode, in order.
    """
    card = build(facts, entries)
    pictures, problems = _pictures(facts)
    card["warnings"] += problems
    atomic.write_text(directory / CARD_JSON, json.dumps(card, indent=1) + "\n")
    atomic.write_text(directory / CARD_HTML, card_html.page(card, pictures))


def build(facts: Facts, entries: Iterable[Any]) -> dict[str, Any]:
    """The contents of card.json."""
    kept = facts.parts >= 0
    hz = facts.spec.action.control_hz
    card = {
        "counts": dict(facts.counts),
        "control_hz": hz or None,
        "hours": facts.counts["steps"] / hz / 3600 if hz else None,
        "success": _success(facts.scan.episodes["success"]),
        "lengths": _lengths(facts.scan.episodes["length"][kept]),
        "tasks": _tasks(facts),
        "cameras": {c: list(facts.spec[f"image/{c}"].shape) for c in camera_names(facts.spec.keys)},
        "action_kind": facts.spec.action.kind,
        "columns": _columns(facts, kept),
        "dropped": _dropped(entries),
        "fields": [row._asdict() for row in _rows(facts.source)],
    }
    return card | {"warnings": list(_warnings(facts, card))}


def _success(success: np.ndarray) -> dict[str, Any]:
    """Over all episodes that were found, dropped ones too."""
    n_yes, n_no = int((success == 1).sum()), int((success == 0).sum())
    rate = n_yes / (n_yes + n_no) if n_yes + n_no else None
    return {"succeeded": n_yes, "failed": n_no, "unknown": int((success < 0).sum()), "rate": rate}


def _lengths(lengths: np.ndarray) -> dict[str, Any]:
    counts, edges = np.histogram(lengths, bins=_BINS)
    return {
        "min": int(lengths.min()),
        "median": float(np.median(lengths)),
        "max": int(lengths.max()),
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }


def _tasks(facts: Facts) -> dict[str, Any]:
    """The commonest tasks of the kept episodes, with their shares of the parts."""
    kept = facts.parts >= 0
    keys, owner, times = np.unique(
        facts.scan.episodes["task"][kept], return_inverse=True, return_counts=True
    )
    common = np.argsort(-times, kind="stable")[:_MAX_TASKS]
    names = _task_names(facts.scan, {int(keys[k]) for k in common})
    listed = [
        {
            "task": names[int(keys[k])],
            "episodes": int(times[k]),
            "parts": np.bincount(facts.parts[kept][owner == k], minlength=3).tolist(),
        }
        for k in common
    ]
    return {"n": len(keys), "commonest": listed}


def _task_names(seen: Scan, wanted: set[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for text in seen.texts():
        if len(found) == len(wanted):
            break
        key = scan.hash64(text.task)
        if key in wanted:
            found[key] = text.task
    return found


def _columns(facts: Facts, kept: np.ndarray) -> list[dict[str, Any]]:
    """One per element of action and proprio: statistics of the train part, histogram of all."""
    keys = [k for k in ("action", "proprio") if k in facts.norm]
    low, high = (
        np.concatenate([np.asarray(getattr(facts.norm[k], f), np.float64) for k in keys])
        for f in ("minimum", "maximum")
    )
    counts = _histograms(facts.scan.rows(kept), low, high)
    columns = [_column(facts, k, i) for k in keys for i in range(len(facts.norm[k].mean))]
    return [c | {"histogram": h.tolist()} for c, h in zip(columns, counts, strict=True)]


def _column(facts: Facts, key: str, i: int) -> dict[str, Any]:
    stats = {f: float(getattr(facts.norm[key], f)[i]) for f in NormStats._fields}
    named = facts.spec.action if key == "action" else facts.spec[key]
    name, unit = (named.names[i] if named.names else str(i)), named.units[i]
    return {"array": key, "name": name, "unit": unit, **stats}


def _histograms(rows: Iterator[np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """[D, bins], equal bins from `low` to `high`; what lies beyond counts at the ends."""
    counts = np.zeros((len(low), _BINS), np.int64)
    width = np.where(high > low, high - low, 1.0)
    for block in rows:
        place = np.clip((block[:, : len(low)] - low) / width * _BINS, 0, _BINS - 1).astype(np.int64)
        for i in range(len(low)):
            counts[i] += np.bincount(place[:, i], minlength=_BINS)
    return counts


def _dropped(entries: Iterable[Any]) -> dict[str, Any]:
    """Per rule: how many, and the first of them; episodes.jsonl lists all."""
    found: dict[str, Any] = {r: {"count": 0, "episodes": []} for r in cleaning.RULES}
    for entry in entries:
        if entry.dropped:
            rule = found[entry.dropped]
            rule["count"] += 1
            if len(rule["episodes"]) < _MAX_LISTED:
                listed = {"index": entry.index, "episode_id": entry.episode_id, "why": entry.why}
                rule["episodes"].append(listed)
    return found


def _rows(source: EpisodeSource) -> tuple[Any, ...]:
    layout = getattr(source, "layout", None)
    return layout.rows if layout else ()


def _warnings(facts: Facts, card: Mapping[str, Any]) -> Iterator[str]:
    """What somebody should look at before training."""
    counts = facts.counts
    if counts["corrupt"]:
        yield f"set aside as unreadable: {counted(counts['corrupt'], 'episode')}"
    if counts["kept"] < counts["found"] / 2:
        yield f"more than half of the episodes were dropped ({counts['kept']} of {counts['found']})"
    if min(counts["val"], counts["test"]) == 0:
        yield "the validation or the test part is empty"
    if card["success"]["unknown"] == counts["found"]:
        yield "no episode says whether it succeeded: failures cannot be dropped"
    if facts.spec.action.kind == "unknown":
        yield "the dataset does not say what its actions are; state data.action_kind"
    if facts.spec.action.limits_from == FROM_DATA:
        yield (
            "nobody says what the robot accepts: a policy cannot act beyond the extremes of the "
            "training data; state data.action_minimum and data.action_maximum"
        )
    if not facts.spec.action.control_hz:
        yield "the rate of the steps is unknown; state data.control_hz"
    constant = [c["name"] for c in card["columns"] if c["array"] == "action" and c["std"] < 1e-6]
    if constant:
        yield f"constant elements of the action: {', '.join(constant)}"
    if card["lengths"]["max"] > 10 * card["lengths"]["median"]:
        yield "some episodes are more than ten times as long as the median"


def _pictures(facts: Facts) -> tuple[list[dict[str, str]], list[str]]:
    """The middle frame of every camera of a few train episodes, and what was wrong."""
    cameras = camera_names(facts.spec.keys)
    train = np.flatnonzero(facts.parts == 0)
    if not cameras or not len(train):
        return [], []
    chosen = train[np.unique(np.linspace(0, len(train) - 1, _N_PICTURES).astype(int))]
    found, problems = [], []
    for i in chosen.tolist():
        try:
            found += _frames(facts.source.load(i, cameras))
        except InputError as e:
            problems.append(f"a picture cannot be decoded: {e}")
    return found, problems + _blank(found)


def _frames(episode: Episode) -> list[dict[str, str]]:
    shown = []
    for key, frames in sorted(episode.observation.items()):
        if is_camera(key):
            frame = frames[len(frames) // 2]
            blank = "yes" if images.is_blank(frame[None]) else ""
            shown.append(
                {
                    "camera": key.removeprefix("image/"),
                    "episode": episode.metadata.episode_id,
                    "task": episode.metadata.task or episode.language_instruction,
                    "data": _thumbnail(frame),
                    "blank": blank,
                }
            )
    return shown


def _thumbnail(frame: np.ndarray) -> str:
    """JPEG in base64."""
    picture = Image.fromarray(frame)
    width = max(1, round(frame.shape[1] * _PICTURE_HEIGHT / frame.shape[0]))
    buffer = io.BytesIO()
    picture.resize((width, _PICTURE_HEIGHT)).save(buffer, "jpeg", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def _blank(shown: list[dict[str, str]]) -> list[str]:
    cameras = {s["camera"] for s in shown}
    seen = {s["camera"] for s in shown if not s["blank"]}
    return [f"{c}: every picture looked at has one colour" for c in sorted(cameras - seen)]

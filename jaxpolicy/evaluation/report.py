"""The report of an evaluation: report.json for scripts, report.html for people.

Whatever was not measured is null in report.json, and `not_measured` says why.
"""

import dataclasses
import io
import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxpolicy.core import atomic, json_file, versions
from jaxpolicy.evaluation import failures, metrics, page, plots
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.evaluation.rollout import Rollouts
from jaxpolicy.sim.render import pictures

__all__ = ["Facts", "build", "keep_earlier", "write"]

REPORT = "report.json"
PAGE = "report.html"
VIDEO = "episodes.mp4"
EARLIER = "earlier"
_PACKAGES = ("python", "jaxpolicy", "jax", "jaxlib", "flax", "numpy", "mujoco", "brax")
_NO_SUCCESS = "the environment has no success predicate"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the report says about the policy besides its episodes.

    Attributes:
      policy: what ran: "jax", "onnx", "tflite", "expert", ...
      checkpoint: step or path of the parameters, "" where there are none.
      dataset_hash: of the training data, "" where there is none.
      latency_ms: from `latency.measure`, None where not measured.
      world: settings of the world, empty where they are not known.
      rates_over_seeds: success rates of the same recipe trained with several seeds, this
        one among them.
    """

    policy: str = ""
    checkpoint: str = ""
    dataset_hash: str = ""
    latency_ms: Mapping[str, Any] | None = None
    world: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rates_over_seeds: tuple[float, ...] = ()


def build(rollouts: Rollouts, facts: Facts, config: EvaluationConfig) -> dict[str, Any]:
    """The content of report.json.

    Keys: n_episodes, n_success, success_rate, pc_success (the rate in percent),
    success_ci95, success_std_over_seeds, avg_sum_reward, per_task, per_variation,
    calibration, latency_ms, failures, verdict, policy, checkpoint, dataset_hash, versions,
    episodes (one entry each), not_measured (key -> reason).
    """
    categories, shown = failures.classify(rollouts), failures.provable(rollouts)
    report: dict[str, Any] = {
        "policy": facts.policy,
        "task": rollouts.task,
        **_success(rollouts),
        "success_std_over_seeds": metrics.success_std_over_seeds(facts.rates_over_seeds),
        "avg_sum_reward": float(rollouts.returns.mean()),
        "actions_clipped": rollouts.actions_clipped,
        "per_task": _groups(rollouts, np.full(len(rollouts.seeds), rollouts.task)),
        "per_variation": _groups(rollouts, rollouts.variation),
        "calibration": _calibration(rollouts),
        "latency_ms": _latency(facts),
        "failures": None if rollouts.success is None else failures.count(categories, shown),
        "verdict": _verdict(rollouts, facts, config),
        "dataset_hash": facts.dataset_hash or None,
        "checkpoint": facts.checkpoint or None,
        "versions": versions.of(_PACKAGES),
        "world": dict(facts.world),
    }
    report["not_measured"] = _reasons(report)
    report["episodes"] = _episodes(rollouts, categories)
    return report


def write(
    directory: str | os.PathLike[str], rollouts: Rollouts, facts: Facts, config: EvaluationConfig
) -> dict[str, Any]:
    """Writes report.json, report.html, plots, contact sheets and the video.

    Each file appears whole; report.json comes last.

    Returns:
      The content of report.json.

    Raises:
      InputError: the directory cannot be written.
    """
    directory = Path(directory)
    report = build(rollouts, facts, config)
    atomic.make_directory(directory)
    pictures = _pictures(rollouts, facts, config, report["not_measured"])
    _write_pictures(directory, pictures)
    video = _video(directory, rollouts, report["not_measured"])
    atomic.write_text(directory / PAGE, page.render(report, pictures, video))
    atomic.write_text(directory / REPORT, json.dumps(report, indent=1, allow_nan=False) + "\n")
    return report


def keep_earlier(
    directory: str | os.PathLike[str], n_episodes: int, world: Mapping[str, Any] | None = None
) -> Path | None:
    """Moves a report of more than `n_episodes`, or of another world, aside.

    Args:
      directory: of the report.
      n_episodes: of the one that takes its place.
      world: settings of the world that one is of, as `Facts.world`.

    Returns:
      That folder, None where there is no such report.
    """
    directory = Path(directory)
    before = json_file.read(directory / REPORT)
    if not isinstance(before, Mapping):
        return None
    there = before.get("world")
    is_other = bool(there and world) and there != json_file.plain(world)
    if before.get("n_episodes", 0) <= n_episodes and not is_other:
        return None
    kept = _free(directory / EARLIER / f"{before['n_episodes']}_episodes")
    atomic.make_directory(kept)
    # The report itself goes last: until then it is found where it was.
    for name in (*page.PLOTS, *page.SHEETS, VIDEO, PAGE, REPORT):
        if (directory / name).exists():
            os.replace(directory / name, kept / name)
    return kept


def _free(path: Path) -> Path:
    """`path`, with a number after it where it is taken."""
    names = (path.with_name(f"{path.name}_{i}") for i in itertools.count(2))
    return next(p for p in itertools.chain((path,), names) if not p.exists())


def _write_pictures(directory: Path, pictures: Mapping[str, bytes]) -> None:
    """Writes pictures, and removes those of an earlier evaluation that have no successor."""
    for name, data in pictures.items():
        atomic.write_bytes(directory / name, data)
    for name in {*page.PLOTS, *page.SHEETS} - set(pictures):
        atomic.remove(directory / name)


def _success(rollouts: Rollouts) -> dict[str, Any]:
    n = len(rollouts.seeds)
    if rollouts.success is None:
        names = ("n_success", "success_rate", "pc_success", "success_ci95")
        return {"n_episodes": n, **dict.fromkeys(names)}
    return {"n_episodes": n, **_rate(rollouts.success)}


def _rate(success: np.ndarray) -> dict[str, Any]:
    n_success, n = int(success.sum()), len(success)
    return {
        "n_success": n_success,
        "success_rate": n_success / n,
        "pc_success": 100.0 * n_success / n,
        "success_ci95": list(metrics.wilson(n_success, n)),
    }


def _groups(rollouts: Rollouts, names: np.ndarray) -> dict[str, Any] | None:
    """Success by name of a group."""
    if rollouts.success is None:
        return None
    groups = {str(name): rollouts.success[names == name] for name in np.unique(names)}
    return {name: {"n_episodes": len(group), **_rate(group)} for name, group in groups.items()}


def _calibration(rollouts: Rollouts) -> dict[str, Any]:
    if rollouts.confidence is None or rollouts.success is None:
        return {"ece": None, "brier": None, "bins": None}
    return metrics.calibration(rollouts.confidence, rollouts.success)


def _latency(facts: Facts) -> dict[str, float | None]:
    measured = facts.latency_ms or {}
    return {name: measured.get(name) for name in ("p50", "p95", "p99")}


def _verdict(rollouts: Rollouts, facts: Facts, config: EvaluationConfig) -> dict[str, Any] | None:
    """Of the success rate, lowered where decisions take too long."""
    if rollouts.success is None:
        return None
    found = metrics.verdict(rollouts.n_success, len(rollouts.seeds), config.good, config.acceptable)
    level, reasons = found.verdict, list(found.reasons)
    p95, limit = _latency(facts)["p95"], config.max_latency_ms
    if p95 is not None:
        reasons.append(f"a decision takes {p95:.3g} ms (p95), the limit is {limit:g} ms")
        level = level if p95 <= limit else "needs_improvement"
    return {
        "level": level,
        "inconclusive": found.inconclusive,
        "more_episodes": found.more_trials,
        "reasons": reasons,
    }


def _reasons(report: Mapping[str, Any]) -> dict[str, str]:
    """Why a value is null: dotted key -> reason."""
    reasons: dict[str, str] = {}
    if report["n_success"] is None:
        keys = ("n_success", "success_rate", "pc_success", "success_ci95", "per_task")
        reasons |= dict.fromkeys((*keys, "per_variation", "failures", "verdict"), _NO_SUCCESS)
    if report["success_std_over_seeds"] is None:
        reasons["success_std_over_seeds"] = "one training seed was evaluated"
    if report["calibration"]["ece"] is None:
        reasons["calibration"] = "the policy states no confidence"
    if report["latency_ms"]["p50"] is None:
        reasons["latency_ms"] = "latency was not timed in this evaluation"
    for name, value in (report["failures"] or {}).items():
        if value["count"] is None:
            reasons[f"failures.{name}"] = value["reason"]
    for name in ("dataset_hash", "checkpoint"):
        if report[name] is None:
            reasons[name] = "the evaluated controller has none"
    return reasons


def _episodes(rollouts: Rollouts, categories: np.ndarray) -> list[dict[str, Any]]:
    return [_episode(rollouts, categories, i) for i in range(len(rollouts.seeds))]


def _episode(rollouts: Rollouts, categories: np.ndarray, i: int) -> dict[str, Any]:
    """One episode in plain values; numbers that are not finite become null."""
    first = None if rollouts.first_success is None else int(rollouts.first_success[i])
    return {
        "seed": int(rollouts.seeds[i]),
        "success": None if rollouts.success is None else bool(rollouts.success[i]),
        "failure": str(categories[i]) or None,
        "return": _number(rollouts.returns[i]),
        "length": int(rollouts.lengths[i]),
        "first_success": first or None,
        "task": rollouts.task,
        "variation": str(rollouts.variation[i]),
        "final": {k: _plain(v[i]) for k, v in rollouts.final.items()},
    }


def _plain(value: np.ndarray) -> Any:
    if np.ndim(value) == 0:
        return _number(value)
    return [_plain(v) for v in value]


def _number(value: Any) -> float | None:
    """Five significant digits are enough to say why an episode failed."""
    return float(f"{float(value):.5g}") if np.isfinite(value) else None


def _pictures(
    rollouts: Rollouts, facts: Facts, config: EvaluationConfig, not_measured: dict[str, str]
) -> dict[str, bytes]:
    """File name -> PNG; notes in `not_measured` what could not be drawn."""
    pictures = {}
    try:
        latency = dict(facts.latency_ms) if facts.latency_ms else None
        pictures = plots.draw_all(rollouts, config, latency)
    except ImportError:
        not_measured["plots"] = "matplotlib is not installed; pip install 'jaxpolicy[viz]'"
    for name, outcome in (("successes", True), ("failures", False), ("episodes", None)):
        shown = [r for r in rollouts.recordings if r.success is outcome]
        if shown:
            pictures[f"{name}.png"] = _sheet(shown)
    if not rollouts.recordings:
        not_measured["contact_sheets"] = "no frames were recorded"
    return pictures


def _sheet(recordings: list[pictures.Recording]) -> bytes:
    buffer = io.BytesIO()
    pictures.contact_sheet(recordings).save(buffer, format="PNG")
    return buffer.getvalue()


def _video(directory: Path, rollouts: Rollouts, not_measured: dict[str, str]) -> bytes:
    """The video's bytes; empty, with the reason noted, where there is none."""
    path = directory / VIDEO
    reason = pictures.write_video(path, rollouts.recordings, rollouts.control_hz)
    if reason:
        path.unlink(missing_ok=True)
        not_measured["video"] = reason
        return b""
    return path.read_bytes()

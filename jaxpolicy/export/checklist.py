"""The deployment checklist: facts that were measured, and blanks for what was not.

Every item is {"value", "limit", "passed"}; all three are null until somebody
measures it. The exporter fills in what it can measure; evaluation and robot trials
fill in the rest with `fill`.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxpolicy.core import atomic
from jaxpolicy.core.specs import InputError, PolicyManifest
from jaxpolicy.deploy import backends
from jaxpolicy.deploy.runtime import percentiles
from jaxpolicy.export import verify
from jaxpolicy.export.config import ExportConfig

__all__ = ["CHECKLIST", "ITEMS", "fill", "item", "measure", "measure_latency"]

CHECKLIST = "checklist.json"

# What a deployment must know, in the order in which it is learned.
ITEMS = (
    "parity",
    "operators",
    "size_bytes",
    "latency_ms",
    "success_rate",
    "artefact_success_rate",
    "robot_trials",
    "fallback_tested",
    "failure_handling_tested",
    "metrics_logged",
)

_WARM_UP = 10


def item(value: Any = None, limit: Any = None, passed: bool | None = None) -> dict[str, Any]:
    """One line of the checklist; without arguments, one that nobody has measured."""
    return {"value": value, "limit": limit, "passed": passed}


def measure(
    directory: str | os.PathLike[str],
    manifest: PolicyManifest,
    parity: Mapping[str, Any],
    config: ExportConfig,
) -> dict[str, dict[str, Any]]:
    """The checklist of a bundle.

    Args:
      directory: the bundle.
      manifest: its manifest.
      parity: what `verify.verify` returned.
      config: limits, and how long to measure.
    """
    results = parity["artefacts"]
    errors = {k: r["max_abs_error"] for k, r in results.items()}
    operators = {k: r["operators"] for k, r in results.items()}
    sizes = {k: (Path(directory) / f).stat().st_size for k, f in manifest.artefacts.items()}
    items = {name: item() for name in ITEMS}
    items["parity"] = item(errors, parity["tolerance"], parity["passed"])
    items["operators"] = item(operators, "standard operators only", True)
    items["size_bytes"] = item(sizes)
    if config.latency_runs:
        latency = {k: measure_latency(directory, k, config) for k in manifest.artefacts}
        limit = config.latency_budget_ms
        fast = all(v["p95"] <= limit for v in latency.values())
        items["latency_ms"] = item(latency, limit, fast)
    return items


def measure_latency(
    directory: str | os.PathLike[str], kind: str, config: ExportConfig
) -> dict[str, float]:
    """{"p50", "p95", "p99"} in milliseconds of predictions on one recorded observation."""
    backend = backends.load(directory, kind, config.threads)
    observation, noise, _ = verify.read_golden(directory, backend.manifest)
    rows = len(next(iter(observation.values())))
    seconds = []
    for i in range(_WARM_UP + config.latency_runs):
        at = slice(i % rows, i % rows + 1)
        window, draw = {k: v[at] for k, v in observation.items()}, _rows(noise, at)
        start = time.perf_counter()
        backend(window, draw)
        seconds.append(time.perf_counter() - start)
    return percentiles(np.array(seconds[_WARM_UP:]))


def _rows(arrays: Mapping[str, np.ndarray], at: slice) -> dict[str, np.ndarray]:
    return {k: v[at] for k, v in arrays.items()}


def fill(
    directory: str | os.PathLike[str], name: str, value: Any, limit: Any, passed: bool | None
) -> None:
    """Records a measured item in the bundle's checklist, atomically.

    Raises:
      InputError: unknown item, no readable checklist there, or it cannot be written.
    """
    path = Path(directory) / CHECKLIST
    if name not in ITEMS:
        raise InputError(f"the checklist has no item '{name}'; it has {', '.join(ITEMS)}")
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{path} cannot be read: {e}") from e
    items[name] = item(value, limit, passed)
    atomic.write_text(path, json.dumps(items, indent=2) + "\n")

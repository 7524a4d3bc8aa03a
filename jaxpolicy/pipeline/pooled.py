"""What the runs of a sweep found, alone and pooled over seeds."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxpolicy.evaluation import metrics

__all__ = ["UNKNOWN", "pool", "success", "summarize", "summarize_gains"]

UNKNOWN = dict.fromkeys(("n_success", "n_episodes", "success_rate", "success_ci95"))


def summarize(rows: Sequence[Mapping[str, Any]], monitor_mode: str = "min") -> dict[str, Any]:
    """Runs -> {"best", "runs", "groups"} as sweep.read gives them.

    Groups are ordered by pooled success, by the mean of the monitored metric where not
    all are evaluated. The best run is that of the first group with the best monitored
    metric: it is chosen without a look at the episodes that are reported for it.
    """
    keys = list(dict.fromkeys(json.dumps(row["values"]) for row in rows))
    groups = [_group([r for r in rows if json.dumps(r["values"]) == key]) for key in keys]
    sign = 1.0 if monitor_mode == "min" else -1.0
    by_success = all(g["success_rate"] is not None for g in groups)
    groups.sort(key=lambda g: -g["success_rate"] if by_success else _order(g["score"], sign))
    members = [r for r in rows if groups and r["values"] == groups[0]["values"]]
    best = min(members, key=lambda r: _order(r["score"], sign), default=None)
    return {"best": best and best["run"], "runs": [dict(r) for r in rows], "groups": groups}


def _order(score: float | None, sign: float) -> float:
    return float("inf") if score is None else sign * score


def _group(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Seeds of one cell of the grid, pooled."""
    scores = [r["score"] for r in rows if r["score"] is not None]
    group: dict[str, Any] = {
        "values": rows[0]["values"],
        "n_seeds": len(rows),
        "score": float(np.mean(scores)) if scores else None,
        "seconds": float(np.mean([r["seconds"] for r in rows])),
        **UNKNOWN,
        "mean": None,
        "std": None,
    }
    done = [r for r in rows if r["success_rate"] is not None]
    if done:
        k, n = (sum(r[key] for r in done) for key in ("n_success", "n_episodes"))
        rates = [r["success_rate"] for r in done]
        group |= {"n_success": k, "n_episodes": n, "success_rate": k / n}
        group |= {"success_ci95": metrics.wilson(k, n), "mean": float(np.mean(rates))}
        group["std"] = metrics.success_std_over_seeds(rates)
    return group


def summarize_gains(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs -> their seeds pooled, one group for every cell of the grid, the best first.

    Args:
      runs: see dagger.Result.

    Returns:
      {"values", "n_seeds", "before", "after", "gain"}: success of the demonstrations' policies
      and of the best rounds', each {"n_success", "n_episodes", "success_rate", "success_ci95"},
      and the difference of the rates.
    """
    groups = []
    for key in dict.fromkeys(json.dumps(r["values"]) for r in runs):
        members = [r for r in runs if json.dumps(r["values"]) == key]
        before = pool([r["evaluations"]["0"] for r in members])
        after = pool([r["evaluations"][str(r["best"])] for r in members])
        gain = after["success_rate"] - before["success_rate"]
        told = {"values": members[0]["values"], "n_seeds": len(members)}
        groups.append(told | {"before": before, "after": after, "gain": gain})
    return sorted(groups, key=lambda g: -g["after"]["success_rate"])


def pool(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Successes of several evaluations together, as `success` gives them."""
    return success(*(sum(f[k] for f in found) for k in ("n_success", "n_episodes")))


def success(n_success: int, n_episodes: int) -> dict[str, Any]:
    """A success rate with its 95 % interval, under the names that reports use."""
    return {
        "n_success": n_success,
        "n_episodes": n_episodes,
        "success_rate": n_success / n_episodes,
        "success_ci95": list(metrics.wilson(n_success, n_episodes)),
    }

"""Why episodes failed, as far as recorded facts tell.

A cause is named only where a fact proves it; the rest is "unclassified":
  environment  a metric of the world is not finite: the simulation broke.
  motor        the object was in the gripper, or the goal was reached, and was lost again.
  timeout      the object was in the gripper when time ran out.
Facts of a simulator cannot show whether a policy misread its pictures or its instruction,
so perception and language are not counted, and say so.
"""

from typing import Any

import numpy as np

from jaxpolicy.evaluation.rollout import Rollouts

__all__ = ["CATEGORIES", "classify", "count"]

CATEGORIES = ("perception", "language", "motor", "environment", "timeout")
UNCLASSIFIED = "unclassified"
_UNSEEN = "simulator facts cannot show this cause"


def classify(rollouts: Rollouts) -> np.ndarray:
    """Category of each episode, str [N], "" for successes.

    The world must have a success predicate; a "grasped" fact is used where there is one.
    """
    n = len(rollouts.seeds)
    nothing = np.zeros(n, bool)
    if rollouts.success is None:
        return np.full(n, "")
    failed = ~rollouts.success
    ever = rollouts.peak["success"] > 0
    held = rollouts.final["grasped"].reshape(n) > 0.5 if "grasped" in rollouts.final else nothing
    had = rollouts.peak["grasped"].reshape(n) > 0.5 if "grasped" in rollouts.peak else nothing
    finite = [np.isfinite(v).reshape(n, -1).all(axis=1) for v in rollouts.final.values()]
    broken = ~np.all(finite, axis=0) if finite else nothing
    conditions = [~failed, broken, held & ~rollouts.terminated, ever | had]
    names = ["", "environment", "timeout", "motor"]
    return np.select(conditions, names, default=UNCLASSIFIED)


def count(categories: np.ndarray) -> dict[str, dict[str, Any]]:
    """Category -> {"count", "share" of failures}; null with a reason where unknown."""
    failed = int((categories != "").sum())
    counted = (*CATEGORIES[2:], UNCLASSIFIED)
    result: dict[str, dict[str, Any]] = {
        name: {"count": None, "share": None, "reason": _UNSEEN} for name in CATEGORIES[:2]
    }
    for name in counted:
        number = int((categories == name).sum())
        result[name] = {"count": number, "share": number / failed if failed else 0.0}
    return result

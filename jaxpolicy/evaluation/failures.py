"""Why episodes failed, as far as recorded facts tell.

A cause is named only where a fact proves it; the rest is "unclassified":
  environment  a metric of the world is not finite: the simulation broke.
  language     of several objects the gripper pressed one that was not asked for.
  timeout      the object was in the gripper when time ran out; in a world that records no such
               facts, time ran out and the goal had never been reached.
  motor        the object was in the gripper, or the goal was reached, and was lost again; or
               the hand ran into something.
  perception   the gripper first closed where the object was not, and never held it.
Worlds that record no such facts cannot show whether a policy misread its pictures or its
instruction; there perception and language are not counted, and say so.
"""

from typing import Any

import numpy as np

from jaxpolicy.evaluation.rollout import INCIDENT, Rollouts

__all__ = ["CATEGORIES", "classify", "count", "provable"]

CATEGORIES = ("perception", "language", "motor", "environment", "timeout")
UNCLASSIFIED = "unclassified"
MISSED = 0.025  # horizontal distance from the object at which the gripper closes beside it, m
_UNSEEN = {
    "perception": "the world does not record where the gripper closed and where the object was",
    "language": "the task has one instruction only, or records no objects",
}


def classify(rollouts: Rollouts) -> np.ndarray:
    """Category of each episode, str [N], "" for successes.

    The world must have a success predicate; "grasped" and the incidents of manipulation
    tasks (see sim/tasks/incidents.py) are used where there are any.
    """
    n = len(rollouts.seeds)
    if rollouts.success is None:
        return np.full(n, "")
    ever = rollouts.peak["success"] > 0
    held, had = _is(rollouts.final, "grasped", n), _is(rollouts.peak, "grasped", n)
    collided = _is(rollouts.final, INCIDENT + "collided", n)
    shown, never = provable(rollouts), np.zeros(n, bool)
    conditions = {
        "": rollouts.success,
        "environment": _broken(rollouts),
        "language": _wrong_object(rollouts) if "language" in shown else never,
        "timeout": _late(rollouts, held, ever),
        "motor": ever | had | collided,
        "perception": _missed(rollouts) if "perception" in shown else never,
    }
    return np.select(list(conditions.values()), list(conditions), default=UNCLASSIFIED)


def provable(rollouts: Rollouts) -> frozenset[str]:
    """Which of perception and language the recorded facts can show."""
    wanted = rollouts.final.get(INCIDENT + "wanted")
    if wanted is None or (wanted < 0).any():
        return frozenset()
    return frozenset(("perception", "language") if rollouts.n_instructions > 1 else ("perception",))


def count(categories: np.ndarray, shown: frozenset[str] = frozenset()) -> dict[str, dict[str, Any]]:
    """Category -> {"count", "share" of failures}; null with a reason where unknown.

    Args:
      categories: see `classify`.
      shown: see `provable`.
    """
    failed = int((categories != "").sum())
    result: dict[str, dict[str, Any]] = {}
    for name in (*CATEGORIES, UNCLASSIFIED):
        if name in _UNSEEN and name not in shown:
            result[name] = {"count": None, "share": None, "reason": _UNSEEN[name]}
            continue
        number = int((categories == name).sum())
        result[name] = {"count": number, "share": number / failed if failed else 0.0}
    return result


def _is(facts: Any, name: str, n: int) -> np.ndarray:
    """Whether a fact of each episode is set; nowhere where there is no such fact."""
    return facts[name].reshape(n) > 0.5 if name in facts else np.zeros(n, bool)


def _broken(rollouts: Rollouts) -> np.ndarray:
    n = len(rollouts.seeds)
    finite = [np.isfinite(v).reshape(n, -1).all(axis=1) for v in rollouts.final.values()]
    return ~np.all(finite, axis=0) if finite else np.zeros(n, bool)


def _late(rollouts: Rollouts, held: np.ndarray, ever: np.ndarray) -> np.ndarray:
    """Whether time ran out with nothing else to blame."""
    told = "grasped" in rollouts.final or any(k.startswith(INCIDENT) for k in rollouts.final)
    return ~rollouts.terminated & (held if told else ~ever)


def _wrong_object(rollouts: Rollouts) -> np.ndarray:
    touched, wanted = (rollouts.final[INCIDENT + name] for name in ("touched", "wanted"))
    return (touched >= 0) & (touched != wanted)


def _missed(rollouts: Rollouts) -> np.ndarray:
    closed, seen, actual = (rollouts.final[INCIDENT + n] for n in ("closed", "seen", "actual"))
    beside = np.linalg.norm((seen - actual)[:, :2], axis=1)
    return (closed > 0.5) & (beside > MISSED)

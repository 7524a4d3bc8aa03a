import dataclasses

import numpy as np

from jaxpolicy.evaluation import failures
from jaxpolicy.evaluation.rollout import INCIDENT, Rollouts


def episodes(success, peak, grasped=None, had=None, terminated=None, reward=None):
    n = len(success)
    success, peak = np.asarray(success, bool), np.asarray(peak, np.float32)
    final = {"success": success.astype(np.float32)}
    highest = {"success": peak}
    if grasped is not None:
        final["grasped"] = np.asarray(grasped, np.float32)[:, None]
        highest["grasped"] = np.asarray(had, np.float32)[:, None]
    if reward is not None:
        final["reward/x"] = np.asarray(reward, np.float32)
    return Rollouts(
        seeds=np.arange(n),
        success=success,
        returns=np.zeros(n),
        lengths=np.full(n, 10),
        terminated=np.zeros(n, bool) if terminated is None else np.asarray(terminated),
        first_success=np.zeros(n, int),
        final=final,
        peak=highest,
        start=None,
        actions_clipped=0.0,
        confidence=None,
        recordings=(),
        observations={},
        task="t",
        variation=np.full(n, "nominal"),
        control_hz=10.0,
    )


def test_each_cause_needs_its_fact():
    found = failures.classify(
        episodes(
            success=[1, 0, 0, 0, 0, 0],
            peak=[1, 1, 0, 0, 0, 0],
            grasped=[1, 0, 0, 1, 0, 1],
            had=[1, 1, 1, 1, 0, 1],
            terminated=[False] * 5 + [True],
            reward=[0, 0, 0, 0, 0, 0],
        )
    )
    # success; lost after success; dropped; still holding at the limit; never grasped;
    # ended by the world while holding.
    assert list(found) == ["", "motor", "motor", "timeout", "unclassified", "motor"]


def test_broken_simulation_comes_first():
    found = failures.classify(episodes([0, 0], [1, 0], reward=[np.nan, 0]))
    assert list(found) == ["environment", "timeout"]


def test_where_no_facts_are_recorded_what_ran_out_of_time_is_a_timeout():
    found = failures.classify(
        episodes([0, 0, 0, 1], [0, 1, 0, 1], terminated=[False, False, True, False])
    )
    # Never reached; reached and lost; ended by the world; success.
    assert list(found) == ["timeout", "motor", "unclassified", ""]


def test_counts_and_shares_are_of_failures():
    counted = failures.count(np.asarray(["", "motor", "motor", "timeout", "unclassified"]))
    # 4 failures.
    assert counted["motor"] == {"count": 2, "share": 0.5}
    assert counted["timeout"] == {"count": 1, "share": 0.25}
    assert counted["environment"] == {"count": 0, "share": 0.0}
    assert counted["perception"]["count"] is None
    assert counted["perception"]["reason"]


def _with_incidents(found, n_instructions=1, **incidents):
    n = len(found.seeds)
    rest = {"collided": 0.0, "touched": 0.0, "wanted": 0.0, "closed": 1.0} | incidents
    facts = {INCIDENT + k: np.broadcast_to(v, n).astype(np.float32) for k, v in rest.items()
             if k not in ("seen", "actual")}  # fmt: skip
    for name in ("seen", "actual"):
        facts[INCIDENT + name] = np.asarray(rest.get(name, np.zeros((n, 3))), np.float32)
    final = {**found.final, **facts}
    return dataclasses.replace(found, final=final, n_instructions=n_instructions)


def test_closing_beside_the_object_is_perception_unless_it_was_held():
    # 3 cm beside it, 2 cm beside it, 3 cm above it, and 3 cm beside it but held later.
    aside = [[0.03, 0.0, 0.0], [0.02, 0.0, 0.0], [0.0, 0.0, 0.03], [0.03, 0.0, 0.0]]
    found = _with_incidents(
        episodes([0] * 4, [0] * 4, grasped=[0] * 4, had=[0, 0, 0, 1]), seen=aside
    )
    assert list(failures.classify(found)) == ["perception", "unclassified", "unclassified", "motor"]
    assert failures.provable(found) == {"perception"}
    counted = failures.count(failures.classify(found), failures.provable(found))
    assert counted["perception"] == {"count": 1, "share": 0.25}
    assert counted["language"]["count"] is None


def test_touching_what_was_not_asked_for_is_language_where_there_is_a_choice():
    touched = {"touched": [1.0, 0.0, -1.0], "wanted": [0.0, 0.0, 0.0]}
    choice = _with_incidents(episodes([0] * 3, [0] * 3), n_instructions=4, **touched)
    assert list(failures.classify(choice)) == ["language", "unclassified", "unclassified"]
    single = _with_incidents(episodes([0] * 3, [0] * 3), **touched)
    assert "language" not in failures.classify(single)


def test_running_into_something_is_motor():
    found = _with_incidents(episodes([0, 0], [0, 0]), collided=[1.0, 0.0], wanted=-1.0)
    assert list(failures.classify(found)) == ["motor", "unclassified"]
    # A task without an object cannot show what the policy took for one.
    assert failures.provable(found) == frozenset()


def test_no_failures_have_no_shares():
    assert failures.count(np.asarray(["", ""]))["motor"] == {"count": 0, "share": 0.0}

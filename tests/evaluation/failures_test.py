import numpy as np

from jaxpolicy.evaluation import failures
from jaxpolicy.evaluation.rollout import Rollouts


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
    assert list(found) == ["environment", "unclassified"]


def test_counts_and_shares_are_of_failures():
    counted = failures.count(np.asarray(["", "motor", "motor", "timeout", "unclassified"]))
    # 4 failures.
    assert counted["motor"] == {"count": 2, "share": 0.5}
    assert counted["timeout"] == {"count": 1, "share": 0.25}
    assert counted["environment"] == {"count": 0, "share": 0.0}
    assert counted["perception"]["count"] is None
    assert counted["perception"]["reason"]


def test_no_failures_have_no_shares():
    assert failures.count(np.asarray(["", ""]))["motor"] == {"count": 0, "share": 0.0}

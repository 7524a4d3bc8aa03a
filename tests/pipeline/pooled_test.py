
import pytest

from jaxpolicy.pipeline import pooled


def row(seed, score, k=None, n=10, **values):
    success = {"n_success": k, "n_episodes": n if k is not None else None}
    success |= {"success_rate": None if k is None else k / n, "success_ci95": None}
    return {"run": f"{values}{seed}", "values": values, "score": score, "seconds": 2.0} | success


def test_seeds_are_pooled_by_hand():
    found = pooled.summarize([row(0, 0.3, 9), row(1, 0.2, 8), row(2, 0.4, 10)])
    (group,) = found["groups"]
    # 27 of 30; rates .9 .8 1.0: mean .9, sample deviation .1.
    assert (group["n_success"], group["n_episodes"], group["n_seeds"]) == (27, 30, 3)
    assert group["mean"] == pytest.approx(0.9)
    assert group["std"] == pytest.approx(0.1)
    assert group["score"] == pytest.approx(0.3)
    # Wilson: z = 1.96, (.9 + .0640 -+ 1.96 sqrt(.003 + .001067)) / 1.1280.
    assert group["success_ci95"] == pytest.approx((0.7438, 0.9654), abs=1e-3)
    # The best run has the smallest validation loss, not the most successes.
    assert found["best"] == "{}1"
    assert pooled.summarize([row(0, 0.3, 9), row(1, 0.2, 8)], "max")["best"] == "{}0"


def test_order_of_groups():
    rows = [row(0, 0.1, 5, x=1), row(0, 0.3, 9, x=2), row(0, 0.2, 7, x=3)]
    order = [g["values"]["x"] for g in pooled.summarize(rows)["groups"]]
    assert order == [2, 3, 1]
    # Not all are evaluated: by the monitored metric.
    unfinished = [*rows[:2], row(0, 0.2, x=3)]
    assert [g["values"]["x"] for g in pooled.summarize(unfinished)["groups"]] == [1, 3, 2]
    unvalidated = [row(0, None, x=1), row(0, 0.5, x=2)]
    assert [g["values"]["x"] for g in pooled.summarize(unvalidated)["groups"]] == [2, 1]

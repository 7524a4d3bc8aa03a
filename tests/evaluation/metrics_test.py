import itertools

import numpy as np
import pytest
from scipy import stats

from jaxpolicy.core.specs import InputError
from jaxpolicy.evaluation import metrics


def test_wilson_by_hand():
    # n = 4, 3 successes, z = 1.959964, z^2 = 3.841459:
    # middle = .75 + 3.841459 / 8 = 1.230182; scale = 1 + 3.841459 / 4 = 1.960365
    # half = 1.959964 sqrt(.1875 / 4 + 3.841459 / 64) = 1.959964 sqrt(.106898) = .640815
    # low = .589367 / 1.960365 = .300642; high = 1.870997 / 1.960365 = .954413
    assert metrics.wilson(3, 4) == pytest.approx((0.300642, 0.954413), abs=1e-5)


def test_wilson_needs_twenty_of_twenty_for_a_bound_above_eighty_percent():
    assert metrics.wilson(20, 20)[0] > 0.8
    assert metrics.wilson(19, 20)[0] < 0.8
    assert metrics.wilson(46, 50)[0] > 0.8
    assert metrics.wilson(45, 50)[0] < 0.8


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (1, 7), (168, 200), (999, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_agrees_with_scipy(k, n, confidence):
    expected = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert metrics.wilson(k, n, confidence) == pytest.approx(tuple(expected), abs=1e-9)


@pytest.mark.parametrize(("k", "n", "confidence"), [(1, 0, 0.95), (3, 2, 0.95), (1, 2, 1.0)])
def test_wilson_refuses_nonsense(k, n, confidence):
    with pytest.raises(InputError):
        metrics.wilson(k, n, confidence)


def test_mcnemar_by_hand():
    # 5 starts only the first solves, 1 only the second: 6 discordant pairs.
    # p = 2 (C(6, 0) + C(6, 1)) / 2^6 = 2 * 7 / 64 = .21875; difference = (5 - 1) / 10.
    first = [True] * 5 + [False] + [True] * 3 + [False]
    second = [False] * 5 + [True] + [True] * 3 + [False]
    found = metrics.mcnemar(first, second)
    assert (found.both, found.only_first, found.only_second, found.neither) == (3, 5, 1, 1)
    assert found.p_value == pytest.approx(0.21875)
    assert found.difference == pytest.approx(0.4)


def test_mcnemar_agrees_with_the_binomial_test():
    rng = np.random.default_rng(0)
    first, second = rng.random(300) < 0.8, rng.random(300) < 0.7
    found = metrics.mcnemar(first, second)
    discordant = found.only_first + found.only_second
    assert found.p_value == pytest.approx(stats.binomtest(found.only_first, discordant).pvalue)


def test_equal_policies_cannot_be_told_apart():
    assert metrics.mcnemar([True, False], [True, False]).p_value == 1.0


def test_a_comparison_needs_the_same_seeds():
    with pytest.raises(InputError, match="one outcome per seed"):
        metrics.mcnemar([True], [True, False])


def test_trials_to_decide_is_the_smallest_number():
    more = metrics.trials_to_decide(168, 200, (0.8, 0.7))
    assert more is not None
    assert more > 0

    def inside(total):
        low, high = metrics.wilson(round(0.84 * total), total)
        return any(low <= t <= high for t in (0.8, 0.7))

    assert not inside(200 + more)
    assert inside(200 + more - 1)


def test_trials_to_decide_where_it_is_decided_or_never_will_be():
    assert metrics.trials_to_decide(200, 200, (0.8, 0.7)) == 0
    assert metrics.trials_to_decide(8, 10, (0.8,)) is None


@pytest.mark.parametrize(
    ("k", "n", "name", "inconclusive"),
    [
        (200, 200, "good", False),
        (168, 200, "good", True),
        (76, 100, "acceptable", True),
        (750, 1000, "acceptable", False),
        (160, 200, "acceptable", True),
        (140, 200, "needs_improvement", True),
        (20, 200, "needs_improvement", False),
    ],
)
def test_verdict(k, n, name, inconclusive):
    found = metrics.verdict(k, n)
    assert (found.verdict, found.inconclusive) == (name, inconclusive)
    assert found.reasons[0].startswith(f"success {k}/{n}")
    assert any("would decide it" in r for r in found.reasons) == inconclusive


def test_verdict_says_how_many_more():
    assert any("about" in reason for reason in metrics.verdict(168, 200).reasons)
    assert any("over a million" in reason for reason in metrics.verdict(160, 200).reasons)


def test_calibration_by_hand():
    # Two bins of four: confidence .9 twice, one success: |.5 - .9| = .4
    #                   confidence .2 twice, no success:  |0 - .2| = .2
    # ece = .5 * .4 + .5 * .2 = .3
    # brier = ((.1)^2 + (.9)^2 + (.2)^2 + (.2)^2) / 4 = (.01 + .81 + .04 + .04) / 4 = .225
    found = metrics.calibration(np.array([0.9, 0.9, 0.2, 0.2]), np.array([1, 0, 0, 0], bool))
    assert found["ece"] == pytest.approx(0.3)
    assert found["brier"] == pytest.approx(0.225)
    assert [b["n"] for b in found["bins"]] == [2, 2]


def test_full_confidence_falls_into_the_last_bin():
    found = metrics.calibration(np.ones(3), np.ones(3, bool))
    assert found["bins"][0]["high"] == 1.0
    assert found["ece"] == 0.0


@pytest.mark.parametrize("sure", [[1.2], [-0.1], [0.5, 0.5]])
def test_calibration_refuses_nonsense(sure):
    with pytest.raises(InputError):
        metrics.calibration(np.asarray(sure), np.asarray([True]))


def test_std_over_seeds_by_hand():
    # mean .9, deviations -.1, 0, .1: sqrt(.02 / 2) = .1
    assert metrics.success_std_over_seeds([0.8, 0.9, 1.0]) == pytest.approx(0.1)
    assert metrics.success_std_over_seeds([0.9]) is None


def test_interval_covers_as_often_as_it_says():
    # Exact coverage at p = .85, n = 50, by summing the binomial distribution.
    p, n = 0.85, 50
    covered = [k for k in range(n + 1) if metrics.wilson(k, n)[0] <= p <= metrics.wilson(k, n)[1]]
    assert list(itertools.pairwise(covered))[0][1] == covered[0] + 1
    assert 0.93 < stats.binom.pmf(covered, n, p).sum() < 0.97

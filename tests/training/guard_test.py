import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.training import guard
from jaxpolicy.training.guard import DivergenceError, GuardConfig, Recovery, Trend

# ------------------------------------------------------------------ not finite


def test_finite_metrics_pass():
    guard.check_finite({"loss": np.ones(3), "scalar": 2.0}, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_divergence_names_metric_and_step(bad):
    # The third of the steps 100, 101, 102, 103 is step 102; the state after 101 was good.
    metrics = {"mse": np.ones(4), "loss": np.array([1, 1, bad, bad])}
    with pytest.raises(DivergenceError, match=r"loss is .* at step 102; lower") as caught:
        guard.check_finite(metrics, 100)
    assert issubclass(DivergenceError, InputError)
    assert (caught.value.step, caught.value.good_until) == (102, 101)


def test_the_first_step_counts_not_the_first_metric():
    # mse breaks at step 13, loss at 11: states are good until 10.
    metrics = {"mse": np.array([0, 0, 0, np.nan]), "loss": np.array([0, np.inf, 0, 0])}
    with pytest.raises(DivergenceError, match="loss is inf at step 11") as caught:
        guard.check_finite(metrics, 10)
    assert caught.value.good_until == 10


def test_parameters_that_are_not_finite():
    tree = {"w": jnp.ones(3), "n": jnp.ones(2, jnp.int32), "key": jax.random.key(0)}
    assert guard.all_finite(tree)
    guard.check_params(guard.all_finite(tree), 7)
    broken = tree | {"b": jnp.array([0.0, np.nan])}
    with pytest.raises(DivergenceError, match="a parameter is NaN or infinite at step 7") as caught:
        guard.check_params(guard.all_finite(broken), 7)
    assert caught.value.good_until == 6


# ------------------------------------------------------------------ divergence of the policy


def test_kl_by_hand():
    limited = GuardConfig(max_kl=0.1)
    guard.check_kl(limited, {"train/kl": 0.1}, 4, 8)
    guard.check_kl(limited, {"train/loss": 9.0}, 4, 8)
    guard.check_kl(GuardConfig(), {"train/kl": 99.0}, 4, 8)
    with pytest.raises(DivergenceError, match=r"kl is 0.2 \(loop.guard.max_kl=0.1\) at") as caught:
        guard.check_kl(limited, {"train/kl": 0.2}, 4, 8)
    # The updates 4 to 7 went too far, so the state before them is good.
    assert (caught.value.step, caught.value.good_until) == (8, 4)


def watch_all(config, values, metric="eval/success"):
    """Trend after `values` at the steps 10, 20, ..."""
    trend = Trend()
    for i, value in enumerate(values):
        trend = guard.watch(config, trend, {metric: value}, 10 * (i + 1))
    return trend


def test_trend_by_hand():
    # Medians of three: .5 of (.5, .9, .3), .6 of (.9, .3, .6), .6 of (.3, .6, .9).
    config = GuardConfig(max_drop=0.5)
    assert watch_all(config, [0.5, 0.9]) == Trend((0.5, 0.9), None, 0.9, 20)
    assert watch_all(config, [0.5, 0.9, 0.3]) == Trend((0.5, 0.9, 0.3), 0.5, 0.9, 20)
    # The top is reached again at step 50.
    expected = Trend((0.3, 0.6, 0.9), 0.6, 0.9, 50)
    assert watch_all(config, [0.5, 0.9, 0.3, 0.6, 0.9]) == expected


def test_collapse_by_hand():
    # Medians .8, .9, .8, then .1 of (.9, .1, .1) at step 60: .1 < .9 - .5; the top was at 40.
    config = GuardConfig(max_drop=0.5)
    with pytest.raises(DivergenceError, match=r"success fell from 0.9 to 0.1 .* at step 60") as e:
        watch_all(config, [0.8, 0.9, 0.8, 0.9, 0.1, 0.1, 0.1])
    assert (e.value.step, e.value.good_until) == (60, 40)


@pytest.mark.parametrize(
    "values",
    [
        [0.9, 0.9, 0.9, 0.0, 0.9, 0.9, 0.0, 0.9],  # one bad validation is no collapse
        [0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5],  # .9 - .5 = .4
        [0.05, 0.05, 0.05, 0.0, 0.0, 0.0],  # all is lost, but it was not much
        [0.9, 0.0],  # too few to say
    ],
)
def test_what_is_no_collapse(values):
    watch_all(GuardConfig(max_drop=0.5), values)


def test_returns_may_be_negative():
    config = GuardConfig(metric="train/return", max_drop=20.0)
    # Medians -50, -40, -40, -55: 15 below the best.
    watch_all(config, [-90.0, -50.0, -40.0, -40.0, -55.0, -55.0], "train/return")
    with pytest.raises(DivergenceError, match="fell from -40 to -61"):
        watch_all(config, [-90.0, -50.0, -40.0, -40.0, -61.0, -61.0], "train/return")


def test_only_the_metric_of_the_configuration_is_watched():
    trend = Trend((0.5,), None, 0.5, 10)
    config = GuardConfig(max_drop=0.5)
    assert guard.watch(config, trend, {"train/loss": 1.0, "steps_per_s": 2.0}, 20) == trend
    assert guard.watch(GuardConfig(), trend, {"eval/success": 0.0}, 20) == trend
    with pytest.raises(InputError, match=r"metric must be one of eval/return, got 'eval/success'"):
        guard.watch(config, trend, {"eval/return": 1.0}, 20)
    with pytest.raises(DivergenceError, match="eval/success is nan at step 20"):
        guard.watch(config, trend, {"eval/success": float("nan")}, 20)


# ------------------------------------------------------------------ what then


def test_learning_rate_by_hand():
    assert guard.learning_rate(GuardConfig(lr_factor=0.5), 0.08, 3) == pytest.approx(0.01)
    assert guard.learning_rate(GuardConfig(), 0.08, 0) == 0.08


def test_keys_of_any_shape_are_folded():
    keys = jax.random.split(jax.random.key(3), (2, 3))
    folded = guard.fold(keys, 5)
    assert folded.shape == (2, 3)
    assert folded[1, 2] == jax.random.fold_in(keys[1, 2], 5)
    assert guard.fold(keys[0, 0], 5) == folded[0, 0]
    assert guard.is_key(keys)
    assert not guard.is_key(jnp.ones(2))


def test_giving_up_tells_the_whole_story():
    found = DivergenceError("loss is nan", 7, 6, "lower optimizer.learning_rate")
    assert guard.exhausted(found, (), 0.1) is found
    earlier = (Recovery(12, "loss is inf", 0.1, 8), Recovery(9, "mse is nan", 0.01, 8))
    assert str(guard.exhausted(found, earlier, 0.001)) == (
        "training diverged: loss is nan at step 7; the learning rate was 0.001 by then, after 2 "
        "recoveries (loop.guard.tries) from: loss is inf at step 12 with 0.1; mse is nan at step "
        "9 with 0.01. To go on: lower optimizer.learning_rate, and use another --workdir"
    )


def test_a_recovery_is_told_in_one_line():
    told = guard.describe(GuardConfig(), (Recovery(12, "loss is inf", 0.1, 8),), 0.01)
    assert told == (
        "step     12  diverged: loss is inf; back to step 8 with learning rate 0.01 "
        "(recovery 1 of 3)"
    )


def test_records_survive_json():
    recoveries = (Recovery(12, "loss is inf", 0.1, 8),)
    text = json.dumps([r._asdict() for r in recoveries])
    assert guard.recoveries_from(json.loads(text)) == recoveries
    for trend in (Trend(), Trend((0.1, 1 / 3), 0.2, 1 / 3, 20)):
        assert guard.trend_from(json.loads(json.dumps(trend._asdict()))) == trend
    assert guard.trend_from({}) == Trend()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tries": -1}, "loop.guard.tries must be at least 0, got -1"),
        ({"max_kl": -0.1}, "loop.guard.max_kl must be at least 0"),
        ({"max_drop": float("nan")}, "loop.guard.max_drop must be at least 0"),
        ({"lr_factor": 0.0}, r"loop.guard.lr_factor must be in \(0, 1\], got 0.0"),
        ({"lr_factor": 10.0}, "loop.guard.lr_factor must be in"),
        ({"metric": "success"}, "loop.guard.metric must start with train/, val/ or eval/"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(GuardConfig(), **values)

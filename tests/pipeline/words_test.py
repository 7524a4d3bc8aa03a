from types import SimpleNamespace

import pytest

from jaxpolicy.data import cleaning
from jaxpolicy.pipeline import words
from jaxpolicy.training import loop


def test_time_is_told_in_parts():
    shares = dict.fromkeys(("start", "data", "step", "eval", "checkpoint", "profile"), 0.0)
    shares |= {"start": 0.25, "step": 0.75}
    result = loop.FitResult(
        {}, 8, 8, {"val/loss": 0.5}, None, None, None, 0, False, 12.0, 3.0, shares
    )
    assert words.tell_train((result, {})) == (
        "8 steps at 3/s, validation loss 5.00e-01; "
        "12 s of which 25% starting and compiling, 75% in steps, 0% waiting for data"
    )


def test_worlds_without_a_success_predicate_are_told_by_their_return():
    latency = {"p50": 1.0, "p95": 2.0}
    told = {"n_success": None, "success_rate": None, "success_ci95": None, "n_episodes": 8}
    told |= {"avg_sum_reward": -12.25, "latency_ms": latency}
    line = "return -12.25, the mean of 8 episodes, latency p50 1.0 ms, p95 2.0 ms"
    assert words.tell_evaluate((told, None)) == line


def trained(steps, rate):
    shares = dict.fromkeys(("start", "data", "step", "eval", "checkpoint", "profile"), 0.0)
    return loop.FitResult({}, 0, steps, {}, None, None, None, 0, False, 12.0, rate, shares), {}


@pytest.mark.parametrize(
    ("steps", "rate", "told"),
    [
        (200, 0.0, "200 steps; "),
        (200, 0.24, "200 steps at 4.2 s each; "),
        (1, 2.54, "1 step at 2.5/s; "),
        (200, 36.4, "200 steps at 36/s; "),
    ],
)
def test_slow_runs_are_not_told_to_stand_still(steps, rate, told):
    assert words.tell_train(trained(steps, rate)).startswith(told)


@pytest.mark.parametrize(
    ("dropped", "told"),
    [
        ({}, "7 episodes kept, 0 dropped; 4 train / 2 val / 1 test"),
        ({"duplicate": 25}, "7 episodes kept, 25 dropped (seen before); 4 train / 2 val / 1 test"),
        (
            {"failed": 3, "idle": 2},
            "7 episodes kept, 5 dropped (3 failed, 2 without motion); 4 train / 2 val / 1 test",
        ),
    ],
)
def test_what_was_dropped_is_told_once(dropped, told):
    counts = dict.fromkeys(cleaning.RULES, 0) | dropped
    counts |= {"found": 7 + sum(dropped.values()), "kept": 7, "train": 4, "val": 2, "test": 1}
    assert words.tell_process([SimpleNamespace(counts=counts)]) == told


def test_every_rule_has_words():
    assert set(words.RULES_TOLD) == set(cleaning.RULES) == set(cleaning.WHY)


def test_one_is_not_many():
    told = words.tell_collect({"successes": 1, "attempts": 2, "steps": 1})
    assert told == "1 demonstration in 2 attempts, 1 step"

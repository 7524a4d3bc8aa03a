import dataclasses
import functools

import pytest

from jaxpolicy.core.schema import InputError
from jaxpolicy.pipeline import trained
from jaxpolicy.pipeline.experiment import ExperimentConfig

RUN = ExperimentConfig(name="run")


def test_what_is_measured_and_written_may_change():
    given = [
        ("evaluation.n_episodes", "3"),
        ("export.formats", "onnx"),
        ("min_success", "0.5"),
        ("env.randomization.mass", "(0.5, 2.0)"),
        ("env.objects", "novel"),
        ("dataset", "elsewhere"),
        ("loop.steps", "9"),
        ("data.action_minimum", "-1,-1"),
        ("data.action_maximum", "1,1"),
    ]
    found = trained.override(RUN, given)
    assert found.evaluation == dataclasses.replace(RUN.evaluation, n_episodes=3)
    assert found.export.formats == ("onnx",)
    assert found.env.randomization.mass == (0.5, 2.0)
    assert (found.min_success, found.env.objects, found.dataset) == (0.5, "novel", "elsewhere")
    assert (found.loop.steps, found.data.action_minimum) == (9, (-1.0, -1.0))
    assert (found.network, found.optimizer) == (RUN.network, RUN.optimizer)


@pytest.mark.parametrize(
    ("key", "now", "before"),
    [
        ("network.size", "small", "''"),
        ("algorithm", "diffusion", "'bc'"),
        ("horizon", "4", "1"),
        ("optimizer.learning_rate", "0.5", "0.001"),
        ("data.cameras", "front", r"\(\)"),
        ("env.cameras", "front", r"\('wrist',\)"),
        ("env.control_hz", "10", "20.0"),
        ("collect.n_episodes", "5", "100"),
        ("seed", "1", "0"),
        ("seeds", "3", "1"),
    ],
)
def test_what_decided_the_policy_may_not(key, now, before):
    with pytest.raises(InputError, match=f"config.{key}: .* was trained with {before}, .* anew"):
        trained.override(RUN, [(key, now)])


def test_the_same_value_again_changes_nothing():
    assert trained.override(RUN, [("horizon", "1"), ("seed", "0")]) == RUN


def test_runs_of_a_sweep_stay_in_their_world():
    sweep = dataclasses.replace(RUN, seeds=2)
    found = trained.override(sweep, [("evaluation.n_episodes", "3")])
    assert found.evaluation.n_episodes == 3
    with pytest.raises(InputError, match="env.objects"):
        trained.override(sweep, [("env.objects", "novel")])


def test_free_keys_exist():
    for key in (*trained.AFTER, *trained.WORLD):
        # AttributeError where there is no such key.
        functools.reduce(getattr, key.split("."), RUN)

"""Limits of an action that are known only when a policy is exported."""

import dataclasses
import json

import pytest

from jaxpolicy.core import schema
from jaxpolicy.core.specs import InputError
from jaxpolicy.pipeline import export
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training import factory
from tests.old_files_test import RUN


@pytest.fixture(scope="module")
def policy():
    return factory.load_policy(RUN)


def experiment(**data):
    value = json.loads((RUN / "config.json").read_text())
    config = schema.from_mapping(ExperimentConfig, value)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **data))


def test_they_replace_those_it_was_trained_with(policy):
    low, high = (-1.0,) * 5, (1.0,) * 5
    config = experiment(action_minimum=low, action_maximum=high)
    action = export._limited(policy, config).policy_spec.action
    assert (action.minimum, action.maximum, action.limits_from) == (low, high, "settings")
    assert export._limited(policy, experiment()).policy_spec == policy.policy_spec


def test_what_learned_in_worlds_keeps_its_own(policy):
    config = experiment(action_minimum=(-1.0,) * 5, action_maximum=(1.0,) * 5)
    learned = dataclasses.replace(config, algorithm="ppo")
    assert export._limited(policy, learned).policy_spec == policy.policy_spec


def test_a_wrong_number_of_them_names_the_elements(policy):
    config = experiment(action_minimum=(0.0,), action_maximum=(1.0,))
    message = "have 1 entries, the action has 5: dx, dy, dz, dyaw, gripper"
    with pytest.raises(InputError, match=message):
        export._limited(policy, config)

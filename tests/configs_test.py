"""Every experiment file: all its variants fit the schema, and wrong names are told."""

import importlib

import pytest

from configs import bc, ppo, tasks
from jaxpolicy.core.schema import InputError
from jaxpolicy.pipeline import experiment
from jaxpolicy.training import factory

PLAIN = {
    "lift_demo": ("", "debug", "reference"),
    "bc_bridge": ("", "debug", "reference"),
    "bc_dataset": ("", "debug", "full"),
}
BY_TASK = ("act", "bc", "dagger", "diffusion", "dppo")
STARTS = ("clone", "finetune")
ONLINE = {
    "ppo": ("", ":debug", ":reference", ":pixels", *(f":{kind}" for kind in STARTS)),
    "dppo": tuple(f":{kind}" for kind in STARTS),
}
VARIANTS = [(name, variant) for name, variants in PLAIN.items() for variant in variants] + [
    (name, f"{task}{kind}")
    for name in BY_TASK
    for task in tasks.TASKS
    for kind in ("", ":debug", ":reference")
    if name not in ("dagger", "dppo") or kind != ":reference"
]
IN_WORLDS = [
    (name, f"{task}{kind}")
    for name, kinds in ONLINE.items()
    for task in tasks.TASKS
    for kind in kinds
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_variants_fit_the_schema(name, variant):
    module = importlib.import_module(f"configs.{name}")
    config = experiment.from_mapping(module.get_config(variant).to_dict())
    assert config.algorithm in factory.ALGORITHMS
    if name in BY_TASK:
        task = variant.partition(":")[0]
        assert config.name == f"{name}_{task}"
        assert config.env == tasks.TASKS[task].env


@pytest.mark.parametrize(("name", "variant"), IN_WORLDS)
def test_variants_that_learn_in_worlds_fit_the_schema(name, variant):
    task, _, kind = variant.partition(":")
    module = importlib.import_module(f"configs.{name}")
    config = experiment.from_mapping(module.get_config(variant).to_dict())
    assert config.env.name == tasks.TASKS[task].env.name
    # Who starts from a clone sees and does what the clone did.
    if kind == "finetune":
        clone = experiment.from_mapping(module.get_config(f"{task}:clone").to_dict())
        for key in ("data", "env", "network", "horizon", "n_action_steps", "n_obs_steps"):
            assert getattr(config, key) == getattr(clone, key), key
        assert clone.algorithm not in factory.ONLINE


def test_reference_values_of_reinforcement_learning():
    config = experiment.from_mapping(ppo.get_config("lift:reference").to_dict())
    assert config.ppo.n_worlds == 4
    assert config.ppo.n_worlds * config.ppo.steps == 2000
    assert config.ppo.epochs == 3
    assert config.optimizer.learning_rate == 1e-4
    assert config.optimizer.schedule == "constant"


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        ("", "give a task after the file, one of ':reach', ':push'"),
        ("lifting", "got ':lifting'"),
        ("lift:fast", "no variant ':fast'; there are ':debug', ':reference'"),
    ],
)
def test_wrong_names_are_told(variant, told):
    with pytest.raises(InputError, match=told):
        bc.get_config(variant)

"""Every experiment file: all its variants fit the schema, and wrong names are told."""

import importlib

import pytest

from configs import bc, tasks
from jaxpolicy import experiment
from jaxpolicy.schema import InputError
from jaxpolicy.training import factory

PLAIN = {
    "lift_demo": ("", "debug", "reference"),
    "bc_bridge": ("", "debug", "reference"),
    "bc_dataset": ("", "debug", "full"),
}
BY_TASK = ("act", "bc", "dagger", "diffusion", "dppo")
VARIANTS = [(name, variant) for name, variants in PLAIN.items() for variant in variants] + [
    (name, f"{task}{kind}")
    for name in BY_TASK
    for task in tasks.TASKS
    for kind in ("", ":debug", ":reference")
    if name not in ("dagger", "dppo") or kind != ":reference"
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

import math

import pytest

from jaxpolicy.core import schema
from jaxpolicy.core.specs import InputError
from jaxpolicy.data import DataConfig


def test_defaults_are_the_documented_split():
    assert DataConfig().split == (0.70, 0.15, 0.15)


def test_round_trip():
    config = DataConfig(cameras=("wrist",), control_hz=5.0)
    assert schema.from_mapping(DataConfig, schema.to_mapping(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loader": "gpu"}, "data.loader must be one of"),
        ({"camera_keys": ("front",)}, "data.camera_keys must be pairs camera=field"),
        ({"action_kind": "magic"}, "data.action_kind must be one of"),
        ({"split": (0.5, 0.3, 0.3)}, "data.split must be three shares that sum to 1"),
        ({"split": (0.0, 0.5, 0.5)}, "data.split must be three shares"),
        ({"split": (1.2, -0.1, -0.1)}, "data.split must be three shares"),
        ({"cache_budget_mb": -1}, "must not be negative"),
        ({"action_minimum": (0.0,)}, "belong together: they have 1 and 0 entries"),
        (
            {"action_minimum": (0.0, 1.0), "action_maximum": (1.0, 1.0)},
            r"data.action_minimum\[1\] must be below data.action_maximum\[1\].* got 1 and 1",
        ),
        ({"action_minimum": (0.0,), "action_maximum": (math.nan,)}, "both finite"),
        ({"action_minimum": (-math.inf,), "action_maximum": (1.0,)}, "both finite"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(InputError, match=message):
        DataConfig(**change)

import pytest

from jaxpolicy.collect import CollectConfig
from jaxpolicy.core.specs import InputError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "collect.seed must be 0 to 4000, got -1"),
        ({"n_episodes": 0}, "at least 1"),
        ({"execution_noise": -0.1}, "must not be negative"),
        ({"bump_probability": 1.1}, r"bump_probability must lie in \[0, 1\]"),
        ({"misgrasp_probability": -0.1}, r"misgrasp_probability must lie in \[0, 1\]"),
        ({"max_attempts": 2_000_000}, "at most 1000000 attempts"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(InputError, match=message):
        CollectConfig(**change)


def test_attempts_default_to_four_times_what_is_wanted():
    assert CollectConfig(n_episodes=25).attempts == 100
    assert CollectConfig(n_episodes=25, max_attempts=30).attempts == 30

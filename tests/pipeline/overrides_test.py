import pytest

from jaxpolicy.core.schema import InputError
from jaxpolicy.pipeline import overrides
from jaxpolicy.pipeline.experiment import ExperimentConfig


def test_values_are_read_by_the_type_of_their_key():
    given = [
        ("name", "123"),
        ("seed", "7"),
        ("optimizer.learning_rate", "1"),
        ("env.cameras", "front,wrist"),
        ("data.cameras", "('overhead',)"),
        ("data.proprio", "false"),
        ("data.split", "0.8,0.1,0.1"),
        ("mixture", "({'dataset': 'a'}, {'dataset': 'b', 'weight': 2})"),
    ]
    found = overrides.apply(ExperimentConfig(), given)
    assert (found.name, found.seed) == ("123", 7)
    assert found.optimizer.learning_rate == 1.0
    assert isinstance(found.optimizer.learning_rate, float)
    assert found.env.cameras == ("front", "wrist")
    assert found.data.cameras == ("overhead",)
    assert found.data.proprio is False
    assert found.data.split == (0.8, 0.1, 0.1)
    assert [(e.dataset, e.weight) for e in found.mixture] == [("a", 1.0), ("b", 2.0)]


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("optimizer.learning_rat", "1", "'optimizer.learning_rat'; did you mean 'optimizer."),
        ("learning_rate", "1", "did you mean 'optimizer.learning_rate'"),
        ("zzzz", "1", "config has no key 'zzzz'; --print_config lists all keys"),
        ("loop.steps", "many", "config.loop.steps must be int, got str 'many'"),
        ("data.proprio", "1", "config.data.proprio must be bool, got int 1"),
        ("loop", "3", "config.loop must be a mapping of LoopConfig, got int 3"),
    ],
)
def test_bad_keys_and_values_are_named(key, text, message):
    with pytest.raises(InputError, match=message):
        overrides.apply(ExperimentConfig(), [(key, text)])

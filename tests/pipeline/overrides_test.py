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


@pytest.mark.parametrize("key", ["algorithm", "horizon", "optimizer.learning_rate", "data.proprio"])
def test_what_was_trained_stays_as_it_is(key):
    config = ExperimentConfig()
    values = {"algorithm": "act", "horizon": "4", "data.proprio": "false"}
    with pytest.raises(InputError, match=f"--config.{key}: the policy was trained with {key}="):
        overrides.after_training(config, [(key, values.get(key, "0.5"))])


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("evaluation.n_episodes", "9"),
        ("export.n_golden", "3"),
        ("loop.steps", "9"),
        ("min_success", "0.1"),
    ],
)
def test_what_comes_after_training_may_change(key, text):
    found = dict(overrides.keys(overrides.after_training(ExperimentConfig(), [(key, text)])))
    assert found[key] == float(text)

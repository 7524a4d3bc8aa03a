import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.evaluation import EvaluationConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_episodes": 0}, "at least 1"),
        ({"seed": -1}, "evaluation.seed must be 0 to"),
        ({"acceptable": 0.9}, "acceptable <= good"),
        ({"view_size": 0}, "view_size >= 1"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(InputError, match=message):
        EvaluationConfig(**change)

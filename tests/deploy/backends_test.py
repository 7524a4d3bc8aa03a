"""Inputs of a backend are checked against the manifest at every call."""

import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.deploy import OnnxBackend
from tests.deploy import handmade


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    return OnnxBackend(handmade.write(tmp_path_factory.mktemp("export")))


@pytest.fixture
def inputs():
    observation = {
        "image/wrist": np.zeros((4, 2, 2, 2, 3), np.uint8),
        "mask/wrist": np.ones((4, 2), bool),
        "proprio": np.full((4, 2, 3), 4.0, np.float32),
    }
    return observation, {"z": np.zeros((4, 3, 2), np.float32)}


def test_answer(backend, inputs):
    observation, noise = inputs
    observation["proprio"][1, -1] = (1.0, 9.0, 0.0)
    noise["z"][1, 2] = (10.0, 20.0)
    action = backend(observation, noise)
    assert action.shape == (4, 3, 2)
    # h = 2: sqrt(1) + 0.2 + 10 = 11.2, sqrt(9) + 0.2 + 20 = 23.2.
    np.testing.assert_allclose(action[1, 2], [11.2, 23.2], rtol=1e-6)
    # h = 1: sqrt(4) + 0.1.
    np.testing.assert_allclose(action[0, 1], [2.1, 2.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("proprio", None, "must hold the keys"),
        ("privileged", np.zeros((4, 2, 1), np.float32), "must hold the keys"),
        ("proprio", np.zeros((4, 2, 3)), "'proprio' must be float32, got float64"),
        ("proprio", np.zeros((4, 2, 4), np.float32), "'proprio' must have shape"),
        ("proprio", np.zeros((2, 3), np.float32), r"'proprio' must be \[B, 2, 3\]"),
        ("proprio", np.full((4, 2, 3), np.nan, np.float32), "NaN"),
        ("proprio", np.zeros((5, 2, 3), np.float32), "one batch size"),
        ("image/wrist", np.zeros((4, 2, 2, 2, 3), np.float32), "must be uint8"),
        ("mask/wrist", np.ones((4, 2), np.uint8), "must be bool"),
    ],
)
def test_wrong_observation(backend, inputs, key, value, message):
    observation, noise = inputs
    changed = {k: v for k, v in (observation | {key: value}).items() if v is not None}
    with pytest.raises(InputError, match=message):
        backend(changed, noise)


def test_missing_noise(backend, inputs):
    with pytest.raises(InputError, match=r"noise must hold the keys \['z'\]"):
        backend(inputs[0], None)

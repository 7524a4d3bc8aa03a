"""The function that exporters trace is the algorithm's own `act`."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxpolicy.core.specs import ArraySpec, InputError
from jaxpolicy.export import policy_function


def test_equals_act(policy, observations):
    function = policy_function.make(policy)
    first = {k: v[:5] for k, v in observations.items()}
    expected = policy.algorithm.act(policy.params, first, jax.random.key(3))
    np.testing.assert_allclose(function(first), expected, atol=1e-6)
    arrays = [first[n] for n in function.names]
    np.testing.assert_allclose(function.positional(*arrays), expected, atol=1e-6)


def test_inputs_are_sorted_and_raw(policy):
    function = policy_function.make(policy)
    names = ("image/front", "image/wrist", "language", "mask/front", "proprio")
    assert function.names == names
    shapes = [(i.shape, i.dtype.name) for i in function.inputs(1)]
    assert shapes[1] == ((1, 2, 16, 16, 3), "uint8")
    assert shapes[3] == ((1, 2), "bool")


def test_predict_does_not_depend_on_the_batch(policy, observations):
    function = policy_function.make(policy)
    whole = policy_function.predict(function, observations, batch=48)
    np.testing.assert_allclose(
        policy_function.predict(function, observations, batch=7), whole, atol=1e-6
    )
    assert whole.shape == (48, 3, 3)
    assert whole.dtype == np.float32


def test_predict_refuses_nan(policy, observations):
    broken = jax.tree.map(lambda x: x * np.nan, policy.params)
    function = policy_function.make(policy._replace(params=broken))
    with pytest.raises(InputError, match="NaN or infinite"):
        policy_function.predict(function, observations)


def test_refuses_simulator_state(policy):
    inputs = (*policy.policy_spec.observation, ArraySpec("privileged", (3,)))
    spec = dataclasses.replace(policy.policy_spec, observation=inputs)
    with pytest.raises(InputError, match="privileged"):
        policy_function.make(policy._replace(policy_spec=spec))


def test_refuses_random_numbers(sampling_policy):
    with pytest.raises(InputError, match="samples with a PRNG key"):
        policy_function.make(sampling_policy)

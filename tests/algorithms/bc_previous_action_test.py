"""The previous action as an input, and predicting the change from it."""

import jax
import numpy as np
import optax
import pytest

from jaxpolicy.algorithms import bc
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import PREVIOUS_ACTION, ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import Batch, PolicySpec
from jaxpolicy.networks.encoder import NetworkConfig

NETWORK = NetworkConfig(hidden=16, layers=1)
ACTION = ActionSpec("unknown", ("a", "b"), ("m", "1"), (-4.0, 0.0), (4.0, 2.0), 5.0)
SPEC = PolicySpec((ArraySpec(PREVIOUS_ACTION, (2,)),), ACTION, 1, 2, 1)
# Range of a -4..4 and of b 0..2: centres 0 and 1, half widths 4 and 1.
NORM = {"action": normalization.fit([np.array([[-4.0, 0.0], [4.0, 2.0]])])}


def _make(**config):
    return bc.make(SPEC, NETWORK, bc.BCConfig(l2=0.0, **config), optax.adam(1e-2), NORM)


def _batch(previous, action):
    chunk = np.repeat(np.array(action, np.float32)[:, None], 2, axis=1)
    observation = {PREVIOUS_ACTION: np.array(previous, np.float32)[:, None]}
    return Batch(observation, chunk, np.ones(chunk.shape[:2], bool))


def test_a_residual_policy_with_a_silent_head_repeats_the_previous_action():
    algorithm = _make(residual=True)
    batch = _batch([[2.0, 1.5], [-4.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]])
    state = algorithm.init(jax.random.key(0), batch)
    network = dict(state.params["network"])
    network["head"] = jax.tree.map(np.zeros_like, network["head"])
    chunk = algorithm.act({**state.params, "network": network}, batch.observation)
    np.testing.assert_allclose(chunk[:, 0], [[2.0, 1.5], [-4.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(chunk[:, 1], chunk[:, 0])


def test_l1_and_mse_by_hand():
    # Silent head, not residual: predicts the centres (0, 1). Action (2, 2) is (.5, 1) in
    # network units: |error| mean .75, squares (.25, 1) mean .625.
    batch = _batch([[0.0, 0.0]], [[2.0, 2.0]])
    for name, wanted in {"l1": 0.75, "mse": 0.625}.items():
        algorithm = _make(head=name)
        state = algorithm.init(jax.random.key(0), batch)
        network = dict(state.params["network"])
        network["head"] = jax.tree.map(np.zeros_like, network["head"])
        metrics = algorithm.eval_step({**state.params, "network": network}, batch)
        assert float(metrics["loss"]) == pytest.approx(wanted)
        assert float(metrics["mse"]) == pytest.approx(0.625)


def test_l1_follows_the_majority_and_mse_the_mean():
    # From one input, b is 0 twice and 2 once: median 0, mean 2/3.
    batch = _batch([[0.0, 0.0]] * 3, [[0.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    found = {}
    for name in ("l1", "mse"):
        algorithm = _make(head=name)
        state = algorithm.init(jax.random.key(0), batch)
        step = jax.jit(algorithm.train_step)
        for _ in range(400):
            state, _ = step(state, batch)
        found[name] = float(algorithm.act(state.params, batch.observation)[0, 0, 1])
    assert found["l1"] == pytest.approx(0.0, abs=0.1)
    assert found["mse"] == pytest.approx(2 / 3, abs=0.05)


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"bc\.head must be one of"):
        _make(head="huber")
    proprio = PolicySpec((ArraySpec("proprio", (2,)),), ACTION, 1, 2, 1)
    with pytest.raises(InputError, match="previous_action=True"):
        bc.make(proprio, NETWORK, bc.BCConfig(residual=True), optax.adam(1e-2), NORM)

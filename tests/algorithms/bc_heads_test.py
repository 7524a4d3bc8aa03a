"""Every head in behavioural cloning, with and without changes as targets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from jaxpolicy.algorithms import bc
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import PREVIOUS_ACTION, ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import Batch, PolicySpec
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.networks.heads import HEADS, HeadConfig

NETWORK = NetworkConfig(hidden=32, layers=1)
ACTION = ActionSpec("unknown", ("a", "b"), ("m", "1"), (-4.0, 0.0), (4.0, 2.0), 5.0)
SPEC = PolicySpec((ArraySpec(PREVIOUS_ACTION, (2,)),), ACTION, 1, 2, 1)
# Range of a -4..4 and of b 0..2: centres 0 and 1, half widths 4 and 1.
NORM = {"action": normalization.fit([np.array([[-4.0, 0.0], [4.0, 2.0]])])}
HEAD_CONFIG = HeadConfig(modes=2, bins=17)


def _make(learning_rate=1e-2, **config):
    config = bc.BCConfig(**{"l2": 0.0, "heads": HEAD_CONFIG} | config)
    return bc.make(SPEC, NETWORK, config, optax.adam(learning_rate), NORM)


def _batch(size=8):
    """From one bound to the other: changes reach 2 in network units."""
    previous = np.linspace([-4.0, 0.0], [4.0, 2.0], size).astype(np.float32)
    chunk = np.repeat(-previous[:, None] + [0.0, 2.0], 2, axis=1).astype(np.float32)
    observation = {PREVIOUS_ACTION: previous[:, None]}
    return Batch(observation, chunk, np.ones((size, 2), bool))


@functools.cache
def _trained(name, residual):
    algorithm = _make(head=name, residual=residual)
    batch = _batch()
    state = algorithm.init(jax.random.key(0), batch)
    step = lambda state, _: algorithm.train_step(state, batch)  # noqa: E731
    state, metrics = jax.jit(lambda s: jax.lax.scan(step, s, None, length=500))(state)
    return algorithm, state, metrics


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_learns_changes_as_wide_as_the_range(name):
    algorithm, state, metrics = _trained(name, residual=True)
    assert metrics["loss"][-1] < metrics["loss"][0]
    batch = _batch()
    chunk = algorithm.act(state.params, batch.observation)
    np.testing.assert_allclose(chunk[..., 0], batch.action[..., 0], atol=0.4)
    np.testing.assert_allclose(chunk[..., 1], batch.action[..., 1], atol=0.1)


@pytest.mark.parametrize("name", ["gaussian", "gmm", "discrete"])
def test_training_makes_heads_sure_of_what_does_not_vary(name):
    algorithm, state, _ = _trained(name, residual=True)
    observation = _batch().observation
    sure = jax.jit(algorithm.confidence)
    before = algorithm.init(jax.random.key(0), _batch())
    keys = jax.random.split(jax.random.key(0))
    after = sure(state.params, observation, keys[0])
    np.testing.assert_array_equal(after, sure(state.params, observation, keys[1]))
    assert ((after > 0.3) & (after <= 1)).all()
    assert (sure(before.params, observation, keys[0]) < 0.3).all()


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_acts_on_batches_of_any_size(name):
    # As exporters trace it, with a symbol for B.
    algorithm, [size] = _make(head=name), export.symbolic_shape("B")
    params = jax.eval_shape(algorithm.init, jax.random.key(0), _batch()).params
    observation = {PREVIOUS_ACTION: jax.ShapeDtypeStruct((size, 1, 2), np.float32)}
    assert jax.eval_shape(algorithm.act, params, observation).shape == (size, 2, 2)


def test_terms_of_the_loss_are_named_as_the_head():
    # Silent outputs of "gaussian": mean 0, deviation .01 + ln 2 = .703147. Actions (0, 1) are
    # 0 in network units: ln .703147 + ln(2 pi) / 2 = .566749 on average, mse 0.
    algorithm = _make(head="gaussian")
    batch = _batch()._replace(action=np.full((8, 2, 2), [0.0, 1.0], np.float32))
    state = algorithm.init(jax.random.key(0), batch)
    params = {**state.params, "network": jax.tree.map(jnp.zeros_like, state.params["network"])}
    metrics = algorithm.eval_step(params, batch)
    assert set(metrics) == {"loss", "gaussian", "l2", "mse", "action_error", "action_error_m"}
    assert float(metrics["gaussian"]) == pytest.approx(0.566749, rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(0.566749, rel=1e-5)
    assert float(metrics["mse"]) == pytest.approx(0.0, abs=1e-9)


def test_bins_reach_as_far_as_targets():
    config = bc.BCConfig(head="discrete")
    limits = {}
    for residual in (False, True):
        config = bc.BCConfig(head="discrete", residual=residual)
        setup = bc.make_setup(SPEC, NETWORK, config, optax.adam(1e-2))
        limits[residual] = setup.config.heads.bin_limit
    assert limits == {False: 1.0, True: 2.0}
    given = bc.BCConfig(head="discrete", residual=True, heads=HeadConfig(bin_limit=0.5))
    setup = bc.make_setup(SPEC, NETWORK, given, optax.adam(1e-2))
    assert setup.config.heads.bin_limit == 0.5


def test_bins_need_bounds():
    with pytest.raises(InputError, match=r"bc\.heads\.bin_limit above 0, got 'mean_std'"):
        _make(head="discrete", action_norm="mean_std")
    _make(head="discrete", action_norm="mean_std", heads=HeadConfig(bin_limit=4.0))

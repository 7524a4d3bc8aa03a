"""ACT: the divergence and the loss by hand, where the style comes from, what acts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpolicy.algorithms import act
from jaxpolicy.algorithms.act import ACTConfig
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import PREVIOUS_ACTION, ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import Batch, PolicySpec
from jaxpolicy.networks.act import ACTPolicy
from jaxpolicy.networks.encoder import NetworkConfig

NETWORK = NetworkConfig(token_features=16)
ACTION = ActionSpec("unknown", ("a", "b"), ("m", "1"), (-4.0, 0.0), (4.0, 2.0), 5.0)
SPEC = PolicySpec((ArraySpec("proprio", (1,)),), ACTION, 1, 2, 1)
# Range of a -4..4 and of b 0..2: centres 0 and 1, half widths 4 and 1.
NORM = {
    "action": normalization.fit([np.array([[-4.0, 0.0], [4.0, 2.0]])]),
    "proprio": normalization.fit([np.array([[-1.0], [1.0]])]),
}
TINY = ACTConfig(l2=0.0, latent=2, encoder_layers=1, decoder_layers=1)


def _batch(action, mask=(True, True)):
    action = np.asarray(action, np.float32)
    proprio = np.zeros((len(action), 1, 1), np.float32)
    return Batch({"proprio": proprio}, action, np.broadcast_to(mask, action.shape[:2]))


def _setup(config=TINY, **changes):
    config = dataclasses.replace(config, **changes)
    return act.make_setup(SPEC, NETWORK, config, optax.adam(1e-2))


class _Handmade:
    """Stands for a network: a posterior that is given, and a chunk of z's first element."""

    def __init__(self, mean, log_variance):
        self.posterior, self.mask = (jnp.asarray([mean]), jnp.asarray([log_variance])), None

    def apply(self, variables, *inputs, rngs=None, method=None):
        del variables, rngs
        if method is ACTPolicy.infer:
            self.mask = inputs[2]
            return self.posterior
        return jnp.broadcast_to(inputs[1][:, :1, None], (len(inputs[1]), 2, 2))


def test_divergence_by_hand():
    # Of the prior itself: 0. Mean (1, 2), variance 1: (1 + 4) / 2. Variances (e, 1/e):
    # (e - 1 - 1 + 1/e - 1 + 1) / 2 = (e + 1/e - 2) / 2 = .543081.
    mean = jnp.asarray([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    log_variance = jnp.asarray([[0.0, 0.0], [0.0, 0.0], [1.0, -1.0]])
    got = act.kl_to_prior(mean, log_variance)
    np.testing.assert_allclose(got, [0.0, 2.5, 0.543081], rtol=1e-5, atol=1e-7)


def test_loss_by_hand():
    # Actions (2, 1.5) and then padding are (.5, .5) in network units. Without a key z is 0,
    # and so is the chunk: |error| .5, squared .25. kl = (1 + 4) / 2, weight 10.
    network = _Handmade([1.0, 2.0], [0.0, 0.0])
    setup = dataclasses.replace(_setup(), network=network)
    batch = _batch([[[2.0, 1.5], [4.0, 2.0]]], (True, False))
    value, metrics = act.loss(setup, {}, NORM, batch, None)
    assert float(metrics["l1"]) == pytest.approx(0.5)
    assert float(metrics["mse"]) == pytest.approx(0.25)
    assert float(metrics["kl"]) == pytest.approx(2.5)
    assert float(value) == float(metrics["loss"]) == pytest.approx(25.5)
    assert float(metrics["action_error_m"]) == pytest.approx(2.0)
    np.testing.assert_array_equal(network.mask, [[True, False]])


def test_while_training_the_style_is_drawn_from_the_posterior():
    # Mean 3, deviation .5 (variance e^(2 ln .5)): chunk z, target 0, so |error| = |z|.
    network = _Handmade([3.0, 0.0], [2.0 * np.log(0.5), 0.0])
    setup = dataclasses.replace(_setup(), network=network)
    one = lambda key: act.loss(setup, {}, NORM, _batch([[[0.0, 1.0]] * 2]), key)[1]["l1"]  # noqa: E731
    z = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 2000))
    # Standard errors: .011 of the mean, .008 of the deviation.
    assert float(z.mean()) == pytest.approx(3.0, abs=0.05)
    assert float(z.std()) == pytest.approx(0.5, abs=0.04)


@functools.cache
def _two_ways():
    """Trained where the same observation is answered with a = 4 or with a = -4."""
    setup = _setup(kl_weight=0.01)
    batch = _batch([[[4.0, 1.0]] * 2, [[-4.0, 1.0]] * 2] * 4)
    state = jax.jit(functools.partial(act.init, setup, NORM))(jax.random.key(0), batch)
    step = lambda state, _: act.train_step(setup, state, batch)  # noqa: E731
    state, metrics = jax.jit(lambda s: jax.lax.scan(step, s, None, length=200))(state)
    return setup, state, metrics, batch


def test_the_style_says_which_way():
    # No function of the observation gets below an |error| of .5 here (1 in a, 0 in b).
    _, _, metrics, _ = _two_ways()
    assert float(metrics["l1"][:5].mean()) > 0.4
    assert float(metrics["l1"][-20:].mean()) < 0.35
    assert float(metrics["kl"][-1]) > 0.5


def test_confidence_falls_where_styles_differ():
    setup, state, _, batch = _two_ways()
    confidence = jax.jit(functools.partial(act.confidence, setup))
    trained = confidence(state.params, batch.observation, jax.random.key(1))
    # A head of nothing but zeros says the same to everything.
    silent = jax.tree.map(jnp.zeros_like, state.params["network"]["head"])
    params = {**state.params, "network": {**state.params["network"], "head": silent}}
    assert trained.shape == (8,)
    assert (trained < 0.2).all()
    assert (confidence(params, batch.observation, jax.random.key(1)) == 1).all()


def test_residual_targets_are_relative():
    # A chunk of zeros repeats the previous action.
    spec = dataclasses.replace(SPEC, observation=(ArraySpec(PREVIOUS_ACTION, (2,)),))
    config = dataclasses.replace(TINY, residual=True)
    setup = act.make_setup(spec, NETWORK, config, optax.adam(1e-3))
    norm = {"action": NORM["action"]}
    batch = _batch([[[2.0, 1.5]] * 2])
    batch = batch._replace(observation={PREVIOUS_ACTION: np.array([[[2.0, 1.5]]], np.float32)})
    setup = dataclasses.replace(setup, network=_Handmade([0.0, 0.0], [0.0, 0.0]))
    params = {"network": {}, "norm": norm}
    np.testing.assert_allclose(act.act(setup, params, batch.observation), [[[2.0, 1.5]] * 2])
    assert float(act.eval_step(setup, params, batch)["l1"]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("key", ["latent", "encoder_layers", "decoder_layers", "kl_weight"])
def test_wrong_values_are_named(key):
    with pytest.raises(InputError, match=rf"act\.{key} must be at least"):
        _setup(**{key: -1})

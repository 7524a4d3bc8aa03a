"""The network of ACT: shapes, what the style encoder sees, and what acting needs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.networks.act import ACTPolicy
from jaxpolicy.networks.encoder import NetworkConfig

NETWORK = NetworkConfig(widths=(8,), depths=(1,), token_features=16, dropout=0.5)
POLICY = ACTPolicy(NETWORK, 3, 2, latent=4, encoder_layers=1, decoder_layers=1)


def _observation(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image/a": rng.integers(0, 255, (2, 1, 8, 8, 3), dtype=np.uint8),
        "language": rng.normal(size=(2, 1, 5)).astype(np.float32),
        "proprio": rng.normal(size=(2, 1, 3)).astype(np.float32),
    }


def _actions(seed=0):
    return jax.random.normal(jax.random.key(seed), (2, 3, 2))


@functools.cache
def _variables():
    mask = jnp.ones((2, 3), bool)
    return jax.jit(POLICY.init)(jax.random.key(0), _observation(), _actions(), mask)


@functools.cache
def _compiled(method):
    return jax.jit(functools.partial(POLICY.apply, method=method))


def _predict(observation, z):
    return _compiled(ACTPolicy.predict)(_variables(), observation, z)


def _infer(observation, action, mask):
    return _compiled(ACTPolicy.infer)(_variables(), observation, action, mask)


def test_chunk():
    observation = _observation()
    z = jnp.zeros((2, 4))
    chunk = _predict(observation, z)
    assert chunk.shape == (2, 3, 2)
    assert chunk.dtype == jnp.float32
    # Samples do not see each other; everything that is observed matters, and so does z.
    both = _predict(jax.tree.map(lambda x: x[np.array([1, 1])], observation), z)
    np.testing.assert_allclose(both, chunk[np.array([1, 1])], atol=1e-5)
    for key, value in observation.items():
        assert (_predict({**observation, key: value[::-1]}, z) != chunk).any(), key
    assert (_predict(observation, z + 1.0) != chunk).any()
    # The queries tell the steps apart.
    assert float(jnp.abs(chunk[:, 0] - chunk[:, 1]).max()) > 0


def test_style_is_of_the_actions_that_exist():
    observation, action = _observation(), _actions()
    mask = jnp.asarray([[True, True, True], [True, True, False]])
    mean, log_variance = _infer(observation, action, mask)
    assert mean.shape == log_variance.shape == (2, 4)
    changed, _ = _infer(observation, action.at[:, 2].set(9.0), mask)
    assert float(jnp.abs(changed[0] - mean[0]).max()) > 1e-3
    np.testing.assert_allclose(changed[1], mean[1], atol=1e-5)
    # Neither images nor language are looked at, and the order of the actions matters.
    blind, _ = _infer({**_observation(1), "proprio": observation["proprio"]}, action, mask)
    np.testing.assert_array_equal(blind, mean)
    assert float(jnp.abs(_infer(observation, action[:, ::-1], mask)[0] - mean).max()) > 1e-3


def test_acting_needs_no_style_encoder():
    params = dict(_variables()["params"])
    del params["style"]
    predict = functools.partial(POLICY.apply, {"params": params}, method=ACTPolicy.predict)
    assert jax.eval_shape(predict, _observation(), jnp.zeros((2, 4))).shape == (2, 3, 2)


def test_dropout_while_training():
    @jax.jit
    def drop(variables, seed):
        rngs = {"dropout": jax.random.key(seed)}
        inputs = (_observation(), jnp.zeros((2, 4)), True)
        return POLICY.apply(variables, *inputs, rngs=rngs, method=ACTPolicy.predict)

    one, two = (drop(_variables(), seed) for seed in (0, 1))
    assert (one != two).any()

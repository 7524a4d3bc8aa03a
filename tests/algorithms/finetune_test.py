"""What moves from one run to another, and what must fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpolicy.algorithms import bc, finetune, ppo
from jaxpolicy.algorithms.bc import BCConfig
from jaxpolicy.algorithms.ppo import PPOConfig
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import InputError
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.training import factory
from tests.algorithms.ppo_test import NORM, SPEC

NETWORK = NetworkConfig(hidden=8, layers=1)
PPO = PPOConfig(n_worlds=4, steps=6, minibatches=3, squash=False, reference_weight=0.1)


def cloned():
    """A policy as behavioural cloning leaves it, with statistics of demonstrations."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 3)).astype(np.float32) * [1.0, 5.0, 0.0] + [0.0, 2.0, 7.0]
    norm = {**NORM, "proprio": normalization.fit([rows.astype(np.float32)])}
    algorithm = bc.make(SPEC, NETWORK, BCConfig(), optax.sgd(0.1), norm)
    state = algorithm.init(jax.random.key(1), factory.example_batch(SPEC))
    return algorithm, state.params


def actor(network=NETWORK, config=PPO):
    return ppo.make(SPEC, network, config, optax.sgd(0.1), NORM)


def test_a_cloned_policy_acts_the_same_in_worlds():
    clone, source = cloned()
    started = finetune.start_from(actor(), source)
    params = started.init(jax.random.key(2), None).params
    observation = {"proprio": jnp.asarray([[[0.3, 1.0, 7.0]], [[-1.0, 9.0, 7.0]]])}
    expected = clone.act(source, observation, jax.random.key(0))
    found = started.act(params, observation, jax.random.key(0))
    low, high = (np.asarray(x, np.float32) for x in (SPEC.action.minimum, SPEC.action.maximum))
    np.testing.assert_allclose(found, np.clip(expected, low, high), rtol=1e-4, atol=1e-6)
    # The reference is the policy that was started from; the critic is new.
    for a, b in zip(
        jax.tree.leaves(params["reference"]),
        jax.tree.leaves(params["network"]["actor"]),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_statistics_by_hand():
    # Values 1 and 3: mean 2, standard deviation 1; the constant element keeps its scale of 1.
    stats = normalization.fit([np.asarray([[1.0, 5.0], [3.0, 5.0]], np.float32)])
    running = finetune.as_running(stats)
    scaled = normalization.normalize_running(running, jnp.asarray([[3.0, 5.5]]), 6.0)
    np.testing.assert_allclose(scaled, [[1.0, 0.5]], rtol=1e-5)


def test_training_goes_on_with_the_same_method():
    clone, source = cloned()
    params = (
        finetune.start_from(clone, source)
        .init(jax.random.key(9), factory.example_batch(SPEC))
        .params
    )
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(source), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_trained_actor_brings_its_critic():
    first = actor()
    source = first.init(jax.random.key(3), None).params
    params = finetune.start_from(first, source).init(jax.random.key(4), None).params
    for name in ("actor", "critic"):
        pairs = zip(
            jax.tree.leaves(params["network"][name]),
            jax.tree.leaves(source["network"][name]),
            strict=True,
        )
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_another_network_is_told():
    _, source = cloned()
    other = dataclasses.replace(NETWORK, hidden=16)
    with pytest.raises(InputError, match="init_from: network.*has the shape"):
        finetune.start_from(actor(other), source).init(jax.random.key(0), None)

"""Devices under pmap train one policy."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from jaxpolicy.algorithms import bc, ppo
from jaxpolicy.algorithms.imitation import EMAConfig
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import Batch, PolicySpec
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.training import factory, replicated, sharding
from jaxpolicy.training.config import OptimizerConfig

DEVICES = 4
ACTION = ActionSpec("cartesian_delta", ("dx", "dy"), ("m", "m"), (-1.0, -1.0), (1.0, 1.0), 20.0)
PROPRIO = (ArraySpec("proprio", (3,)),)
SPEC = PolicySpec(PROPRIO, ACTION, 1, 2, 1)
NETWORK = NetworkConfig(hidden=16, layers=1)
CONFIG = bc.BCConfig(ema=EMAConfig(max_decay=0.9))
# A small limit, so that every gradient is clipped: the mean of clipped gradients would differ.
# Plain descent besides, as Adam makes steps of one size of gradients of any.
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1e-2), optax.sgd(1.0, momentum=0.5))


def norm():
    rows = np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]], np.float32)
    return {"action": normalization.fit([rows[:, :2]]), "proprio": normalization.fit([rows])}


def make_batch(rows=16, seed=0):
    rng = np.random.default_rng(seed)
    proprio = rng.uniform(-1, 1, (rows, 1, 3)).astype(np.float32)
    action = np.repeat(proprio[..., :2] ** 3, 2, axis=1)
    return Batch({"proprio": proprio}, action, np.ones((rows, 2), bool))


def by_device(batch):
    return jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), batch)


def trained(algorithm, steps=3, **pmap):
    """States [D, ...] after some updates under pmap, and the metrics of the last one."""
    devices = jax.devices()[:DEVICES]
    init = jax.pmap(algorithm.init, in_axes=(None, 0), devices=devices)
    states = init(jax.random.key(0), by_device(make_batch()))
    step = jax.pmap(algorithm.train_step, devices=devices, **pmap)
    for i in range(steps):
        states, metrics = step(states, by_device(make_batch(seed=i)))
    return states, metrics


@functools.cache
def alone():
    """One device with whole batches."""
    algorithm = bc.make(SPEC, NETWORK, CONFIG, OPTIMIZER, norm())
    state = algorithm.init(jax.random.key(0), make_batch())
    step = jax.jit(algorithm.train_step)
    for i in range(3):
        state, metrics = step(state, make_batch(seed=i))
    return state, metrics


@functools.cache
def together():
    made = replicated.make("i", bc.make, SPEC, NETWORK, CONFIG, OPTIMIZER, norm())
    return trained(made, axis_name="i")


def distance(a, b):
    """Largest difference between two trees of parameters."""
    return max(
        float(np.abs(x - y).max())
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_devices_agree_with_one_device_that_has_the_whole_batch():
    states, metrics = together()
    state, expected = alone()
    assert distance(replicated.first(states).params, state.params) < 1e-6
    np.testing.assert_allclose(metrics["loss"][0], expected["loss"], rtol=1e-5)
    assert int(states.step[0]) == 3


def test_every_device_holds_the_same_state_and_key():
    states, metrics = together()
    keys = jax.random.key_data(states.key)
    arrays = jax.tree.leaves(states._replace(key=keys)) + jax.tree.leaves(metrics)
    for x in arrays:
        np.testing.assert_array_equal(x, np.broadcast_to(x[:1], x.shape))
    expected = jax.random.key_data(alone()[0].key)
    np.testing.assert_array_equal(keys[0], expected)


def test_without_it_every_device_trains_a_policy_of_its_own():
    plain = bc.make(SPEC, NETWORK, CONFIG, OPTIMIZER, norm())
    states, _ = trained(plain, axis_name="i")
    network = states.params["network"]
    one, other = (jax.tree.map(lambda x, d=d: x[d], network) for d in (0, 1))
    assert distance(one, other) > 1e-3
    assert distance(one, alone()[0].params["network"]) > 1e-3


def test_outside_of_its_axis_it_fails():
    made = replicated.make("i", bc.make, SPEC, NETWORK, CONFIG, OPTIMIZER, norm())
    state = made.init(jax.random.key(0), make_batch())
    with pytest.raises(NameError, match="i"):
        made.train_step(state, make_batch())


def test_devices_draw_different_noise():
    network = dataclasses.replace(NETWORK, dropout=0.5)
    made = replicated.make("i", bc.make, SPEC, network, CONFIG, OPTIMIZER, norm())
    plain = jax.jit(bc.make(SPEC, network, CONFIG, OPTIMIZER, norm()).train_step)
    rows = make_batch(4)
    same = jax.tree.map(lambda x: np.stack([x] * DEVICES), rows)
    devices = jax.devices()[:DEVICES]
    states = jax.pmap(made.init, in_axes=(None, 0), devices=devices)(jax.random.key(0), same)
    # Device d drops what one device would with key fold_in(key, d).
    state = made.init(jax.random.key(0), rows)
    keys = [jax.random.fold_in(state.key, d) for d in range(DEVICES)]
    losses = [float(plain(state._replace(key=key), rows)[1]["loss"]) for key in keys]
    assert len({round(x, 6) for x in losses}) == DEVICES
    step = jax.pmap(made.train_step, axis_name="i", devices=devices)
    np.testing.assert_allclose(step(states, same)[1]["loss"][0], np.mean(losses), rtol=1e-5)


def test_validation_is_averaged():
    made = replicated.make("i", bc.make, SPEC, NETWORK, CONFIG, OPTIMIZER, norm())
    states, _ = together()
    devices = jax.devices()[:DEVICES]
    of = jax.pmap(made.eval_step, axis_name="i", devices=devices)
    found = of(states.params, by_device(make_batch(seed=9)))["loss"]
    plain = bc.make(SPEC, NETWORK, CONFIG, OPTIMIZER, norm())
    expected = plain.eval_step(replicated.first(states).params, make_batch(seed=9))["loss"]
    np.testing.assert_allclose(found, np.full(DEVICES, expected), rtol=1e-5)


def test_the_optimizer_of_a_configuration_is_averaged_too():
    mean = replicated.averaged(factory.make_optimizer(OptimizerConfig(warmup_steps=0), 10), "i")
    params = {"w": np.ones((2, 2), np.float32)}
    gradients = {"w": np.arange(DEVICES, dtype=np.float32)[:, None, None] * np.ones((2, 2))}
    step = jax.pmap(mean.update, axis_name="i", in_axes=(0, None, None))
    updates, _ = step(gradients, mean.init(params), params)
    np.testing.assert_array_equal(updates["w"], np.broadcast_to(updates["w"][:1], (4, 2, 2)))


def test_methods_that_learn_in_worlds_are_refused():
    spec = dataclasses.replace(SPEC, critic=PROPRIO)
    config = ppo.PPOConfig(n_worlds=4, steps=2, minibatches=2)
    with pytest.raises(InputError, match="sharding"):
        replicated.make("i", ppo.make, spec, NETWORK, config, OPTIMIZER, norm())


def test_sharding_gives_the_same_as_one_device():
    algorithm = bc.make(SPEC, NETWORK, CONFIG, OPTIMIZER, norm())
    mesh = sharding.make_mesh(DEVICES)
    args = (jax.random.key(0), make_batch())
    state = sharding.init_as(algorithm.init, sharding.abstract(algorithm.init, mesh, *args), *args)
    step = jax.jit(algorithm.train_step, donate_argnums=0)
    for i in range(3):
        state, _ = step(state, sharding.put_batch(make_batch(seed=i), mesh))
    assert distance(jax.device_get(state.params), jax.device_get(alone()[0].params)) < 1e-6

"""What every algorithm promises: see types.Algorithm."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax import export

from jaxpolicy.algorithms.act import ACTConfig
from jaxpolicy.algorithms.diffusion import DiffusionConfig
from jaxpolicy.algorithms.dppo import DPPOConfig
from jaxpolicy.algorithms.imitation import EMAConfig
from jaxpolicy.algorithms.ppo import PPOConfig
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.core.types import Algorithm, Batch, PolicySpec, Rollout, TrainState
from jaxpolicy.networks.denoisers import DenoiserConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.training import factory
from jaxpolicy.training.config import LoopConfig, OptimizerConfig, TrainConfig

DIFFUSION = DiffusionConfig(
    denoiser="mlp",
    denoisers=DenoiserConfig(embedding=8, mlp_widths=(32, 32)),
    prediction="sample",
    train_steps=20,
    sample_steps=4,
    noise_draws=4,
    ema=EMAConfig(max_decay=0.9),
)
ONLINE = {"n_worlds": 4, "steps": 3, "epochs": 1, "minibatches": 2}
# Settings of each algorithm that compile in seconds; the default where there is no entry.
TINY = {
    "act": ACTConfig(latent=2, encoder_layers=1, decoder_layers=1),
    "diffusion": DIFFUSION,
    "dppo": DPPOConfig(diffusion=DIFFUSION, **ONLINE),
    "ppo": PPOConfig(**ONLINE),
}
# Those that learn from demonstrations, and so from a Batch; the others from a Rollout.
CLONING = sorted(set(factory.ALGORITHMS) - set(factory.ONLINE))
STEPS, ROWS = 300, 8
ACTION = ActionSpec("cartesian_delta", ("dx", "dyaw"), ("m", "rad"), (-0.1, -0.2), (0.1, 0.2), 20.0)
PROPRIO = (ArraySpec("proprio", (3,)),)
SPEC = PolicySpec(PROPRIO, ACTION, 2, 4, 2, critic=PROPRIO)
KEY = jax.random.key(5)


class Case(NamedTuple):
    """An algorithm, compiled and at its start."""

    algorithm: Algorithm
    state: TrainState


def make_batch(rows=ROWS, seed=0):
    """Actions are linear in the newest proprioception."""
    rng = np.random.default_rng(seed)
    proprio = rng.uniform(-1, 1, (rows, 2, 3)).astype(np.float32)
    action = np.repeat(proprio[:, -1:, :2] * np.array([0.1, 0.2], np.float32), 4, 1)
    mask = np.ones((rows, 4), bool)
    mask[0, 2:] = False
    return Batch({"proprio": proprio}, action, mask)


def make(name, **changes):
    """The algorithm with its tiny settings, some of them changed."""
    config = TrainConfig(
        algorithm=name,
        network=NetworkConfig(hidden=32, layers=1, token_features=16),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=0),
        loop=LoopConfig(steps=STEPS),
    )
    settings = dataclasses.replace(TINY.get(name, getattr(config, name)), **changes)
    config = dataclasses.replace(config, **{name: settings})
    rows = np.array([ACTION.minimum, ACTION.maximum], np.float32)
    proprio = np.array([[-1.0] * 3, [1.0] * 3], np.float32)
    norm = {"action": normalization.fit([rows]), "proprio": normalization.fit([proprio])}
    return factory.make_algorithm(config, SPEC, norm)


@functools.cache
def case(name):
    algorithm = make(name)
    compiled = ("init", "train_step", "eval_step", "act", "confidence")
    algorithm = algorithm._replace(**{k: jax.jit(getattr(algorithm, k)) for k in compiled})
    return Case(algorithm, algorithm.init(jax.random.key(0), make_batch()))


@pytest.fixture(params=CLONING)
def found(request):
    return case(request.param)


@pytest.fixture(params=sorted(factory.ALGORITHMS))
def anyone(request):
    return case(request.param)


@pytest.fixture(params=sorted(factory.ONLINE))
def learner(request):
    return case(request.param)


def make_rollout(algorithm, params, seed=0):
    """T = 3 decisions in E = 4 worlds, as the policy with `params` takes them."""
    rng = np.random.default_rng(seed)
    seen = {"proprio": rng.normal(size=(3, 4, 2, 3)).astype(np.float32)}
    keys = jax.random.split(KEY, 3)
    _, trace, log_prob = jax.vmap(functools.partial(algorithm.explore, params))(seen, keys)
    reward = rng.normal(size=(3, 4)).astype(np.float32)
    zeros = np.zeros((3, 4), np.float32)
    return Rollout(seen, seen, trace, log_prob, reward, zeros, zeros, {})


def same(a, b):
    raw = [
        jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for tree in (a, b)
        for x in jax.tree.leaves(tree)
    ]
    half = len(raw) // 2
    return all(np.array_equal(x, y) for x, y in zip(raw[:half], raw[half:], strict=True))


def test_a_step_is_a_function_of_state_and_batch(found):
    batch = make_batch()
    state, metrics = found.algorithm.train_step(found.state, batch)
    again, _ = found.algorithm.train_step(found.state, batch)
    assert same(state, again)
    assert not same(state.params["network"], found.state.params["network"])
    assert same(state.params["norm"], found.state.params["norm"])
    assert same(state.key, found.state.key)
    assert int(state.step) == 1
    assert {"loss", "grad_norm"} <= set(metrics)
    assert all(np.shape(m) == () and np.isfinite(m) for m in metrics.values())


def test_learns(found):
    batch, algorithm = make_batch(), found.algorithm
    before = algorithm.eval_step(found.state.params, batch)
    # As a loop in Python: the step is compiled already.
    state = found.state
    for _ in range(STEPS):
        state, _ = algorithm.train_step(state, batch)
    params = state.params
    after = algorithm.eval_step(params, batch)
    names = {"loss", "action_error", "action_error_m", "action_error_rad"}
    assert names <= set(after)
    assert set(before) == set(after)
    assert float(after["loss"]) < 0.3 * float(before["loss"])
    # Actions reach from -1 to 1 in network units.
    assert float(after["action_error"]) < 0.15
    # What acts is what evaluation measured, in physical units.
    chunk = np.asarray(algorithm.act(params, batch.observation, KEY))
    error = np.abs(chunk - batch.action)[..., 0][batch.action_mask].mean()
    assert error < 0.015


def test_improves_what_it_did(learner):
    algorithm, state = learner
    rollout = make_rollout(algorithm, state.params)
    after, metrics = algorithm.train_step(state, rollout)
    again, _ = algorithm.train_step(state, rollout)
    assert same(after, again)
    assert not same(after.params["network"]["critic"], state.params["network"]["critic"])
    assert same(after.key, state.key)
    assert int(after.step) == 1
    assert {"loss", "grad_norm", "kl"} <= set(metrics)
    assert all(np.shape(m) == () and np.isfinite(m) for m in metrics.values())


def test_explores_within_limits(learner):
    seen = {"proprio": np.ones((ROWS, 2, 3), np.float32)}
    action, _, log_prob = learner.algorithm.explore(learner.state.params, seen, KEY)
    assert action.shape == (ROWS, 2, 2)  # n_action_steps, A
    assert log_prob.ndim == 2
    low, high = np.asarray(ACTION.minimum) - 1e-6, np.asarray(ACTION.maximum) + 1e-6
    assert ((action >= low) & (action <= high)).all()
    # All rows see the same and do not do the same.
    assert np.abs(action - action[:1]).max() > 1e-3


def test_learners_run_under_pmap(learner):
    devices = jax.devices()[:2]
    if len(devices) < 2:
        pytest.skip("one device")
    rollout = make_rollout(learner.algorithm, learner.state.params)
    both = jax.tree.map(lambda x: np.stack([x, x]), rollout)
    step = jax.pmap(learner.algorithm.train_step, in_axes=(None, 0), devices=devices)
    state, metrics = step(learner.state, both)
    assert state.step.tolist() == [1, 1]
    assert np.isfinite(metrics["loss"]).all()


def test_acts_on_raw_observations(anyone):
    algorithm, params, batch = anyone.algorithm, anyone.state.params, make_batch()
    chunk = algorithm.act(params, batch.observation, KEY)
    assert chunk.shape == (ROWS, 4, 2)
    assert chunk.dtype == np.float32
    np.testing.assert_array_equal(chunk, algorithm.act(params, batch.observation, KEY))
    extra = {**batch.observation, "privileged": np.ones((ROWS, 2, 3), np.float32)}
    np.testing.assert_array_equal(chunk, algorithm.act(params, extra, KEY))


@pytest.mark.parametrize("name", sorted(factory.ALGORITHMS))
def test_acts_on_batches_of_any_size(name):
    # As exporters trace it: with a symbol for B, and without a key.
    algorithm, [size] = make(name), export.symbolic_shape("B")
    observation = {"proprio": jax.ShapeDtypeStruct((size, 2, 3), np.float32)}
    params = jax.eval_shape(algorithm.init, jax.random.key(0), make_batch()).params
    noise = jax.ShapeDtypeStruct((size, *algorithm.noise), np.float32) if algorithm.noise else None
    chunk = jax.eval_shape(algorithm.act_with_noise or algorithm.act, params, observation, noise)
    assert chunk.shape == (size, 4, 2)


def test_confidence(anyone):
    algorithm, observation = anyone.algorithm, make_batch().observation
    confidence = algorithm.confidence(anyone.state.params, observation, KEY)
    assert confidence.shape == (ROWS,)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    again = algorithm.confidence(anyone.state.params, observation, KEY)
    np.testing.assert_array_equal(confidence, again)


def test_noise_is_declared(anyone):
    """`act` draws the noise that the algorithm says, and nothing else."""
    algorithm, params, batch = anyone.algorithm, anyone.state.params, make_batch()
    chunk = algorithm.act(params, batch.observation, KEY)
    other = algorithm.act(params, batch.observation, jax.random.key(6))
    if not algorithm.noise:
        assert algorithm.act_with_noise is None
        np.testing.assert_array_equal(chunk, other)
        return
    assert np.abs(chunk - other).max() > 1e-4
    noise = jax.random.normal(KEY, (ROWS, *algorithm.noise))
    act = jax.jit(algorithm.act_with_noise)
    np.testing.assert_allclose(act(params, batch.observation, noise), chunk, atol=1e-6)


def test_masked_actions_do_not_count(found):
    # A whole row: diffusion sees the repeated actions at an episode's end, but is not asked.
    batch = make_batch()
    batch.action_mask[1] = False
    changed = batch.action.copy()
    changed[1] = 0.07
    before = found.algorithm.eval_step(found.state.params, batch)
    after = found.algorithm.eval_step(found.state.params, batch._replace(action=changed))
    for key, value in before.items():
        assert float(after[key]) == pytest.approx(float(value), rel=1e-5), key


@pytest.mark.parametrize("max_decay", [0.0, 0.9])
@pytest.mark.parametrize("name", CLONING)
def test_averages_and_accumulation_can_be_chosen(name, max_decay):
    # Shapes alone: what they amount to is tested in imitation_test.
    algorithm = make(name, accumulation=2, ema=EMAConfig(max_decay=max_decay))
    state = jax.eval_shape(algorithm.init, jax.random.key(0), make_batch())
    after, _ = jax.eval_shape(algorithm.train_step, state, make_batch())
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert set(state.params) == {"network", "norm"} | ({"ema"} if max_decay else set())


def test_runs_under_pmap(found):
    devices = jax.devices()[:2]
    if len(devices) < 2:
        pytest.skip("one device")
    step = jax.pmap(found.algorithm.train_step, in_axes=(None, 0), devices=devices)
    halves = jax.tree.map(lambda x: x.reshape(2, ROWS // 2, *x.shape[1:]), make_batch())
    state, metrics = step(found.state, halves)
    assert state.step.tolist() == [1, 1]
    assert np.isfinite(metrics["loss"]).all()

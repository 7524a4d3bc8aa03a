"""DPPO: densities by hand, the policy it starts from, and a choice it learns to make."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpolicy.algorithms import diffusion, dppo, finetune, ppo
from jaxpolicy.algorithms.diffusion import DiffusionConfig
from jaxpolicy.algorithms.dppo import DENOISING, DPPOConfig
from jaxpolicy.algorithms.imitation import EMAConfig
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import Batch, PolicySpec, Rollout
from jaxpolicy.networks.denoisers import DenoiserConfig, DiffusionPolicy
from jaxpolicy.networks.encoder import NetworkConfig

ACTION = ActionSpec("cartesian_delta", ("dx", "dyaw"), ("m", "rad"), (-0.1, -0.2), (0.1, 0.2), 20.0)
PROPRIO, PRIVILEGED = ArraySpec("proprio", (1,)), ArraySpec("privileged", (2,))
SPEC = PolicySpec((PROPRIO,), ACTION, 1, 2, 1, critic=(PRIVILEGED, PROPRIO))
NORM = {
    # Bounds become -1 and 1; proprioception .3 and .7 as well.
    "action": normalization.fit([np.array([ACTION.minimum, ACTION.maximum], np.float32)]),
    "proprio": normalization.fit([np.array([[0.3], [0.7]], np.float32)]),
}
TINY = DiffusionConfig(
    denoiser="mlp",
    denoisers=DenoiserConfig(embedding=8, mlp_widths=(32, 32)),
    train_steps=20,
    sample_steps=5,
    prediction="sample",
    noise_draws=4,
    ema=EMAConfig(max_decay=0.9),
)
E, T = 64, 2
CONFIG = DPPOConfig(diffusion=TINY, n_worlds=E, steps=T, minibatches=2, epochs=2, critic_warmup=0)
NETWORK = NetworkConfig(hidden=16, layers=1)


def setup_of(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    return dppo.make_setup(SPEC, NETWORK, config, optax.adam(1e-3))


class Constant:
    """Stands for a network: the clean sample is params["v"] whatever it is asked."""

    def apply(self, variables, *inputs, method=None):
        if method is DiffusionPolicy.encode:
            return jnp.zeros((len(inputs[0]["proprio"]), 1))
        return jnp.full(inputs[0].shape, variables["params"]["v"])


def by_hand(**changes):
    """One action of one element, and two steps of flow matching: sigma 1, .5, 0.

    DDIM with eta = .6, from (alpha, sigma) = (0, 1) to (.5, .5): s = .6 * .5 / 1 * 1 = .3, and
    sqrt(.25 - .09) = .4 of the noise is kept: x' = .5 x0 + .4 x + .3 z. From (.5, .5) to (1, 0):
    x' = x0, without noise.
    """
    policy = dataclasses.replace(TINY, schedule="flow", train_steps=2, sample_steps=2)
    setup = setup_of(
        diffusion=policy, eta=0.6, min_sampling_std=0.2, denoising_discount=0.5, **changes
    )
    action = dataclasses.replace(
        ACTION, names=("dx",), units=("m",), minimum=(-0.1,), maximum=(0.1,)
    )
    spec = dataclasses.replace(SPEC, action=action, horizon=1)
    return dataclasses.replace(setup, network=Constant(), policy_spec=spec)


INPUTS = {"proprio": jnp.zeros((1, 1, 1))}
TRACE = jnp.asarray([1.0, 0.7, 0.25]).reshape(1, 3, 1, 1)


def actor_of(value):
    return {"policy": {"v": jnp.asarray(value)}}


def test_log_prob_by_hand():
    # x0 = .2. First step: mean .1 + .4 = .5, std .3, z = 2 / 3: -.22222 + 1.20397 - .91894.
    # Second: mean .2, std .1 (the least), z = .5: -.125 + 2.30259 - .91894.
    got = DENOISING.log_prob(by_hand(), actor_of(0.2), INPUTS, TRACE)
    np.testing.assert_allclose(got, [[0.06281, 1.25865]], atol=1e-4)
    last = DENOISING.log_prob(by_hand(finetune_steps=1), actor_of(0.2), INPUTS, TRACE[:, 1:])
    np.testing.assert_allclose(last, [[1.25865]], atol=1e-4)


def test_weights_by_hand():
    # (.5, 1) over their mean, .75.
    np.testing.assert_allclose(DENOISING.weights(by_hand()), [2 / 3, 4 / 3], rtol=1e-6)
    np.testing.assert_allclose(DENOISING.weights(by_hand(finetune_steps=1)), [1.0])


def test_drift_by_hand():
    # x0 differs by .1, means by .05 and .1: .0025 / .18 + .01 / .02.
    got = DENOISING.drift(by_hand(), actor_of(0.2), actor_of(0.3), INPUTS, TRACE)
    np.testing.assert_allclose(got, [0.01389 + 0.5], atol=1e-4)


def test_exploration_by_hand():
    # The chain ends at x0 = .2 with a standard deviation of .2, the least while sampling; the
    # state before it is at .5 * .2 + .4 x with x standard normal, and .3: std .5.
    setup, n = by_hand(), 20000
    drawn = DENOISING.sample(
        setup, actor_of(0.2), {"proprio": jnp.zeros((n, 1, 1))}, jax.random.key(0)
    )
    trace = np.asarray(drawn.trace[:, :, 0, 0])
    np.testing.assert_allclose(trace.mean(0), [0.0, 0.1, 0.2], atol=0.02)
    np.testing.assert_allclose(trace.std(0), [1.0, 0.5, 0.2], atol=0.02)
    np.testing.assert_array_equal(drawn.chunk, drawn.trace[:, -1])
    assert float(DENOISING.std(setup, None)) == pytest.approx(0.2)


def worlds(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "proprio": rng.uniform(0.3, 0.7, (n, 1, 1)).astype(np.float32),
        "privileged": rng.normal(size=(n, 1, 2)).astype(np.float32),
    }


@functools.cache
def trained():
    """A diffusion policy: half of its demonstrators go left (-.06 m), half right."""
    setup = diffusion.make_setup(SPEC, NETWORK, TINY, optax.adam(3e-3))
    action = np.full((32, 2, 2), [0.06, 0.1], np.float32)
    action[::2, :, 0] = -0.06
    batch = Batch({"proprio": worlds(32)["proprio"]}, action, np.ones((32, 2), bool))
    state = jax.jit(functools.partial(diffusion.init, setup, NORM))(jax.random.key(0), batch)

    @jax.jit
    def train(state):
        step = functools.partial(diffusion.train_step, setup)
        return jax.lax.scan(lambda s, _: step(s, batch), state, None, 300)[0]

    return setup, train(state).params


def started(setup):
    """The state of DPPO at the policy that was trained."""
    _, source = trained()
    init = functools.partial(ppo.init, setup, {"action": NORM["action"]})
    state = jax.jit(init)(jax.random.key(1), None)
    return state._replace(params=finetune.transplant(state.params, source))


def test_acts_as_the_policy_it_starts_from():
    setup, params = trained()
    algorithm = dppo.make(SPEC, NETWORK, CONFIG, optax.adam(1e-3), NORM)
    tuned = started(setup_of()).params
    observation, key = {"proprio": worlds(8)["proprio"]}, jax.random.key(3)
    assert algorithm.noise == diffusion.noise_shape(setup)
    expected = jax.jit(functools.partial(diffusion.act, setup))(params, observation, key)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(jax.jit(algorithm.act)(tuned, observation, key), expected, atol=1e-5)
    noise = jax.random.normal(key, (8, *algorithm.noise))
    given = jax.jit(functools.partial(algorithm.act_with_noise, unroll=True))
    np.testing.assert_allclose(given(tuned, observation, noise), expected, atol=1e-5)
    sure = jax.jit(functools.partial(diffusion.confidence, setup))(params, observation, key)
    np.testing.assert_allclose(
        jax.jit(algorithm.confidence)(tuned, observation, key), sure, atol=1e-4
    )


def rollout_of(setup, params, key, reward):
    """T decisions of one step each; the reward is that of the executed action [E, A]."""
    seen = worlds(E)
    policy = {"proprio": seen["proprio"]}

    def decide(key):
        action, trace, log_prob = ppo.explore(setup, params, policy, key)
        return trace, log_prob, reward(action[:, 0])

    trace, log_prob, rewards = jax.vmap(decide)(jax.random.split(key, T))
    window = {k: jnp.broadcast_to(v, (T, *v.shape)) for k, v in seen.items()}
    ones = jnp.ones((T, E))
    return Rollout(window, window, trace, log_prob, rewards, ones, ones, {})


def to_the_right(action):
    return jnp.float32(action[:, 0] > 0)


def test_nothing_has_changed_before_the_first_update():
    setup = setup_of()
    state = started(setup)
    rollout = rollout_of(setup, state.params, jax.random.key(4), to_the_right)
    assert rollout.trace.shape == (T, E, 6, 2, 2)
    assert rollout.log_prob.shape == (T, E, 5)
    samples = ppo.advantages(setup, state.params, rollout, rollout.reward)
    samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples)
    inputs = ppo.network_input(setup, state.params["norm"], samples.observation, (PROPRIO,))
    actor = state.params["network"]["actor"]
    again = DENOISING.log_prob(setup, actor, inputs, samples.trace)
    np.testing.assert_allclose(again, samples.log_prob, atol=1e-3)
    _, metrics = ppo.loss(setup, state.params["network"], state.params, samples)
    assert float(metrics["clipped"]) == 0.0
    assert float(metrics["kl"]) == pytest.approx(0.0, abs=1e-5)
    # Actions that are not executed do not matter at the last step.
    changed = samples.trace.at[:, -1, 1].add(1.0)
    np.testing.assert_array_equal(DENOISING.log_prob(setup, actor, inputs, changed), again)
    assert float(DENOISING.drift(setup, actor, actor, inputs, samples.trace).max()) == 0.0


def test_the_last_steps_alone():
    setup, few = setup_of(), setup_of(finetune_steps=2)
    actor = started(setup).params["network"]["actor"]
    inputs = {"proprio": jnp.zeros((4, 1, 1))}
    full = DENOISING.sample(setup, actor, inputs, jax.random.key(0))
    short = DENOISING.sample(few, actor, inputs, jax.random.key(0))
    np.testing.assert_array_equal(short.chunk, full.chunk)
    np.testing.assert_array_equal(short.trace, full.trace[:, -3:])
    np.testing.assert_array_equal(short.log_prob, full.log_prob[:, -2:])
    again = DENOISING.log_prob(few, actor, inputs, short.trace)
    np.testing.assert_allclose(again, short.log_prob, atol=1e-3)


def test_learns_which_way_is_better():
    setup = setup_of()
    state = started(setup)

    @jax.jit
    def train(state):
        def update(state, key):
            rollout = rollout_of(setup, state.params, key, to_the_right)
            return ppo.train_step(setup, state, rollout)

        return jax.lax.scan(update, state, jax.random.split(jax.random.key(5), 40))

    act = jax.jit(functools.partial(ppo.act, setup))
    observation = {"proprio": worlds(256)["proprio"]}
    before = np.asarray(act(state.params, observation, jax.random.key(6)))[:, 0]
    after_state, metrics = train(state)
    after = np.asarray(act(after_state.params, observation, jax.random.key(6)))[:, 0]
    assert 0.2 < (before[:, 0] > 0).mean() < 0.8
    assert (after[:, 0] > 0).mean() > 0.9
    # What it was not asked to change stays near where it was.
    assert np.median(after[:, 1]) == pytest.approx(0.1, abs=0.06)
    assert all(np.isfinite(v).all() for v in metrics.values())
    # Statistics that the policy reads are frozen; the critic's own are not.
    old, new = state.params["norm"], after_state.params["norm"]
    np.testing.assert_array_equal(new["proprio"].mean, old["proprio"].mean)
    assert float(new["privileged"].count) == 40 * E * T


def test_the_critic_learns_first():
    setup = setup_of(critic_warmup=1)
    state = started(setup)
    rollout = rollout_of(setup, state.params, jax.random.key(4), to_the_right)
    new, _ = jax.jit(functools.partial(ppo.train_step, setup))(state, rollout)
    for part, moved in (("actor", False), ("critic", True)):
        old, now = state.params["network"][part], new.params["network"][part]
        same = jax.tree.leaves(jax.tree.map(np.array_equal, old, now))
        assert all(same) is not moved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_sampling_std": 0.0}, "dppo.min_sampling_std must be above 0"),
        ({"min_logprob_std": -1.0}, "dppo.min_logprob_std must be above 0"),
        ({"eta": 1.5}, r"dppo.eta must be in \[0, 1\]"),
        ({"denoising_discount": 0.0}, r"dppo.denoising_discount must be in \(0, 1\]"),
        ({"finetune_steps": 6}, r"between 0 and dppo.diffusion.sample_steps \(5\), got 6"),
        ({"entropy_weight": 0.1}, "dppo.entropy_weight must be 0"),
        ({"action_norm": "quantile"}, r"dppo.action_norm \('quantile'\)"),
        ({"critic_rate": 0.0}, "dppo.critic_rate must be above 0"),
        (
            {"diffusion": dataclasses.replace(TINY, residual=True, clip=2.0)},
            "dppo.diffusion.residual must be off",
        ),
        (
            {"diffusion": dataclasses.replace(TINY, proprio_norm="min_max")},
            "dppo.diffusion.proprio_norm must be 'mean_std'",
        ),
        (
            {"diffusion": dataclasses.replace(TINY, sample_steps=21)},
            r"between 1 and train_steps \(20\)",
        ),
    ],
)
def test_wrong_values(changes, message):
    with pytest.raises(InputError, match=message):
        setup_of(**changes)


def test_statistics_of_actions_are_needed():
    with pytest.raises(InputError, match="statistics of 'action' are missing"):
        dppo.make(SPEC, NETWORK, CONFIG, optax.adam(1e-3), {})

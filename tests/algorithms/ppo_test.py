import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpolicy.algorithms import actors, ppo
from jaxpolicy.algorithms.ppo import PPOConfig
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import PolicySpec, Rollout
from jaxpolicy.networks.encoder import NetworkConfig

ACTION = ActionSpec("cartesian_delta", ("dx", "dy"), ("m", "m"), (-0.2, 0.0), (0.2, 1.0), 10.0)
SPEC = PolicySpec(
    (ArraySpec("proprio", (3,)),), ACTION, 1, 1, 1, critic=(ArraySpec("privileged", (2,)),)
)
NORM = {"action": normalization.fit([np.asarray([ACTION.minimum, ACTION.maximum])])}
SMALL = PPOConfig(n_worlds=4, steps=6, epochs=2, minibatches=3, target_kl=0.0)
NETWORK = NetworkConfig(hidden=8, layers=1)


def setup(config=SMALL, shards=1, **changes):
    config = dataclasses.replace(config, **changes)
    return ppo.make_setup(SPEC, NETWORK, config, optax.sgd(0.1), shards=shards)


def make_state(made):
    return ppo.init(made, NORM, jax.random.key(0), None)


def make_rollout(made, state, seed=0):
    """T = 6 decisions of E = 4 worlds, with actions that the policy has drawn."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=(6, 4, *shape)), jnp.float32)

    observation = {"proprio": draw(1, 3), "privileged": draw(1, 2)}
    keys = jax.random.split(jax.random.key(seed), 6)
    explore = jax.vmap(lambda o, k: ppo.explore(made, state.params, o, k))
    _, trace, log_prob = explore(observation, keys)
    ended = jnp.asarray(rng.uniform(size=(6, 4)) < 0.2, jnp.float32)
    return Rollout(
        observation=observation,
        final={"privileged": draw(1, 2)},
        trace=trace,
        log_prob=log_prob,
        reward=draw(),
        terminated=ended,
        ended=ended,
        metrics={},
    )


def samples(advantage, log_prob, value=0.0, target=0.0):
    array = jnp.asarray(advantage, jnp.float32)
    return ppo._Samples(
        observation={},
        trace=None,
        log_prob=jnp.full((len(array), 1), log_prob, jnp.float32),
        value=jnp.full(len(array), value, jnp.float32),
        advantage=array,
        target=jnp.full(len(array), target, jnp.float32),
    )


def test_policy_loss_by_hand():
    # r = exp(0.5) = 1.64872, clipped to 1.2. Better than expected: min(1.64872, 1.2) = 1.2.
    # Worse: min(-1.64872, -1.2) = -1.64872. Negated mean: (1.64872 - 1.2) / 2 = 0.22436.
    loss, clipped = ppo.policy_loss(setup(), jnp.full((2, 1), 0.5), samples([1.0, -1.0], 0.0))
    np.testing.assert_allclose(loss, 0.22436, rtol=1e-4)
    assert clipped == 1.0
    # r = 1: nothing is clipped, and the advantages cancel.
    loss, clipped = ppo.policy_loss(setup(), jnp.zeros((2, 1)), samples([1.0, -1.0], 0.0))
    assert loss == 0.0
    assert clipped == 0.0


def test_value_loss_by_hand():
    # 0.5 * (3 - 1)^2 = 2
    batch = samples([0.0], 0.0, value=0.0, target=1.0)
    np.testing.assert_allclose(ppo.value_loss(setup(), jnp.asarray([3.0]), batch), 2.0)
    # Clipped to 0 +- 0.5: the errors are 4 and (0.5 - 1)^2, and the larger one counts; and for
    # a value of 1, which is right, 0.5 * 0.25.
    made = setup(value_clip=0.5)
    np.testing.assert_allclose(ppo.value_loss(made, jnp.asarray([3.0]), batch), 2.0)
    np.testing.assert_allclose(ppo.value_loss(made, jnp.asarray([1.0]), batch), 0.125)


def test_the_ratio_is_one_before_the_first_update():
    made = setup()
    state = make_state(made)
    rollout = make_rollout(made, state)
    found = ppo.advantages(made, state.params, rollout, rollout.reward)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
    _, metrics = ppo.loss(made, state.params["network"], state.params, flat)
    np.testing.assert_allclose(metrics["kl"], 0.0, atol=1e-6)
    assert metrics["clipped"] == 0.0
    # Standardised advantages have no mean.
    np.testing.assert_allclose(metrics["policy_loss"], 0.0, atol=1e-6)


def test_an_update_changes_everything_that_learns():
    made = setup()
    state = make_state(made)
    after, metrics = jax.jit(ppo.train_step, static_argnums=0)(
        made, state, make_rollout(made, state)
    )
    assert int(after.step) == 1
    for name in ("actor", "critic"):
        before, now = state.params["network"][name], after.params["network"][name]
        assert not np.array_equal(*(jax.tree.leaves(x)[0] for x in (before, now)))
    assert all(np.isfinite(v) and np.shape(v) == () for v in metrics.values())
    # Statistics have taken in T E = 24 rows of what policy and critic saw.
    assert after.params["norm"]["proprio"].count == 24
    assert after.params["norm"]["privileged"].count == 24


def test_critic_warmup_and_frozen_statistics():
    made = setup(critic_warmup=1, freeze_norm=True)
    state = make_state(made)
    rollout = make_rollout(made, state)
    step = jax.jit(ppo.train_step, static_argnums=0)
    once, _ = step(made, state, rollout)
    twice, _ = step(made, once, rollout)
    actor = [jax.tree.leaves(s.params["network"]["actor"]) for s in (state, once, twice)]
    assert all(np.array_equal(a, b) for a, b in zip(actor[0], actor[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(actor[1], actor[2], strict=True))
    critic = [jax.tree.leaves(s.params["network"]["critic"])[0] for s in (state, once)]
    assert not np.array_equal(*critic)
    assert once.params["norm"]["proprio"].count == 0
    assert once.params["norm"]["privileged"].count == 24


def test_a_large_divergence_stops_the_update():
    free, held = setup(), setup(stop_kl=1e-9)
    state = make_state(free)
    rollout = make_rollout(free, state)
    step = jax.jit(ppo.train_step, static_argnums=0)
    moved = [step(made, state, rollout)[0].params["network"]["actor"] for made in (free, held)]
    start = state.params["network"]["actor"]

    def distance(to):
        return float(optax.tree.norm(jax.tree.map(jnp.subtract, to, start)))

    # The first minibatch is without divergence, so one step at least is taken.
    assert 0.0 < distance(moved[1]) < distance(moved[0])


@pytest.mark.parametrize(("kl", "factor"), [(0.05, 1 / 1.5), (0.02, 1.0), (0.005, 1.5)])
def test_the_learning_rate_follows_the_divergence(kl, factor):
    config = dataclasses.replace(SMALL, target_kl=0.02)
    one = jnp.ones(())
    np.testing.assert_allclose(ppo._adapted(config, one, jnp.asarray(kl), one), factor)
    assert ppo._adapted(SMALL, one, jnp.asarray(kl), one) == 1.0


def test_shards_never_exchange_samples():
    # 2 shards of 2 worlds: [T, E] = [2, 4] with entry 10 t + e.
    x = jnp.asarray([[0, 1, 2, 3], [10, 11, 12, 13]])
    np.testing.assert_array_equal(ppo._rows(2, x), [[0, 1, 10, 11], [2, 3, 12, 13]])


def test_actions_are_physical_and_within_limits():
    made = setup(initial_std=3.0)
    state = make_state(made)
    observation = {"proprio": jnp.zeros((64, 1, 3))}
    action, trace, log_prob = ppo.explore(made, state.params, observation, jax.random.key(1))
    assert action.shape == (64, 1, 2)
    assert log_prob.shape == (64, 1)
    assert (action >= jnp.asarray(ACTION.minimum)).all()
    assert (action <= jnp.asarray(ACTION.maximum)).all()
    # What was drawn is kept as it was drawn.
    assert jnp.abs(trace).max() > 1.0
    # The middle of the limits is the zero of the network.
    middle = ppo.act(made, state.params, observation)[0, 0]
    np.testing.assert_allclose(middle, [0.0, 0.5], atol=0.05)


def test_confidence_is_a_share():
    made = setup()
    state = make_state(made)
    sure = ppo.confidence(made, state.params, {"proprio": jnp.ones((3, 1, 3))}, jax.random.key(0))
    assert sure.shape == (3,)
    assert ((sure > 0) & (sure <= 1)).all()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"minibatches": 5}, "ppo.minibatches \\(5\\) must divide"),
        ({"discount": 1.5}, "ppo.discount must be in"),
        ({"initial_std": 0.1}, "ppo.initial_std must be above ppo.min_std"),
        ({"action_norm": "none?"}, "ppo.action_norm must be one of"),
        ({"clip": 0.0}, "ppo.clip must be above 0"),
        ({"epochs": 0}, "ppo.epochs must be at least 1"),
        ({"confidence_draws": 1}, "ppo.confidence_draws must be at least 2"),
        ({"confidence_scale": 0.0}, "ppo.confidence_scale must be above 0"),
    ],
)
def test_wrong_values_are_told(changes, told):
    with pytest.raises(InputError, match=told):
        setup(**changes)


def test_a_critic_must_see_something():
    blind = dataclasses.replace(SPEC, critic=())
    with pytest.raises(InputError, match="policy and critic need"):
        ppo.make_setup(blind, NETWORK, SMALL, optax.sgd(0.1))


def test_gaussian_log_probability_by_hand():
    # Two elements: -(1/2)(1)^2 - log 1 - 0.918939 and -(1/2)(1/2)^2 - log 2 - 0.918939,
    # together -1.418939 - 1.737086 = -3.156024.
    found = actors.gaussian_log_prob(
        jnp.asarray([[1.0, 1.0]]), jnp.zeros((1, 2)), jnp.asarray([1.0, 2.0])
    )
    np.testing.assert_allclose(found, [-3.156024], rtol=1e-5)


def test_entropy_and_drift_by_hand():
    made = setup(initial_std=1.0, min_std=0.5)
    actor = make_state(made).params["network"]["actor"]
    # Two elements of standard deviation 1: 2 * (log 1 + 1.418939).
    np.testing.assert_allclose(made.actor.entropy(made, actor), 2.837877, rtol=1e-5)
    np.testing.assert_allclose(made.actor.std(made, actor), 1.0, rtol=1e-5)
    inputs = {"proprio": jnp.ones((2, 1, 3))}
    trace = jnp.zeros((2, 1, 2))
    np.testing.assert_allclose(made.actor.drift(made, actor, actor, inputs, trace), 0.0, atol=1e-6)
    # The same means with a standard deviation of 2 against 1, two elements:
    # 2 * (log(1/2) + 4/2 - 1/2) = 2 * 0.806853 = 1.613706.
    wide = {**actor, "raw_std": jnp.full((2,), np.log(np.expm1(1.5)), jnp.float32)}
    found = made.actor.drift(made, wide, actor, inputs, trace)
    np.testing.assert_allclose(found, 1.613706, rtol=1e-4)


def test_the_actor_learns_to_prefer_what_is_rewarded():
    """One step, no future: rewarded for a large first element, punished for a large second."""
    config = dataclasses.replace(SMALL, discount=0.0, epochs=4, minibatches=3)
    made = ppo.make_setup(SPEC, NETWORK, config, optax.adam(1e-2))
    state = make_state(made)

    @jax.jit
    def improve(state, seed):
        rollout = make_rollout_at(made, state, seed)
        return ppo.train_step(made, state, rollout)[0]

    for seed in range(30):
        state = improve(state, seed)
    action = ppo.act(made, state.params, {"proprio": jnp.zeros((1, 1, 3))})[0, 0]
    assert action[0] > 0.1
    assert action[1] < 0.25


def make_rollout_at(made, state, seed):
    key_observation, key_action = jax.random.split(jax.random.key(seed))
    observation = {
        "proprio": jax.random.normal(key_observation, (6, 4, 1, 3)),
        "privileged": jnp.zeros((6, 4, 1, 2)),
    }
    explore = jax.vmap(lambda o, k: ppo.explore(made, state.params, o, k))
    _, trace, log_prob = explore(observation, jax.random.split(key_action, 6))
    ended = jnp.ones((6, 4))
    reward = trace[:, :, 0, 0] - trace[:, :, 0, 1]
    final = {"privileged": observation["privileged"]}
    return Rollout(observation, final, trace, log_prob, reward, ended, ended, {})

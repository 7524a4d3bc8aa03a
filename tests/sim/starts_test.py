"""Episodes that begin where an expert has been."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import starts, streams, wrappers
from jaxpolicy.sim.config import RandomizationConfig
from tests.fake_env import PointEnv

N = 48
LENGTH = 50
VARIED = RandomizationConfig(mass=(0.5, 2.0), models=8, position_noise=(0.1, 0.1))


@functools.cache
def point():
    """A world without physics, and a bank of it."""
    env = PointEnv()
    return env, starts.record_bank(env, 0, 20, 0.05, 30)


def begin(env, n=64, level=None):
    keys = jax.random.split(jax.random.key(3), n)
    if level is None:
        return jax.jit(jax.vmap(env.reset))(keys)
    return jax.jit(jax.vmap(env.reset_at, (0, None)))(keys, jnp.float32(level))


def test_a_bank_holds_states_before_the_success():
    env, bank = point()
    assert len(bank.states.done) == 20
    for array in (bank.states.reward, bank.states.done, *bank.states.metrics.values()):
        np.testing.assert_array_equal(array, 0.0)
    distance = np.linalg.norm(bank.states.obs["privileged"], axis=1)
    # The expert halves the distance in every step; a success needs three steps within .1,
    # and what is kept ends three steps before that.
    assert distance.min() < 0.25
    assert distance.max() > 0.5
    goals = bank.states.pipeline_state[1]
    assert len(np.unique(goals, axis=0)) == 20


def test_banks_follow_their_seed():
    env, bank = point()
    same, other = (starts.record_bank(env, seed, 20, 0.05, 30) for seed in (0, 1))
    np.testing.assert_array_equal(same.states.obs["proprio"], bank.states.obs["proprio"])
    assert not np.isin(other.states.pipeline_state[1], bank.states.pipeline_state[1]).any()


def test_the_latest_state_is_three_steps_before_the_success():
    success, none = jnp.asarray([0, 0, 0, 0, 1, 1.0]), jnp.zeros(6)
    # Step 4 leads to success, that is state 5; three before is state 2.
    assert [int(x) for x in starts._latest(success, none)] == [1, 2]
    assert not starts._latest(none, none)[0]
    # The step that ends an episode counts, those after it do not.
    assert starts._latest(success, jnp.asarray([0, 0, 0, 0, 1, 1.0]))[0]
    assert not starts._latest(success, jnp.asarray([0, 0, 0, 1, 1, 1.0]))[0]


def test_a_share_of_episodes_begins_in_the_bank():
    env, bank = point()
    goals = np.asarray(bank.states.pipeline_state[1])
    for share, low, high in ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.3, 0.15, 0.45)):
        state = begin(starts.ExpertStarts(env, bank, share), 200)
        inside = np.isin(state.pipeline_state[1], goals).all(axis=1)
        np.testing.assert_array_equal(state.info["from_bank"], inside)
        # 200 draws of probability .3: a standard deviation of .032.
        assert low <= inside.mean() <= high


def test_metrics_say_where_the_ended_episode_began():
    env, bank = point()
    world = wrappers.EpisodeLimit(starts.ExpertStarts(env, bank, 0.5), 1)
    world = wrappers.AutoReset(wrappers.Vmap(world))
    first = jax.jit(world.reset)(jax.random.split(jax.random.key(3), 32))
    after = jax.jit(world.step)(first, jnp.zeros((32, 3)))
    assert (after.done == 1).all()
    np.testing.assert_array_equal(after.metrics["from_bank"], first.info["from_bank"])
    assert (after.info["from_bank"] != first.info["from_bank"]).any()


def test_wrong_use_is_named():
    env, bank = point()
    with pytest.raises(InputError, match="bare task"):
        starts.ExpertStarts(wrappers.EpisodeLimit(env, 3), bank, 0.5)
    with pytest.raises(InputError, match=r"must be in \[0, 1\], got 1.5"):
        starts.ExpertStarts(env, bank, 1.5)
    with pytest.raises(InputError, match="not recorded in this world"):
        starts.ExpertStarts(sim.make("reach"), bank, 0.5)
    with pytest.raises(InputError, match="n >= 1 states"):
        starts.record_bank(env, 0, 0, 0.05, 30)
    with pytest.raises(InputError, match="succeeded in 0 of 8 episodes of 2 steps"):
        starts.record_bank(PointEnv(), 0, 2, 0.0, 2)


class Unguided(PointEnv):
    """Has no expert."""

    expert = None


def test_a_world_without_an_expert_has_no_bank():
    with pytest.raises(InputError, match="'point' has no scripted expert"):
        starts.record_bank(Unguided(), 0, 2, 0.0, 30)


@pytest.fixture(scope="module")
def lift():
    """The task, and a bank of it, recorded through the whole world."""
    world = sim.make_world(sim.EnvConfig(name="lift", image_size=8))
    return world, starts.record_bank(world, 0, N, 0.05, LENGTH)


def rise(env, state):
    """How far the object is above its place on the table, m [N]."""
    to_goal = jax.vmap(env.split_privileged)(state.obs["privileged"])["to_goal"]
    return 0.1 - np.asarray(to_goal)[:, 0]


def test_lift_begins_at_every_stage(lift):
    world, bank = lift
    env = world.unwrapped
    facts = jax.vmap(env.facts)(bank.states.pipeline_state)
    heights = rise(env, bank.states)
    grasped = np.asarray(facts["grasped"])[:, 0] > 0.5
    assert grasped.mean() > 0.2
    assert heights.max() > 0.04
    # Home is among them, and so is what is near the object but does not hold it.
    near = np.linalg.norm(facts["to_object"], axis=1) < 0.05
    assert (near & ~grasped).any()
    memory = bank.states.pipeline_state.memory
    np.testing.assert_array_equal(memory["held"], 0.0)
    np.testing.assert_array_equal(memory["incidents"]["closed"], 0.0)
    np.testing.assert_array_equal(bank.states.info["facts"]["touched"], -1.0)
    # What is commanded goes on: the gripper presses, and arms are not at home.
    assert (memory["targets"]["gripper"][grasped] < 0.5).all()
    assert len(np.unique(np.round(memory["targets"]["joints"], 3), axis=0)) > N // 2


def test_the_expert_succeeds_from_the_bank(lift):
    world, bank = lift
    env = starts.ExpertStarts(world.unwrapped, bank, 1.0)

    @jax.jit
    def run(state):
        def step(state, _):
            state = jax.vmap(env.step)(state, jax.vmap(env.expert)(state.obs["privileged"]))
            return state, state.metrics["success"]

        return jax.lax.scan(step, state, length=LENGTH)[1]

    state = begin(env, N)
    assert (state.info["from_bank"] == 1).all()
    success = np.asarray(run(state))
    assert success.any(axis=0).mean() > 0.9
    # Held anew: not before the fifth step.
    assert not success[:4].any()


def test_with_starts_goes_inside_all_other_wrappers(lift):
    world, bank = lift
    env = starts.with_starts(world, bank, 1.0)
    assert wrappers.episode_length(env) == wrappers.episode_length(world)
    assert isinstance(env.env.env, starts.ExpertStarts)
    state = jax.jit(env.reset)(jax.random.key(0))
    assert set(state.obs) == {"privileged", "proprio", "image/wrist"}
    assert float(state.info["from_bank"]) == 1.0
    assert world.env.env is world.unwrapped


def test_bank_and_episodes_share_no_key():
    bank = jax.random.fold_in(streams.episode_key(streams.TRAINING, 0), starts._BANK)
    keys = streams.episode_keys(streams.TRAINING, np.arange(100))
    assert not (jax.random.key_data(keys) == jax.random.key_data(bank)).all(axis=1).any()


@pytest.fixture(scope="module")
def varied():
    env = sim.make("lift", randomization=VARIED)
    return starts.ExpertStarts(env, starts.record_bank(env, 0, 12, 0.02, LENGTH), 1.0)


def test_levels_choose_among_the_bank(varied):
    randomizer = varied.env.randomizer
    for level, allowed in ((1.0, 8), (0.5, 4)):
        state = begin(varied, 32, level)
        assert float(randomizer.models_at(jnp.float32(level))) == allowed
        assert (randomizer.rank(state.pipeline_state.variant) < allowed).all()
        assert (state.info["from_bank"] == 1).all()
        # The noise is that of the level, in what is seen and in what is told.
        np.testing.assert_allclose(state.info["variation"]["position_noise"], 0.1 * level)
        tool = jax.vmap(varied.env.facts)(state.pipeline_state)["tool"]
        error = np.asarray(state.obs["proprio"][:, 15:18] - tool)
        assert 0.6 * 0.1 * level < error.std() < 1.4 * 0.1 * level


def test_where_a_level_allows_no_state_the_task_begins_at_home(varied):
    # Only states of models that are not the nearest are left.
    keep = np.flatnonzero(varied._ranks > 0)
    bank = starts.StartBank(jax.tree.map(lambda x: x[keep], varied.bank.states))
    env = starts.ExpertStarts(varied.env, bank, 1.0)
    assert (begin(env, 8, 0.0).info["from_bank"] == 0).all()
    assert (begin(env, 8).info["from_bank"] == 1).all()

"""Domain randomisation around a task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.sim import wrappers
from jaxpolicy.sim.config import STRONG, RandomizationConfig
from jaxpolicy.sim.physics.randomized_models import PHYSICS
from jaxpolicy.sim.tasks.randomizer import Randomizer

N = 24


@pytest.fixture(scope="module")
def env():
    return sim.make("lift", randomization=STRONG, objects="training")


@pytest.fixture(scope="module")
def states(env):
    """N worlds before and after a step of the expert."""

    @jax.jit
    def run(keys):
        first = jax.vmap(env.reset)(keys)
        return first, jax.vmap(env.step)(first, jax.vmap(env.expert)(first.obs["privileged"]))

    return run(jax.random.split(jax.random.key(0), N))


def test_episodes_differ_and_say_how(env, states):
    first, second = states
    found = first.info["variation"]
    assert {"mass", "object_size", "action_delay", "exposure", "camera_position/wrist/x"} <= set(
        found
    )
    for name, values in found.items():
        low, high = getattr(STRONG, name.split("/")[0])
        assert values.dtype == jnp.float32
        assert (np.asarray(values) >= np.float32(low)).all()
        assert (np.asarray(values) <= np.float32(high)).all()
        assert len(np.unique(values)) > (1 if name == "action_delay" else N // 2)
        np.testing.assert_array_equal(second.info["variation"][name], values)
    # 64 models, rounded up to a multiple of the 5 shapes.
    assert len(env.physics.models) == 65
    np.testing.assert_array_equal(first.pipeline_state.variant, second.pipeline_state.variant)


def test_objects_lie_on_the_table_at_their_size(env, states):
    n = env.arm.n_joints + 2
    state = states[0].pipeline_state
    for height, variant in zip(state.qpos[:, n + 2], state.variant, strict=True):
        model = env.physics.models[int(variant)]
        assert float(height) == pytest.approx(model.geom("cube").size[2], rel=1e-5)


def test_tasks_with_objects_of_one_size_put_them_on_the_table_too():
    env = sim.make("stack", randomization=RandomizationConfig(object_size=(0.8, 1.2), models=6))
    state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 4)).pipeline_state
    n = env.arm.n_joints + 2
    for row, variant in zip(state.qpos, state.variant, strict=True):
        half = env.physics.models[int(variant)].geom("cube").size[2]
        np.testing.assert_allclose([row[n + 2], row[n + 9]], half, rtol=1e-5)


def test_sensors_are_noisy_and_the_privileged_view_is_true(env, states):
    for state in states:
        facts = jax.vmap(env.split_privileged)(state.obs["privileged"])
        joints = state.pipeline_state.qpos[:, :7]
        np.testing.assert_array_equal(facts["joints"], joints)
        error = np.asarray(state.obs["proprio"][:, :7] - joints)
        std = np.asarray(state.info["variation"]["joint_noise"])
        # The error of 7 joints over its standard deviation, 24 worlds: 1 +- .2.
        assert abs((error / std[:, None]).std() - 1.0) < 0.2
    assert np.abs(states[0].obs["proprio"][:, :7] - states[1].obs["proprio"][:, :7]).min() > 0


def test_off_carries_nothing_and_changes_nothing():
    env = sim.make("lift")
    state = jax.eval_shape(env.reset, jax.random.key(0))
    assert sorted(state.pipeline_state.memory) == ["held", "incidents", "targets"]
    assert state.info["variation"] == {}
    assert len(env.physics.models) == 1
    action, proprio = jnp.ones(5), jnp.ones(3)
    assert env.randomizer.act({}, action)[1] is action
    assert env.randomizer.observe({}, proprio) is proprio


def test_physics_alone_needs_no_memory():
    env = sim.make("lift", randomization=RandomizationConfig(mass=(0.5, 2.0), models=3))
    state = jax.eval_shape(env.reset, jax.random.key(0))
    assert "variation" not in state.pipeline_state.memory
    assert list(state.info["variation"]) == ["mass"]
    assert len(env.physics.models) == 3


def start_at(env, level):
    keys = jax.random.split(jax.random.key(0), N)
    return jax.jit(jax.vmap(env.reset_at, (0, None)))(keys, jnp.float32(level))


def test_level_one_is_what_it_was_without_levels(env, states):
    keys = jax.random.split(jax.random.key(0), N)
    for i, key in enumerate(keys):
        rng, key_rest = jax.random.split(key)
        _, key_variant = jax.random.split(rng)
        state = jax.tree.map(lambda x, i=i: x[i], states[0].pipeline_state)
        assert state.variant == jax.random.randint(key_variant, (), 0, 65)
        words = jax.random.bits(key_rest, (2,), jnp.uint32)
        np.testing.assert_array_equal(state.memory["variation"], words)
        assert state.memory["level"] == 1.0
    plain = jax.jit(jax.vmap(env.reset))(keys)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(start_at(env, 1.0)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_level_zero_is_nearly_the_nominal_world(env):
    state = start_at(env, 0.0)
    for name, values in state.info["variation"].items():
        field = name.split("/")[0]
        if field not in PHYSICS:
            nominal = getattr(RandomizationConfig(), field)[0]
            np.testing.assert_array_equal(values, nominal, err_msg=name)
    np.testing.assert_array_equal(state.obs["proprio"][:, :7], state.pipeline_state.qpos[:, :7])
    # One model of each of the five shapes, the nearest.
    variants = np.unique(state.pipeline_state.variant)
    assert sorted(variants % 5) == list(range(5))
    assert (env.randomizer.rank(state.pipeline_state.variant) < 5).all()


def test_levels_allow_a_share_of_the_models(env):
    allowed = [int(env.randomizer.models_at(jnp.float32(v))) for v in (0.0, 0.1, 0.5, 1.0)]
    # 13 of each of 5 shapes: at .1 ceil(1.3) = 2, at .5 ceil(6.5) = 7.
    assert allowed == [5, 10, 35, 65]
    state = start_at(env, 0.5)
    assert (env.randomizer.rank(state.pipeline_state.variant) < 35).all()
    full = start_at(env, 1.0)
    np.testing.assert_array_equal(
        state.pipeline_state.memory["variation"], full.pipeline_state.memory["variation"]
    )
    # A factor with range (.6, 1.4) is half as far from 1.
    half, whole = (s.info["variation"]["exposure"] for s in (state, full))
    np.testing.assert_allclose(half - 1, (whole - 1) / 2, atol=1e-6)


def test_a_level_goes_on_through_steps(env):
    state = start_at(env, 0.0)
    after = jax.jit(jax.vmap(env.step))(state, jnp.zeros((N, 5)))
    np.testing.assert_array_equal(after.pipeline_state.memory["level"], 0.0)
    np.testing.assert_array_equal(after.obs["proprio"][:, :7], after.pipeline_state.qpos[:, :7])


def test_actions_come_late(env):
    config = RandomizationConfig(action_delay=(2, 2))
    late = Randomizer(config, env.scene, env.action_spec, env.observation_specs[-1])
    idle, executed = jnp.full(5, -1.0), []
    memory = late.begin(jax.random.key(0), idle, jnp.ones(()))
    for t in range(4):
        changed, action = late.act(memory, jnp.full(5, float(t)))
        memory = {**memory, **changed}
        executed.append(float(action[0]))
    # Two steps of standing still, then the first two actions.
    assert executed == [-1.0, -1.0, 0.0, 1.0]
    assert int(memory["step"]) == 4


def test_the_idle_action_keeps_the_robot_where_it_is(env):
    state = env.physics.init(env.scene.home)
    np.testing.assert_allclose(env._idle(state), [0.0, 0.0, 0.0, 0.0, 1.0], atol=1e-6)


def test_pictures_can_be_drawn_later_from_recorded_states(env, states):
    """The state alone says what an episode looks like: each like itself, unlike the others."""
    pixels = wrappers.Pixels(env, ("front",), 16)
    recorded = jax.tree.map(np.asarray, states[0].pipeline_state)
    together = wrappers.draw_all(pixels, recorded, 8)["image/front"]
    shuffled = wrappers.draw_all(pixels, jax.tree.map(lambda x: x[::-1], recorded), 8)
    np.testing.assert_array_equal(shuffled["image/front"][::-1], together)
    # The same scene with another episode's words looks different.
    words = {**recorded.memory, "variation": recorded.memory["variation"][::-1]}
    other = wrappers.draw_all(pixels, recorded.replace(memory=words), 8)["image/front"]
    assert np.abs(other.astype(int) - together).mean(axis=(1, 2, 3)).min() > 1.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.sim.tasks import stack


@pytest.fixture(scope="module")
def env():
    return sim.make("stack")


def _facts(env, offset, touch=0.0):
    """Facts with the red cube at `offset` from its place on the green one."""
    state = env.reset(jax.random.key(0)).pipeline_state
    place = state.qpos[16:19] + jnp.array([0.0, 0.0, 0.04]) + jnp.array(offset)
    sensors = state.sensors.at[:2].set(touch)
    return env.facts(state.replace(qpos=state.qpos.at[9:12].set(place), sensors=sensors))


def test_goal_is_a_cube_on_a_cube_and_out_of_the_gripper(env):
    assert env.goal(_facts(env, [0.01, 0.015, 0.0]))  # 1.8 cm aside
    assert not env.goal(_facts(env, [0.015, 0.015, 0.0]))  # 2.1 cm
    assert not env.goal(_facts(env, [0.0, 0.0, 0.008]))  # in the air
    assert not env.goal(_facts(env, [0.0, 0.0, 0.0], touch=1.0))  # still held


def test_cubes_start_apart(env):
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 1000))
    qpos = states.pipeline_state.qpos
    distance = np.linalg.norm(qpos[:, 9:11] - qpos[:, 16:18], axis=1)
    assert distance.min() > stack.APART


def test_both_cubes_are_known_and_the_red_one_is_meant(env):
    state = env.reset(jax.random.key(0))
    facts = env.facts(state.pipeline_state)
    np.testing.assert_array_equal(env.objects_of(facts)[1], facts["support"])
    assert state.info["facts"]["wanted"] == 0.0

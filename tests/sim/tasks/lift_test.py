import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.sim.tasks import lift


@pytest.fixture(scope="module")
def env():
    return sim.make("lift")


def test_grasp_needs_both_pads_nearness_and_width():
    both, near, wide = jnp.ones(2), jnp.array([0.0, 0.0, 0.02]), jnp.array([0.04])
    assert lift.is_grasped(both, near, wide)
    assert not lift.is_grasped(jnp.array([1.0, 0.0]), near, wide)
    assert not lift.is_grasped(both, jnp.array([0.0, 0.02, 0.02]), wide)  # 0.0283 > 0.025
    assert not lift.is_grasped(both, near, jnp.array([0.005]))


def test_cubes_start_anywhere_at_any_yaw(env):
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 500))
    place, quat = states.pipeline_state.qpos[:, 9:12], states.pipeline_state.qpos[:, 12:]
    np.testing.assert_allclose(place.min(0), [0.4, -0.1, 0.02], atol=3e-3)
    np.testing.assert_allclose(place.max(0), [0.6, 0.1, 0.02], atol=3e-3)
    np.testing.assert_allclose(jnp.linalg.norm(quat, axis=1), 1.0, atol=1e-6)
    yaw = 2 * np.arctan2(quat[:, 3], quat[:, 0])
    assert yaw.min() < -3.0
    assert yaw.max() > 3.0


def test_yaw_fact_is_the_same_for_all_four_sides(env):
    # Cube at yaw 0.2 and 0.2 + pi/2, tool at 0: sin and cos of 4 * 0.2 = 0.8.
    state = env.reset(jax.random.key(0)).pipeline_state
    for yaw in (0.2, 0.2 + np.pi / 2):
        quat = jnp.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])
        facts = env.facts(state.replace(qpos=state.qpos.at[12:16].set(quat)))
        np.testing.assert_allclose(facts["cube_yaw"], [np.sin(0.8), np.cos(0.8)], atol=1e-4)


def _facts(grasped, height):
    return {
        "grasped": jnp.array([grasped]),
        "to_cube": jnp.array([0.0, 0.0, 0.01]),
        "cube": jnp.array([0.5, 0.0, height]),
    }


def test_reward_terms(env):
    terms = env.reward_terms(_facts(1.0, 0.07), jnp.array([0.025, 0.0, 0.0, 0.0, 1.0]))
    # Half of the way from 0.02 to 0.12: lift 0.5. One of four elements at its bound: 1/4.
    expected = {"reach": 1.0, "grasp": 1.0, "lift": 0.5, "action": 0.25}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, atol=1e-6)
    # Not grasped at 1 cm: 1 - tanh(0.05) = 0.95004, and height earns nothing.
    free = env.reward_terms(_facts(0.0, 0.12), jnp.zeros(5))
    np.testing.assert_allclose(free["reach"], 0.95004, atol=1e-5)
    np.testing.assert_allclose(free["lift"], 0.0)


def test_goal_needs_a_grasp_and_five_centimetres(env):
    assert env.goal(_facts(1.0, 0.0705))
    assert not env.goal(_facts(1.0, 0.0695))
    assert not env.goal(_facts(0.0, 0.2))


def test_a_thrown_cube_is_no_success(env):
    """A cube high in the air beside the gripper, at any time, counts for nothing."""
    state = env.reset(jax.random.key(0))
    step = jax.jit(env.step)
    for _ in range(8):
        inner = state.pipeline_state
        thrown = inner.qpos.at[9:12].set(jnp.array([0.5, 0.0, 0.5]))
        state = state.replace(pipeline_state=inner.replace(qpos=thrown))
        state = step(state, jnp.array([0.0, 0.0, 0.0, 0.0, 0.0]))
    assert state.metrics["success"] == 0.0


def test_success_comes_after_five_held_steps_and_goes_when_dropped(env):
    state = env.reset(jax.random.key(1))
    step, expert = jax.jit(env.step), jax.jit(env.expert)
    goals, successes = [], []
    for t in range(45):
        action = expert(state.obs["privileged"])
        state = step(state, action if t < 35 else action.at[4].set(1.0))
        goals.append(bool(env.goal(env.facts(state.pipeline_state))))
        successes.append(bool(state.metrics["success"]))
    first = goals.index(True)
    assert successes.index(True) == first + 4
    assert all(successes[first + 4 : 35])
    assert not successes[-1]

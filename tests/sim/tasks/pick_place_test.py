import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim


@pytest.fixture(scope="module")
def env():
    return sim.make("pick_place")


def _facts(env, xy, height, touch=0.0):
    """Facts with the bin at (0.5, 0.16) and the object at `xy` and `height`."""
    state = env.reset(jax.random.key(0)).pipeline_state
    place = jnp.array([*xy, height])
    state = state.replace(
        qpos=state.qpos.at[9:12].set(place),
        mocap_pos=jnp.array([[0.5, 0.16, 0.0]]),
        sensors=state.sensors.at[:2].set(touch),
    )
    return env.facts(state)


def test_goal_is_an_object_at_rest_in_the_bin_and_out_of_the_gripper(env):
    assert env.goal(_facts(env, (0.5, 0.16), 0.02))
    assert env.goal(_facts(env, (0.55, 0.11), 0.02))  # 5 cm off: inside 6.2 cm
    assert not env.goal(_facts(env, (0.565, 0.16), 0.02))  # on the wall
    assert not env.goal(_facts(env, (0.5, 0.16), 0.06))  # in the air
    assert not env.goal(_facts(env, (0.5, 0.16), 0.02, touch=1.0))  # still held
    moving = _facts(env, (0.5, 0.16), 0.02) | {"object_velocity": jnp.array([0.1, 0.0, 0.0])}
    assert not env.goal(moving)


def test_walls_keep_the_object_in(env):
    """An object that slides at 0.3 m/s from the bin's middle stays in it, on either side."""
    start = env.reset(jax.random.key(0)).pipeline_state
    step = jax.jit(env.physics.step)
    ctrl = jnp.array([*env.arm.home, 0.04, 0.04])
    for velocity in ([0.3, 0.0], [-0.3, 0.0], [0.0, 0.3], [0.0, -0.3]):
        state = start.replace(
            qpos=start.qpos.at[9:16].set(jnp.array([0.5, 0.16, 0.02, 1.0, 0.0, 0.0, 0.0])),
            qvel=start.qvel.at[9:11].set(jnp.array(velocity)),
            mocap_pos=jnp.array([[0.5, 0.16, 0.0]]),
        )
        for _ in range(10):
            state = step(state, ctrl)
        assert np.abs(state.qpos[9:11] - np.array([0.5, 0.16])).max() < 0.062


def test_reward_counts_what_is_placed_as_held(env):
    held = {"grasped": jnp.zeros(1), "placed": jnp.ones(1), "to_object": jnp.ones(3)}
    terms = env.reward_terms(held | {"to_bin": jnp.zeros(3)}, jnp.zeros(5))
    expected = {"reach": 1.0, "grasp": 1.0, "carry": 1.0, "placed": 1.0, "action": 0.0}
    assert {k: float(v) for k, v in terms.items()} == expected

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.sim.tasks import grasping


def test_grasp_needs_both_pads_nearness_and_width():
    both, near, wide = jnp.ones(2), jnp.array([0.0, 0.0, 0.02]), jnp.array([0.04])
    assert grasping.is_grasped(both, near, wide)
    assert not grasping.is_grasped(jnp.array([1.0, 0.0]), near, wide)
    assert not grasping.is_grasped(both, jnp.array([0.0, 0.02, 0.02]), wide)  # 0.0283 > 0.025
    assert not grasping.is_grasped(both, near, jnp.array([0.005]))


def _facts(yaw, folds, tool_yaw=0.0):
    robot = {
        "tool": jnp.zeros(3),
        "tool_direction": jnp.array([np.sin(tool_yaw), np.cos(tool_yaw)]),
        "touch": jnp.zeros(2),
        "width": jnp.array([0.08]),
    }
    quat = jnp.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])
    return grasping.object_facts(robot, jnp.ones(3), quat, jnp.zeros(3), jnp.float32(folds))


def test_turn_is_to_the_nearest_way_to_grasp():
    # A cube (4 folds) at 0.2 + pi/2 is grasped as well at 0.2; relative to a tool at 0.5
    # that is -0.3. Something long (2 folds) at 2.0 is grasped at 2.0 - pi = -1.1416.
    for yaw in (0.2, 0.2 + np.pi / 2):
        np.testing.assert_allclose(_facts(yaw, 4, 0.5)["turn"], [-0.3], atol=1e-5)
    np.testing.assert_allclose(_facts(2.0, 2)["turn"], [2.0 - np.pi], atol=1e-5)
    # Anything round needs no turn.
    np.testing.assert_allclose(_facts(2.0, 0)["turn"], [0.0])


def test_yaw_fact_is_sine_and_cosine_of_the_folded_angle():
    np.testing.assert_allclose(_facts(0.2, 4)["object_yaw"], [np.sin(0.8), np.cos(0.8)], atol=1e-5)


def test_yaw_of_resting_pose():
    pose = grasping.resting(jnp.array([0.4, 0.1]), jnp.float32(0.7), 0.02)
    np.testing.assert_allclose(pose[:3], [0.4, 0.1, 0.02])
    np.testing.assert_allclose(grasping.yaw_of(pose[3:]), 0.7, atol=1e-6)


def test_places_fill_the_box_and_the_circle():
    keys = jax.random.split(jax.random.key(0), 500)
    poses = jax.jit(jax.vmap(lambda k: grasping.place(k, (0.4, -0.1), (0.6, 0.1), 0.03)))(keys)
    np.testing.assert_allclose(poses[:, :3].min(0), [0.4, -0.1, 0.03], atol=3e-3)
    np.testing.assert_allclose(poses[:, :3].max(0), [0.6, 0.1, 0.03], atol=3e-3)
    yaw = jax.vmap(grasping.yaw_of)(poses[:, 3:])
    assert yaw.min() < -3.0
    assert yaw.max() > 3.0

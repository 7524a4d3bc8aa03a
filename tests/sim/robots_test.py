import math

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxpolicy.sim import robots, scene
from jaxpolicy.specs import InputError

PANDA = robots.PANDA


@pytest.fixture(scope="module")
def model():
    return scene.build(PANDA).model


@pytest.fixture(scope="module")
def joints():
    rng = np.random.default_rng(0)
    return rng.uniform(PANDA.lower, PANDA.upper, (20, 7)).astype(np.float32)


def _mujoco_pose(model, q):
    data = mujoco.MjData(model)
    data.qpos[:7] = q
    mujoco.mj_forward(model, data)
    return data


def test_forward_kinematics_agree_with_mujoco(model, joints):
    positions, rotations = jax.jit(jax.vmap(lambda q: robots.forward(PANDA, q)))(joints)
    for q, position, rotation in zip(joints, positions, rotations, strict=True):
        site = _mujoco_pose(model, q).site("tool")
        np.testing.assert_allclose(position, site.xpos, atol=2e-6)
        np.testing.assert_allclose(rotation, site.xmat.reshape(3, 3), atol=4e-6)


def test_jacobian_agrees_with_mujoco(model, joints):
    for q in joints[:5]:
        data = _mujoco_pose(model, q)
        linear, angular = np.zeros((2, 3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, model.site("tool").id)
        expected = np.concatenate([linear, angular])[:, :7]
        np.testing.assert_allclose(robots.jacobian(PANDA, q), expected, atol=4e-6)


def test_stretched_arm_reaches_the_sum_of_its_lengths():
    # All joints at 0: up 0.333 + 0.316 + 0.384, then the last joint, 0.088 ahead, turns
    # the hand down by 0.107 + 0.1034:
    # z = 1.033 - 0.2104 = 0.8226, x = 0.0825 - 0.0825 + 0.088 = 0.088.
    position, rotation = robots.forward(PANDA, jnp.zeros(7))
    np.testing.assert_allclose(position, [0.088, 0.0, 0.8226], atol=1e-6)
    np.testing.assert_allclose(rotation[:, 2], [0.0, 0.0, -1.0], atol=1e-6)


def test_home_points_down_above_the_middle_of_the_table():
    position, rotation = robots.forward(PANDA, jnp.array(PANDA.home))
    np.testing.assert_allclose(position, [0.5, 0.0, 0.22], atol=1e-5)
    np.testing.assert_allclose(rotation, np.diag([1.0, -1.0, -1.0]), atol=1e-5)


def test_inverse_kinematics_reach_poses_over_the_table():
    rng = np.random.default_rng(1)
    places = rng.uniform([0.35, -0.2, 0.02], [0.65, 0.2, 0.35], (50, 3)).astype(np.float32)
    yaws = rng.uniform(-1.2, 1.2, 50).astype(np.float32)

    def reach(place, yaw):
        down = robots.down_rotation(yaw)
        q = robots.inverse(PANDA, jnp.array(PANDA.home), place, down, iterations=20)
        return robots.forward(PANDA, q)

    positions, rotations = jax.jit(jax.vmap(reach))(places, yaws)
    np.testing.assert_allclose(positions, places, atol=1e-4)
    np.testing.assert_allclose(jax.vmap(robots.yaw_of)(rotations), yaws, atol=1e-3)
    np.testing.assert_allclose(rotations[:, 2, 2], -1.0, atol=1e-5)


def test_inverse_kinematics_stay_within_the_limits():
    far = jnp.array([2.0, 2.0, 2.0])
    down = robots.down_rotation(jnp.zeros(()))
    q = robots.inverse(PANDA, jnp.array(PANDA.home), far, down, iterations=30)
    assert np.all(q >= PANDA.lower)
    assert np.all(q <= PANDA.upper)


def test_rotation_error_is_the_axis_times_the_sine_of_the_angle():
    # From yaw 0 to yaw 0.1 about z the error is (0, 0, 1/2 (2 sin 0.1)) = (0, 0, sin 0.1).
    c, s = math.cos(0.1), math.sin(0.1)
    target = jnp.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    error = robots.rotation_error(target, jnp.eye(3))
    np.testing.assert_allclose(error, [0.0, 0.0, s], atol=1e-7)


def test_down_rotation_and_yaw_are_inverse():
    yaw = jnp.array(0.7)
    rotation = robots.down_rotation(yaw)
    np.testing.assert_allclose(robots.yaw_of(rotation), 0.7, atol=1e-6)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-6)


def test_masses_and_limits_are_the_published_ones(model):
    # 0.629769 + 4.970684 + 0.646926 + 3.228604 + 3.587895 + 1.225946 + 1.666555
    # + 0.735522 = 16.691901 for the arm; + 0.73 hand + 2 * 0.015 fingers = 17.451901.
    assert sum(link.mass for link in PANDA.links) == pytest.approx(16.691901)
    arm = [i for i in range(model.nbody) if model.body(i).name != "world"]
    assert model.body_mass[arm].sum() == pytest.approx(17.451901)
    np.testing.assert_allclose(model.jnt_range[:7, 0], PANDA.lower, atol=1e-6)
    np.testing.assert_allclose(model.actuator_forcerange[:7, 1], [87.0] * 4 + [12.0] * 3)


def test_inertias_survive_compilation(model):
    # MuJoCo stores principal moments; their sum is the trace of the published tensor.
    for i, link in enumerate(PANDA.links):
        principal = model.body(f"link{i}").inertia
        assert principal.sum() == pytest.approx(sum(link.inertia[:3]), rel=1e-5)


def test_gripper_closes_at_the_tool(model):
    # Pads have radius 8 mm and their surfaces meet between the fingers: centres 16 mm apart.
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    left, right = data.geom("left_pad").xpos, data.geom("right_pad").xpos
    assert np.linalg.norm(left - right) == pytest.approx(0.016)
    np.testing.assert_allclose((left + right) / 2, data.site("tool").xpos, atol=1e-9)


def test_unknown_robot_is_named():
    with pytest.raises(InputError, match="unknown robot 'pand'; known robots: panda"):
        robots.get("pand")

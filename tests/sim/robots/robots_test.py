import math

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import robots
from jaxpolicy.sim.physics import scene

PANDA, UR5E = robots.PANDA, robots.UR5E
LEGS = 20


@pytest.fixture(scope="module", params=list(robots.ROBOTS))
def robot(request):
    return robots.get(request.param)


@pytest.fixture(scope="module")
def model(robot):
    return scene.build(robot).model


@pytest.fixture(scope="module")
def joints(robot):
    rng = np.random.default_rng(0)
    return rng.uniform(robot.lower, robot.upper, (20, robot.n_joints)).astype(np.float32)


def _mujoco_pose(robot, model, q):
    data = mujoco.MjData(model)
    data.qpos[: robot.n_joints] = q
    mujoco.mj_forward(model, data)
    return data


def _at_rest(robot, model):
    data = mujoco.MjData(model)
    data.qpos[:] = data.ctrl[:] = [*robot.home, robot.finger_travel, robot.finger_travel]
    return data


def test_forward_kinematics_agree_with_mujoco(robot, model, joints):
    positions, rotations = jax.jit(jax.vmap(lambda q: robots.forward(robot, q)))(joints)
    for q, position, rotation in zip(joints, positions, rotations, strict=True):
        site = _mujoco_pose(robot, model, q).site("tool")
        np.testing.assert_allclose(position, site.xpos, atol=4e-6)
        np.testing.assert_allclose(rotation, site.xmat.reshape(3, 3), atol=4e-6)


def test_jacobian_agrees_with_mujoco(robot, model, joints):
    for q in joints[:5]:
        data = _mujoco_pose(robot, model, q)
        linear, angular = np.zeros((2, 3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, model.site("tool").id)
        expected = np.concatenate([linear, angular])[:, : robot.n_joints]
        np.testing.assert_allclose(robots.jacobian(robot, q), expected, atol=4e-6)


def test_stretched_arm_reaches_the_sum_of_its_lengths():
    # All joints at 0: up 0.333 + 0.316 + 0.384, then the last joint, 0.088 ahead, turns
    # the hand down by 0.107 + 0.1034:
    # z = 1.033 - 0.2104 = 0.8226, x = 0.0825 - 0.0825 + 0.088 = 0.088.
    position, rotation = robots.forward(PANDA, jnp.zeros(7))
    np.testing.assert_allclose(position, [0.088, 0.0, 0.8226], atol=1e-6)
    np.testing.assert_allclose(rotation[:, 2], [0.0, 0.0, -1.0], atol=1e-6)


def test_ur5e_at_zero_lies_along_minus_x():
    # UR's table with all joints at 0: x = -0.425 - 0.3922 = -0.8172; the wrist's axes fold
    # y = -(0.1333 + 0.0996) = -0.2329 and z = 0.1625 - 0.0997 = 0.0628; the tool is a
    # further 0.1034 along the flange's axis, -y: y = -0.3363.
    position, rotation = robots.forward(UR5E, jnp.zeros(6))
    np.testing.assert_allclose(position, [-0.8172, -0.3363, 0.0628], atol=1e-6)
    np.testing.assert_allclose(rotation[:, 2], [0.0, -1.0, 0.0], atol=1e-6)


def test_home_points_down_above_the_middle_of_the_table(robot):
    position, rotation = robots.forward(robot, jnp.array(robot.home))
    np.testing.assert_allclose(position, [0.5, 0.0, 0.22], atol=2e-6)
    np.testing.assert_allclose(rotation, np.diag([1.0, -1.0, -1.0]), atol=2e-6)


def test_home_stands_still(robot, model):
    data = _at_rest(robot, model)
    before = data.qpos.copy()
    mujoco.mj_step(model, data, 200)
    np.testing.assert_allclose(data.qpos, before, atol=1e-4)


def test_joints_follow_a_step_within_two_actions(robot, model):
    """0.1 rad: four fifths after 0.1 s (two actions at 20 Hz), all after 0.25 s, no overshoot."""
    for joint in range(robot.n_joints):
        data = _at_rest(robot, model)
        data.ctrl[joint] += 0.1
        moved = []
        for _ in range(100):
            mujoco.mj_step(model, data)
            moved.append((data.qpos[joint] - robot.home[joint]) / 0.1)
        assert moved[19] > 0.8
        assert moved[49] > 0.97
        assert max(moved) < 1.02


def test_hull_meets_obstacles_only_and_its_sensors_report_it(robot):
    """A post that reaches into the palm: the palm's sensor feels it, the pads' do not."""
    post = '<geom class="obstacle" type="box" size="0.02 0.02 0.02" pos="0.547 0 0.29"/>'
    text = scene.to_xml(robot, ()).replace("<worldbody>", "<worldbody>" + post)
    model = mujoco.MjModel.from_xml_string(text)
    data = _at_rest(robot, model)
    for _ in range(20):
        mujoco.mj_step(model, data)
    assert "palm_hull" in {model.geom(g).name for pair in data.contact.geom for g in pair}
    left, right, palm, left_hull, right_hull = data.sensordata
    assert palm > 0.5
    assert (left, right, left_hull, right_hull) == (0, 0, 0, 0)


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


def _path(rng, steps):
    """A polyline from home through the working box in steps of one action, [T, 4]."""
    lower, upper = np.array([0.3, -0.25, 0.012, -1.6]), np.array([0.68, 0.25, 0.4, 1.6])
    corner = rng.integers(0, 2, (LEGS, 4))
    share = np.where(rng.random((LEGS, 1)) < 0.6, corner, rng.random((LEGS, 4)))
    points = np.vstack([[0.5, 0.0, 0.22, 0.0], lower + share * (upper - lower)])
    pieces = []
    for a, b in zip(points[:-1], points[1:], strict=True):
        n = int(np.ceil(np.max(np.abs(b - a) / [0.025, 0.025, 0.025, 0.12])))
        pieces.append(a + (b - a) * np.linspace(0, 1, n + 1)[1:, None])
    return np.vstack(pieces)[:steps]


def test_ur5e_tracks_paths_through_the_whole_working_box():
    """Corners included: within 1e-3 m, without jumps, far from limits and singularities."""
    rng = np.random.default_rng(0)
    paths = jnp.array(np.stack([_path(rng, 100) for _ in range(64)]), jnp.float32)

    def step(q, target):
        down = robots.down_rotation(target[3])
        new = robots.inverse(UR5E, q, target[:3], down, iterations=2)
        position, rotation = robots.forward(UR5E, new)
        turn = robots.rotation_error(down, rotation)
        return new, (new, jnp.abs(position - target[:3]), jnp.abs(turn), jnp.abs(new - q))

    walk = jax.jit(jax.vmap(lambda p: jax.lax.scan(step, jnp.array(UR5E.home), p)[1]))
    joints, off, turn, moved = map(np.asarray, walk(paths))
    assert off.max() < 1e-3
    assert turn.max() < 1e-3
    assert moved.max() < 0.25
    assert np.min(joints - UR5E.lower) > 0.4
    assert np.min(UR5E.upper - joints) > 0.4
    # sin of elbow and wrist 2: at 0 the arm is stretched or folded, or two axes line up.
    assert np.min(np.abs(np.sin(joints[..., [2, 4]]))) > 0.15


def test_masses_and_limits_are_the_published_ones():
    # Panda: 0.629769 + 4.970684 + 0.646926 + 3.228604 + 3.587895 + 1.225946 + 1.666555
    # + 0.735522 = 16.691901. UR5e: 4 + 3.761 + 8.058 + 2.846 + 1.37 + 1.3 + 0.365 = 21.7.
    # With 0.73 hand + 2 * 0.015 fingers: + 0.76.
    torques = {"panda": [87.0] * 4 + [12.0] * 3, "ur5e": [150.0] * 3 + [28.0] * 3}
    for name, mass in {"panda": 16.691901, "ur5e": 21.7}.items():
        robot = robots.get(name)
        model, n = scene.build(robot).model, robot.n_joints
        assert sum(link.mass for link in robot.links) == pytest.approx(mass)
        assert model.body_subtreemass[model.body("link0").id] == pytest.approx(mass + 0.76)
        np.testing.assert_allclose(model.jnt_range[:n, 0], robot.lower, atol=1e-6)
        np.testing.assert_allclose(model.actuator_forcerange[:n, 1], torques[name])


def test_inertias_survive_compilation(robot, model):
    # MuJoCo stores principal moments; their sum is the trace of the published tensor.
    for i, link in enumerate(robot.links):
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
    with pytest.raises(InputError, match="unknown robot 'pand'; known robots: panda, ur5e"):
        robots.get("pand")

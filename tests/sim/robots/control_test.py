import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.sim import robots
from jaxpolicy.sim.robots import control

PANDA, LIMITS = robots.PANDA, control.Limits()
HOME = jnp.array(PANDA.home)


def _spec(kind="cartesian_delta"):
    return control.action_spec(kind, PANDA, LIMITS, 20.0)


def _targets():
    return control.initial_targets(PANDA, jnp.array([*PANDA.home, 0.04, 0.04]))


def _update(action, kind="cartesian_delta", targets=None, joints=HOME):
    targets = targets or _targets()
    return control.update(_spec(kind), PANDA, LIMITS, targets, joints, jnp.array(action))


def test_initial_targets_hold_still():
    targets = _targets()
    np.testing.assert_allclose(targets["pose"], [0.5, 0.0, 0.22, 0.0], atol=1e-5)
    expected = [*PANDA.home, 0.04, 0.04]
    np.testing.assert_allclose(control.controls(PANDA, targets), expected, atol=1e-6)


def test_cartesian_delta_moves_the_tools_target():
    targets = _update([0.01, -0.02, 0.005, 0.05, 0.5])
    np.testing.assert_allclose(targets["pose"], [0.51, -0.02, 0.225, 0.05], atol=1e-5)
    position, rotation = robots.forward(PANDA, targets["joints"])
    np.testing.assert_allclose(position, [0.51, -0.02, 0.225], atol=5e-4)
    np.testing.assert_allclose(robots.yaw_of(rotation), 0.05, atol=2e-3)
    # Half open: each finger at 0.5 * 0.04 = 0.02.
    np.testing.assert_allclose(control.controls(PANDA, targets)[7:], [0.02, 0.02])


def test_target_never_runs_far_ahead_of_a_blocked_arm():
    # Ten steps of 0.02 would be 0.2; the lead is 0.03, so x stays at 0.53.
    targets = _targets()
    for _ in range(10):
        targets = _update([0.02, 0.0, 0.0, 0.0, 1.0], targets=targets)
    np.testing.assert_allclose(targets["pose"][0], 0.53, atol=1e-5)


def test_target_stays_inside_the_box():
    # From a tool at z = 0.02, down by 0.025 would be -0.005; the floor is at 0.012.
    place, down = jnp.array([0.5, 0.0, 0.02]), robots.down_rotation(jnp.zeros(()))
    low = robots.inverse(PANDA, HOME, place, down, iterations=20)
    targets = _targets() | {"joints": low, "pose": jnp.array([0.5, 0.0, 0.02, 0.0])}
    targets = _update([0.0, 0.0, -0.025, 0.0, 1.0], targets=targets, joints=low)
    np.testing.assert_allclose(targets["pose"][2], LIMITS.lower[2], atol=1e-6)


def test_joint_delta_adds_to_the_target_and_joint_position_replaces_it():
    delta = np.array([0.05, 0, 0, 0, 0, 0, -0.05, 1.0], np.float32)
    moved = _update(delta, "joint_delta")["joints"]
    np.testing.assert_allclose(moved, np.array(PANDA.home) + delta[:7], atol=1e-6)
    wanted = np.append(np.array(PANDA.home) + delta[:7], 1.0).astype(np.float32)
    np.testing.assert_allclose(_update(wanted, "joint_position")["joints"], moved, atol=1e-6)


def test_joints_turn_no_faster_than_they_can():
    # 2.175 rad/s at 20 Hz: at most 0.10875 rad a step for joint 1.
    wanted = np.append(np.array(PANDA.home) + [1.0, 0, 0, 0, 0, 0, 0], 1.0).astype(np.float32)
    moved = _update(wanted, "joint_position")["joints"]
    np.testing.assert_allclose(moved[0], 0.10875, atol=1e-6)


@pytest.mark.parametrize("kind", ["joint_position", "joint_delta"])
def test_encoded_actions_do_what_the_cartesian_one_asks(kind):
    cartesian = jnp.array([0.01, 0.01, -0.01, 0.03, 0.0])
    action = control.encode(_spec(kind), PANDA, HOME, cartesian)
    position, rotation = robots.forward(PANDA, _update(action, kind)["joints"])
    np.testing.assert_allclose(position, [0.51, 0.01, 0.21], atol=1e-4)
    np.testing.assert_allclose(robots.yaw_of(rotation), 0.03, atol=1e-3)


def test_specs_name_every_element():
    assert _spec().names == ("dx", "dy", "dz", "dyaw", "gripper")
    assert _spec().units == ("m", "m", "m", "rad", "1")
    assert _spec("joint_position").size == 8
    assert _spec("joint_delta").minimum == (-0.1,) * 7 + (0.0,)


def test_limits_are_speeds():
    # 0.5 m/s and 2.4 rad/s: 5 cm and 0.24 rad at 10 Hz, 1 cm and 0.048 rad at 50 Hz.
    slow, fast = control.Limits.at(10.0), control.Limits.at(50.0)
    np.testing.assert_allclose([slow.step, slow.yaw_step], [0.05, 0.24])
    np.testing.assert_allclose([fast.step, fast.yaw_step], [0.01, 0.048])
    assert control.Limits.at(20.0) == control.Limits()
    # The lead covers more than a step, and never less than at 20 Hz.
    assert (slow.lead, fast.lead) == (0.06, 0.03)
    assert control.Limits.at(20.0, upper=(0.6, 0.2, 0.1)).upper == (0.6, 0.2, 0.1)

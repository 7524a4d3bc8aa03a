"""Actions that reach the robot are finite and within its limits."""

import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.deploy.safety import ActionGuard, hold_action
from tests.deploy.handmade import action_spec

NAN = np.nan


def rows(*values):
    return np.array(values, np.float32)


def test_limits():
    guard = ActionGuard(action_spec())
    # Limits: dx in [-1, 1], gripper in [0, 2].
    np.testing.assert_array_equal(guard(rows((-3, 5), (0.5, 1))), [[-1, 2], [0.5, 1]])
    assert (guard.clipped, guard.held) == (1, 0)


def test_nan_of_a_delta_policy_stops_the_motion_and_keeps_the_gripper():
    guard = ActionGuard(action_spec("cartesian_delta"))
    guard(rows((0.3, 1.5), (0.4, 0.5)))
    np.testing.assert_array_equal(guard(rows((NAN, 2), (0.1, 0.2))), rows((0, 1.5), (0.1, 0.2)))
    assert (guard.clipped, guard.held) == (0, 1)


def test_nan_of_a_position_policy_repeats_the_last_position():
    guard = ActionGuard(action_spec("joint_position"))
    guard(rows((0.3, 1.5)))
    np.testing.assert_array_equal(guard(rows((0.1, np.inf))), rows((0.3, 1.5)))


def test_holding_still_respects_limits_that_exclude_zero():
    spec = action_spec()
    spec = type(spec)(spec.kind, spec.names, spec.units, (0.2, 0.0), (1.0, 2.0), 20.0)
    np.testing.assert_allclose(hold_action(spec, rows(0.9, 1.1)), [0.2, 1.1])


def test_nothing_to_hold_at_the_first_step():
    with pytest.raises(InputError, match="nothing safe to hold"):
        ActionGuard(action_spec())(rows((NAN, 0)))


def test_a_reset_forgets_what_could_be_held():
    guard = ActionGuard(action_spec())
    guard(rows((0.3, 1.5)))
    guard.reset()
    with pytest.raises(InputError, match="nothing safe to hold"):
        guard(rows((NAN, 0)))


def test_gives_up_after_too_many_in_a_row():
    guard = ActionGuard(action_spec(), max_held=3)
    guard(rows((0, 0), (0, 0)))
    for _ in range(2):
        guard(rows((NAN, 0), (0, 0)))
    guard(rows((0, 0), (NAN, 0)))
    guard(rows((0, 0), (NAN, 0)))
    with pytest.raises(InputError, match="NaN or infinite actions 3 times"):
        guard(rows((0, 0), (NAN, 0)))
    # Two of the first environment, two of the second before the last.
    assert guard.held == 5

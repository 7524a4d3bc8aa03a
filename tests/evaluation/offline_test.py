"""Baselines and errors against values worked by hand."""

import numpy as np
import pytest

from jaxpolicy.core.specs import ActionSpec, InputError
from jaxpolicy.evaluation import offline

SPEC = ActionSpec(
    kind="unknown",
    names=("x", "grip"),
    units=("m", "1"),
    minimum=(-1.0, 0.0),
    maximum=(1.0, 1.0),
    control_hz=5.0,
)


def test_hold_previous_skips_first_steps():
    actions = np.arange(10.0).reshape(5, 2)
    prediction, valid = offline.hold_previous(actions, np.array([0, 3]))
    np.testing.assert_array_equal(valid, [False, True, True, False, True])
    np.testing.assert_array_equal(prediction[1], actions[0])
    np.testing.assert_array_equal(prediction[4], actions[3])


def test_action_errors_by_hand():
    prediction = np.array([[0.0, 1.0], [2.0, 1.0]])
    target = np.array([[1.0, 1.0], [0.0, 0.0]])
    # scaled by std (2, 1): rows (-.5, 0), (1, 1) -> squares .25, 0, 1, 1 -> mean .5625
    errors = offline.action_errors(prediction, target, SPEC, np.array([2.0, 1.0]))
    assert errors.mse == pytest.approx(0.5625)
    # |x| errors 1, 2 -> 1.5 m; |grip| errors 0, 1 -> .5
    assert errors.mae == pytest.approx({"m": 1.5, "1": 0.5})
    assert errors.n_steps == 2
    assert errors.elements == pytest.approx({"x": 1.5, "grip": 0.5})
    assert errors.units == {"x": "m", "grip": "1"}


def test_a_repeated_number_is_constant_whatever_its_rounding():
    # 0.7 in float32, a thousand times: rounding of the mean in float32 gives it 7e-6.
    actions = np.stack([np.full(1000, 0.7), np.linspace(0, 1, 1000) * 1e-3], 1).astype(np.float32)
    std = offline.spread(actions)
    assert std[0] == 0.0
    assert std[1] == pytest.approx(1e-3 / np.sqrt(12), rel=1e-2)


def test_constant_elements_do_not_count():
    prediction, target = np.array([[1.0, 5.0]]), np.array([[0.0, 0.0]])
    errors = offline.action_errors(prediction, target, SPEC, np.array([1.0, 0.0]))
    assert errors.mse == pytest.approx(1.0)


def test_compare_uses_mean_for_squares_and_median_for_magnitudes():
    train = np.array([[0.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    target = np.array([[0.0, 0.0], [1.0, 1.0], [3.0, 1.0]])
    rows = offline.compare(target.copy(), target, np.array([0]), train, SPEC)
    assert rows["policy"].mse == 0.0
    # Steps 1 and 2 count. Train mean (1, 2/3), std (sqrt 2, sqrt(2/9)):
    # x: (0, 2)/sqrt2 -> 0, 2; grip: (1/3, 1/3)/sqrt(2/9) -> .5, .5 -> mean 3/4.
    assert rows["best constant action"].mse == pytest.approx(0.75)
    # Train median (0, 1): |x| = 1, 3 -> 2 m; |grip| = 0.
    assert rows["best constant action"].mae == pytest.approx({"m": 2.0, "1": 0.0})
    # Held: x 0->1, 1->3: errors 1, 2 -> 1.5 m; grip 0->1, 1->1 -> .5.
    assert rows["hold previous action"].mae == pytest.approx({"m": 1.5, "1": 0.5})


def test_compare_needs_a_second_step():
    one = np.zeros((1, 2))
    with pytest.raises(InputError, match="two steps"):
        offline.compare(one, one, np.array([0]), one, SPEC)

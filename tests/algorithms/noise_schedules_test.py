"""Schedules and conversions against values worked by hand."""

import numpy as np
import pytest

from jaxpolicy.algorithms import noise_schedules
from jaxpolicy.algorithms.noise_schedules import NoiseSchedule
from jaxpolicy.core.specs import InputError


def test_linear():
    schedule = noise_schedules.linear(1000)
    # alpha_0^2 = 1 - 1e-4. Ho et al. end at nearly nothing: the sum of betas is
    # 1000 * (1e-4 + 0.02) / 2 = 10.05, plus second-order terms, sum(beta^2) / 2 =
    # 1000 * 0.02^2 / 6 = 0.067 (about), so alpha^2 = exp(-10.12) = 4.0e-5.
    assert schedule.signal[0] ** 2 == pytest.approx(0.9999)
    assert schedule.signal[-1] ** 2 == pytest.approx(4.0e-5, rel=0.02)
    # The second beta is 1e-4 + (0.02 - 1e-4) / 999.
    second = (1 - 1e-4) * (1 - 1e-4 - 0.0199 / 999)
    assert schedule.signal[1] ** 2 == pytest.approx(second)


def test_linear_is_scaled_to_the_number_of_steps():
    # 100 steps: betas 1e-3 ... 0.2.
    schedule = noise_schedules.linear(100)
    assert schedule.signal[0] ** 2 == pytest.approx(1 - 1e-3)
    assert schedule.signal[-1] / schedule.signal[-2] == pytest.approx(np.sqrt(0.8))
    # 10 steps would ask for beta = 2: capped.
    assert noise_schedules.linear(10).signal[-1] > 0.0


def test_cosine():
    # Two steps, f(t) = cos^2((t + .008) / 1.008 * pi / 2):
    # f(0) = cos^2(.012467) = .999845, f(.5) = cos^2(.791631) = .493767, f(1) = 0.
    # alpha_0^2 = f(.5) / f(0) = .493844; beta_1 = 1 is capped at .999.
    squared = noise_schedules.cosine(2).signal ** 2
    np.testing.assert_allclose(squared, [0.493844, 0.493844e-3], rtol=1e-4)


def test_flow():
    schedule = noise_schedules.flow(4)
    np.testing.assert_allclose(schedule.noise, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(schedule.signal, [0.75, 0.5, 0.25, 0.0])


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 7, 50, 1000])
def test_diffusion_preserves_variance_and_only_adds_noise(name, steps):
    signal, noise = noise_schedules.make_schedule(name, steps)
    assert signal.shape == noise.shape == (steps,)
    np.testing.assert_allclose(signal**2 + noise**2, 1.0)
    assert (np.diff(signal) < 0).all()
    assert signal[-1] < 0.1 or steps == 1


def test_log_snr():
    # log(.8 / .6) = .28768; log(0 / 1) = -inf.
    schedule = NoiseSchedule(np.array([0.8, 0.0]), np.array([0.6, 1.0]))
    np.testing.assert_allclose(noise_schedules.log_snr(schedule), [0.287682, -np.inf], rtol=1e-5)


def test_mix():
    x0, e = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, -1.0]])
    got = noise_schedules.mix(np.array([0.8, 0.0]), np.array([0.6, 1.0]), x0, e)
    # .8 * [1, 2] + .6 * [1, 0]; then noise alone.
    np.testing.assert_allclose(got, [[1.4, 1.6], [0.0, -1.0]])


# alpha .8, sigma .6, x0 = 2, e = -1: x = 1.6 - .6 = 1.
# epsilon: e = -1. sample: 2. v: .8 * -1 - .6 * 2 = -2. velocity: -1 - 2 = -3.
@pytest.mark.parametrize(
    ("prediction", "target"), [("epsilon", -1.0), ("sample", 2.0), ("v", -2.0), ("velocity", -3.0)]
)
def test_predictions(prediction, target):
    schedule = NoiseSchedule(np.array([0.8]), np.array([0.6]))
    p, q = noise_schedules.prediction_weights(prediction, schedule)
    assert p[0] * 2.0 + q[0] * -1.0 == pytest.approx(target)
    a, b = noise_schedules.clean_weights(prediction, schedule)
    assert a[0] * 1.0 + b[0] * target == pytest.approx(2.0)


def test_noise_alone_does_not_determine_the_sample():
    schedule = noise_schedules.flow(4)
    with pytest.raises(InputError, match="predict sample, v or velocity"):
        noise_schedules.clean_weights("epsilon", schedule)
    # All noise (x = e): velocity e - x0 gives x0 = x - y.
    a, b = noise_schedules.clean_weights("velocity", schedule)
    assert (a[-1], b[-1]) == pytest.approx((1.0, -1.0))


def test_wrong_values():
    with pytest.raises(InputError, match=r"one of \['cosine', 'flow', 'linear'\], got 'cosin'"):
        noise_schedules.make_schedule("cosin", 10)
    with pytest.raises(InputError, match="at least 1 step, got 0"):
        noise_schedules.make_schedule("cosine", 0)
    with pytest.raises(InputError, match="prediction must be one of"):
        noise_schedules.prediction_weights("noise", noise_schedules.flow(2))

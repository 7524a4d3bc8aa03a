"""Noise levels of diffusion and flow matching, and what a denoiser predicts.

A schedule is K pairs (alpha_k, sigma_k) that mix a clean sample x0 with standard normal
noise e:

    x_k = alpha_k x0 + sigma_k e,     k = 0 (nearly clean) ... K - 1 (nearly noise)

Diffusion keeps alpha^2 + sigma^2 = 1; flow matching goes straight from data to noise,
alpha + sigma = 1. A denoiser may predict any mixture y = p x0 + q e, see PREDICTIONS;
with x it determines both x0 and e, so training and sampling know nothing else about it.

Everything is NumPy: these are constants of a program, worked out in float64.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxpolicy.core.specs import InputError

__all__ = [
    "PREDICTIONS",
    "SCHEDULES",
    "NoiseSchedule",
    "clean_weights",
    "cosine",
    "flow",
    "linear",
    "log_snr",
    "make_schedule",
    "mix",
    "prediction_weights",
]

# Largest variance that one step adds, so that no step loses the signal altogether.
_MAX_BETA = 0.999


class NoiseSchedule(NamedTuple):
    """K noise levels, the cleanest first.

    Attributes:
      signal: float64 [K], alpha_k in [0, 1).
      noise: float64 [K], sigma_k in (0, 1].
    """

    signal: np.ndarray
    noise: np.ndarray


def linear(steps: int) -> NoiseSchedule:
    """Variances that grow linearly, beta = 1e-4 ... 0.02 at 1000 steps.

    Ho et al. 2020, https://arxiv.org/abs/2006.11239, section 4. With another number of
    steps they are scaled by 1000 / steps, so that the last level is noise as well.
    """
    scale = 1000.0 / steps
    return _from_betas(np.linspace(1e-4 * scale, 0.02 * scale, steps))


def cosine(steps: int) -> NoiseSchedule:
    """alpha^2 falls like a squared cosine; "squaredcos_cap_v2" elsewhere.

    Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672, eq. 17 with s = 0.008.
    """
    time = np.arange(steps + 1) / steps
    squared = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    return _from_betas(1.0 - squared[1:] / squared[:-1])


def flow(steps: int) -> NoiseSchedule:
    """The straight path sigma_k = (k + 1) / steps = 1 - alpha_k of flow matching.

    Lipman et al. 2022, https://arxiv.org/abs/2210.02747 (eq. 20-23 with sigma_min = 0),
    which is the rectified flow of Liu et al. 2022, https://arxiv.org/abs/2209.03003.
    """
    sigma = (np.arange(steps) + 1.0) / steps
    return NoiseSchedule(1.0 - sigma, sigma)


def _from_betas(betas: np.ndarray) -> NoiseSchedule:
    """alpha_k^2 = product of 1 - beta_i over i <= k."""
    squared = np.cumprod(1.0 - np.minimum(betas, _MAX_BETA))
    return NoiseSchedule(np.sqrt(squared), np.sqrt(1.0 - squared))


# name -> schedule of any number of steps.
SCHEDULES: dict[str, Callable[[int], NoiseSchedule]] = {
    "linear": linear,
    "cosine": cosine,
    "flow": flow,
}

# What a denoiser may predict.
PREDICTIONS = ("epsilon", "sample", "v", "velocity")


def make_schedule(name: str, steps: int) -> NoiseSchedule:
    """The schedule `name` with `steps` levels.

    Raises:
      InputError: unknown name, or fewer than one step.
    """
    if name not in SCHEDULES:
        raise InputError(f"schedule must be one of {sorted(SCHEDULES)}, got '{name}'")
    if steps < 1:
        raise InputError(f"a noise schedule needs at least 1 step, got {steps}")
    return SCHEDULES[name](steps)


def log_snr(schedule: NoiseSchedule) -> np.ndarray:
    """log(alpha_k / sigma_k) [K], half the logarithm of the signal-to-noise ratio."""
    with np.errstate(divide="ignore"):
        return np.log(schedule.signal) - np.log(schedule.noise)


def mix(signal: Any, noise: Any, x0: Any, e: Any) -> Any:
    """Mixes x = signal x0 + noise e, with both weights broadcast from the left.

    Args:
      signal: [B] weights of the clean sample.
      noise: [B] weights of the noise.
      x0: [B, ...].
      e: [B, ...].
    """
    shape = signal.shape + (1,) * (x0.ndim - signal.ndim)
    return signal.reshape(shape) * x0 + noise.reshape(shape) * e


def prediction_weights(prediction: str, schedule: NoiseSchedule) -> tuple[np.ndarray, np.ndarray]:
    """Weights p and q [K] of what is predicted, y = p x0 + q e.

    epsilon: the noise e. sample: the clean x0. v: alpha e - sigma x0 (Salimans and Ho
    2022, https://arxiv.org/abs/2202.00512, appendix D). velocity: e - x0, the direction
    of the straight path.

    Raises:
      InputError: unknown prediction.
    """
    if prediction not in PREDICTIONS:
        raise InputError(f"prediction must be one of {PREDICTIONS}, got '{prediction}'")
    ones, zeros = np.ones_like(schedule.signal), np.zeros_like(schedule.signal)
    if prediction == "epsilon":
        return zeros, ones
    if prediction == "sample":
        return ones, zeros
    if prediction == "v":
        return -schedule.noise, schedule.signal
    return -ones, ones


def clean_weights(prediction: str, schedule: NoiseSchedule) -> tuple[np.ndarray, np.ndarray]:
    """Weights a and b [K] that recover the clean sample, x0 = a x + b y.

    From x = alpha x0 + sigma e and y = p x0 + q e follows
    x0 = (q x - sigma y) / (q alpha - p sigma).

    Raises:
      InputError: unknown prediction, or one that does not determine x0 at some level
        (the noise, where x is nothing but noise).
    """
    p, q = prediction_weights(prediction, schedule)
    determinant = q * schedule.signal - p * schedule.noise
    if (np.abs(determinant) < 1e-8).any():
        raise InputError(
            f"prediction '{prediction}' does not determine the sample where all is noise; "
            "predict sample, v or velocity with the schedule 'flow'"
        )
    return q / determinant, -schedule.noise / determinant

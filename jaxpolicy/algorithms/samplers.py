"""From noise to actions: every sampler is one scan over a table of coefficients.

A step goes from noise level (alpha, sigma) to the next, cleaner one (alpha', sigma').
DDPM, DDIM, DPM-Solver++ and the Euler method of flow matching all do

    x0 = clip(a x + b y),     y = denoise(x, time)
    x <- c x + d x0 + f x0_before + g z

with z standard normal and numbers a ... g that depend on the step alone. They are worked
out here in NumPy, in float64, and travel as the scanned-over arrays of one `lax.scan`
(exporters cannot index an array inside a loop). Noise is an input, so that a sampler is
a function, and can be exported.

    sampler = samplers.make_sampler("ddim", schedule, "epsilon", steps=10)
    chunk = samplers.sample(sampler, denoise, noise, clip=1.0)     # noise [B, n, H, A]
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.algorithms import noise_schedules
from jaxpolicy.algorithms.noise_schedules import NoiseSchedule
from jaxpolicy.core.specs import InputError

__all__ = [
    "SAMPLERS",
    "Sampler",
    "Step",
    "ddim",
    "ddpm",
    "dpm_solver",
    "euler",
    "make_sampler",
    "mean",
    "n_noise",
    "sample",
    "stochastic",
    "timesteps",
]

Denoise = Callable[[jax.Array, jax.Array], jax.Array]


class Step(NamedTuple):
    """How x changes in one step; float [N] each.

    Attributes:
      x: c, weight of the current x.
      clean: d, weight of the predicted clean sample.
      before: f, weight of the clean sample predicted one step earlier.
      random: g, weight of fresh noise.
    """

    x: np.ndarray
    clean: np.ndarray
    before: np.ndarray
    random: np.ndarray


class Sampler(NamedTuple):
    """N steps of a sampler.

    Attributes:
      time: float32 [N], level k of the schedule at which the denoiser is asked.
      clean_x: float32 [N], a: weight of x in the clean sample.
      clean_y: float32 [N], b: weight of the denoiser's output in it.
      step: see Step, float32.
    """

    time: np.ndarray
    clean_x: np.ndarray
    clean_y: np.ndarray
    step: Step


def timesteps(levels: int, steps: int) -> np.ndarray:
    """Levels k [N] that a sampler visits, noisiest first: round(K - i K / N) - 1.

    This "trailing" spacing (Lin et al. 2023, https://arxiv.org/abs/2305.08891, table 2)
    begins at the noisiest level, which is what the initial noise is.
    """
    return np.round(levels - np.arange(steps) * levels / steps).astype(int) - 1


def ddim(now: NoiseSchedule, then: NoiseSchedule, eta: float = 0.0) -> Step:
    """Song et al. 2020, https://arxiv.org/abs/2010.02502, eq. 12 and 16.

    x' = alpha' x0 + sqrt(sigma'^2 - s^2) e + s z,  e = (x - alpha x0) / sigma,
    s = eta sigma' / sigma sqrt(sigma^2 - (alpha / alpha')^2 sigma'^2). The noise e is what
    remains of x beside the (clipped) x0. eta = 0 is deterministic.

    Args:
      now: levels [N] of x.
      then: levels [N] of the result.
      eta: 0 to 1, how much of the noise is replaced.
    """
    added = now.noise**2 - (now.signal / then.signal * then.noise) ** 2
    s = eta * then.noise / now.noise * np.sqrt(added)
    kept = np.sqrt(then.noise**2 - s**2) / now.noise
    return Step(kept, then.signal - kept * now.signal, np.zeros_like(s), s)


def ddpm(now: NoiseSchedule, then: NoiseSchedule) -> Step:
    """Ancestral sampling of Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. 6-7.

    With any number of steps; the variance is that of the posterior q(x' | x, x0). It is
    DDIM with eta = 1.
    """
    return ddim(now, then, eta=1.0)


def euler(now: NoiseSchedule, then: NoiseSchedule) -> Step:
    """Euler's method on the straight path of flow matching.

    x' = x + (sigma' - sigma) u with the velocity u = e - x0 = (x - x0) / sigma, which is
    DDIM's step where alpha = 1 - sigma. Lipman et al. 2022,
    https://arxiv.org/abs/2210.02747.
    """
    return ddim(now, then)


def dpm_solver(now: NoiseSchedule, then: NoiseSchedule) -> Step:
    """DPM-Solver++(2M), Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2.

    With l = log(alpha / sigma), h = l' - l and r = h_before / h:
    x' = sigma' / sigma x - alpha' (exp(-h) - 1) D,  D = x0 + (x0 - x0_before) / (2 r).
    The first step has no step before it, and the last one ends at sigma' = 0, where h is
    infinite: both are of first order, D = x0, which is DDIM's step.
    """
    h = noise_schedules.log_snr(then) - noise_schedules.log_snr(now)
    first = ddim(now, then)
    half = np.zeros_like(h)
    half[1:-1] = h[1:-1] / (2.0 * h[:-2])
    return first._replace(clean=first.clean * (1.0 + half), before=-first.clean * half)


# name -> coefficients of the steps between given levels.
SAMPLERS: dict[str, Callable[[NoiseSchedule, NoiseSchedule], Step]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "dpm_solver": dpm_solver,
    "euler": euler,
}


def make_sampler(name: str, schedule: NoiseSchedule, prediction: str, steps: int) -> Sampler:
    """The sampler `name` with `steps` steps over the levels of `schedule`.

    The last step ends at the clean sample itself (alpha' = 1, sigma' = 0).

    Args:
      name: key of SAMPLERS.
      schedule: K levels that the denoiser was trained at.
      prediction: what the denoiser predicts, one of noise_schedules.PREDICTIONS.
      steps: N, from 1 to K.

    Raises:
      InputError: a value is out of range, or the three do not go together.
    """
    levels = len(schedule.signal)
    if name not in SAMPLERS:
        raise InputError(f"sampler must be one of {sorted(SAMPLERS)}, got '{name}'")
    if not 1 <= steps <= levels:
        raise InputError(f"sample_steps must lie between 1 and train_steps ({levels}), got {steps}")
    if name == "euler" and not np.allclose(schedule.signal + schedule.noise, 1.0):
        raise InputError("sampler 'euler' needs the straight path: use the schedule 'flow'")
    return _tabulated(SAMPLERS[name], schedule, prediction, steps)


def stochastic(schedule: NoiseSchedule, prediction: str, steps: int, eta: float) -> Sampler:
    """DDIM that replaces a part of the noise: eta = 0 is "ddim", eta = 1 is "ddpm".

    Args:
      schedule: see make_sampler.
      prediction: see make_sampler.
      steps: see make_sampler.
      eta: see ddim.
    """
    return _tabulated(functools.partial(ddim, eta=eta), schedule, prediction, steps)


def _tabulated(
    rule: Callable[[NoiseSchedule, NoiseSchedule], Step],
    schedule: NoiseSchedule,
    prediction: str,
    steps: int,
) -> Sampler:
    index = timesteps(len(schedule.signal), steps)
    now = NoiseSchedule(schedule.signal[index], schedule.noise[index])
    then = NoiseSchedule(np.append(now.signal[1:], 1.0), np.append(now.noise[1:], 0.0))
    a, b = noise_schedules.clean_weights(prediction, now)
    sampler = Sampler(index, a, b, rule(now, then))
    return jax.tree.map(lambda x: x.astype(np.float32), sampler)


def n_noise(sampler: Sampler) -> int:
    """How many noise arrays a sample takes: the start, and one per random step."""
    return 1 + int(np.count_nonzero(sampler.step.random))


def sample(
    sampler: Sampler, denoise: Denoise, noise: jax.Array, clip: float = 0.0, unroll: bool = False
) -> jax.Array:
    """Samples by denoising.

    Args:
      sampler: see Sampler.
      denoise: (x [B, ...], time float32 [B]) -> y [B, ...].
      noise: standard normal [B, n, ...] with n = `n_noise(sampler)`: what the first step
        starts from, then what each random step adds, in order.
      clip: clean samples are clipped to [-clip, clip]; 0: they are not.
      unroll: writes every step out instead of a loop, for exporters without loops.

    Returns:
      [B, ...].
    """
    steps = len(sampler.time)
    start = noise[:, 0]
    rows: tuple[Any, ...] = (sampler,)
    if noise.shape[1] > 1:
        # The last step ends at the clean sample and adds nothing: its row is never used.
        rows = (sampler, jnp.swapaxes(jnp.concatenate([noise[:, 1:], noise[:, :1]], 1), 0, 1))
    step = functools.partial(_step, denoise, clip)
    carry = (start, jnp.zeros_like(start))
    if not unroll:
        return jax.lax.scan(step, carry, jax.tree.map(jnp.asarray, rows))[0][0]
    for i in range(steps):
        carry, _ = step(carry, jax.tree.map(lambda x, i=i: x[i], rows))
    return carry[0]


def mean(row: Sampler, denoise: Denoise, x: jax.Array, clip: float = 0.0) -> jax.Array:
    """Where one step leads without its fresh noise, for samplers that look at no step before.

    Args:
      row: one step of a Sampler, each [].
      denoise: see `sample`.
      x: [B, ...].
      clip: see `sample`.

    Returns:
      [B, ...].
    """
    (result, _), _ = _step(denoise, clip, (x, jnp.zeros_like(x)), (row,))
    return result


def _step(
    denoise: Denoise, clip: float, carry: tuple[jax.Array, jax.Array], row: tuple[Any, ...]
) -> tuple[tuple[jax.Array, jax.Array], None]:
    """The step of the module's header; `row` is a row of a Sampler and maybe noise."""
    (x, before), sampler = carry, row[0]
    y = denoise(x, jnp.broadcast_to(sampler.time, x.shape[:1]))
    clean = sampler.clean_x * x + sampler.clean_y * y
    if clip:
        clean = jnp.clip(clean, -clip, clip)
    c, d, f, g = sampler.step
    x = c * x + d * clean + f * before
    return (x + g * row[1] if len(row) > 1 else x, clean), None

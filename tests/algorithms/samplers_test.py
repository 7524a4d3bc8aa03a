"""Sampler steps against values worked by hand, and whole samplers on a known answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.algorithms import noise_schedules, samplers
from jaxpolicy.algorithms.noise_schedules import NoiseSchedule
from jaxpolicy.core.specs import InputError

# alpha, sigma = .6, .8, then .8, .6.
NOW = NoiseSchedule(np.array([0.6]), np.array([0.8]))
THEN = NoiseSchedule(np.array([0.8]), np.array([0.6]))


def test_timesteps():
    # 100 - 33.3 i rounded, less 1.
    np.testing.assert_array_equal(samplers.timesteps(100, 3), [99, 66, 32])
    np.testing.assert_array_equal(samplers.timesteps(4, 4), [3, 2, 1, 0])
    np.testing.assert_array_equal(samplers.timesteps(1000, 1), [999])


def test_ddim_step():
    # x = 1, x0 = .5: e = (1 - .6 * .5) / .8 = .875; x' = .8 * .5 + .6 * .875 = .925.
    step = samplers.ddim(NOW, THEN)
    assert step.x * 1.0 + step.clean * 0.5 == pytest.approx(0.925)
    assert step.random == step.before == 0.0


def test_ddpm_step():
    # Ho et al., eq. 7, with alpha_bar = .36, alpha_bar' = .64: one step's alpha = .5625,
    # beta = .4375. Mean: .8 * .4375 / .64 x0 + .75 * .36 / .64 x; variance .36 / .64 * .4375.
    step = samplers.ddpm(NOW, THEN)
    assert step.clean == pytest.approx(0.546875)
    assert step.x == pytest.approx(0.421875)
    assert step.random == pytest.approx(np.sqrt(0.24609375))


def test_stochastic_by_hand():
    # Flow in two steps, (alpha, sigma): (0, 1), (.5, .5), (1, 0); eta = .6. s = .6 * .5 = .3,
    # sqrt(.25 - .09) = .4 of the noise is kept: x' = .4 x + (.5 - 0) x0. Then x' = x0.
    schedule = noise_schedules.make_schedule("flow", 2)
    sampler = samplers.stochastic(schedule, "sample", 2, eta=0.6)
    np.testing.assert_allclose(sampler.step.random, [0.3, 0.0], atol=1e-6)
    x, row = jnp.asarray([[1.0]]), jax.tree.map(lambda v: v[0], sampler)
    for clip, clean in ((0.0, 2.0), (1.0, 1.0)):
        got = samplers.mean(row, lambda x, time: jnp.full(x.shape, 2.0), x, clip)
        np.testing.assert_allclose(got, [[0.4 + 0.5 * clean]], atol=1e-6)


def test_euler_step():
    # From sigma = .75 to .5 with x = 1, x0 = .4: u = .6 / .75 = .8; x' = 1 - .25 * .8 = .8.
    now = NoiseSchedule(np.array([0.25]), np.array([0.75]))
    then = NoiseSchedule(np.array([0.5]), np.array([0.5]))
    step = samplers.euler(now, then)
    assert step.x * 1.0 + step.clean * 0.4 == pytest.approx(0.8)


def test_dpm_solver_steps():
    # Levels (alpha, sigma): (.6, .8), (.8, .6), (.96, .28), (1, 0). l = log(alpha / sigma):
    # -.28768, .28768, 1.23214; h = .57536, .94446. r = h_0 / h_1 = .60919, 1 / (2 r) = .82075.
    signal, noise = np.array([0.6, 0.8, 0.96, 1.0]), np.array([0.8, 0.6, 0.28, 0.0])
    now, then = NoiseSchedule(signal[:-1], noise[:-1]), NoiseSchedule(signal[1:], noise[1:])
    step = samplers.dpm_solver(now, then)
    # exp(-h) = (.6 / .8) / (.8 / .6) = .5625 and (.8 / .6) / (.96 / .28) = .38889.
    # First: .75 x + .8 * .4375 x0. Second: .28 / .6 x + .96 * .61111 D = .46667 x + .58667 D,
    # D = 1.82075 x0 - .82075 before. Last: x0.
    np.testing.assert_allclose(step.x, [0.75, 0.46667, 0.0], atol=1e-5)
    np.testing.assert_allclose(step.clean, [0.35, 0.58667 * 1.82075, 1.0], atol=1e-4)
    np.testing.assert_allclose(step.before, [0.0, -0.58667 * 0.82075, 0.0], atol=1e-4)


def test_a_step_of_each_kind_in_order():
    """One random sampler step by step, with clipping, against the header's formula."""
    schedule = noise_schedules.flow(2)
    sampler = samplers.make_sampler("ddpm", schedule, "velocity", 2)
    assert samplers.n_noise(sampler) == 2
    # y = 2 always. Start x = [1, 3] at level (0, 1): x0 = x - y = [-1, 1], clipped [-.75, .75].
    # To (.5, .5) with all noise new: x = .5 [-.75, .75] + .5 [2, -1] = [.625, -.125].
    # x0 = x - .5 y = [-.375, -1.125], clipped [-.375, -.75], is the result.
    noise = jnp.array([[[1.0, 3.0], [2.0, -1.0]]])
    got = samplers.sample(sampler, lambda x, t: jnp.full_like(x, 2.0), noise, clip=0.75)
    np.testing.assert_allclose(got, [[-0.375, -0.75]], atol=1e-6)


def normal_posterior(schedule, prediction, variance, x, time):
    """The best denoiser where data are N(0, variance); time is a level."""
    alpha, sigma = (jnp.asarray(v, jnp.float32)[time.astype(int)][:, None] for v in schedule)
    x0 = alpha * variance / (alpha**2 * variance + sigma**2) * x
    p, q = (
        jnp.asarray(w, jnp.float32)[time.astype(int)][:, None]
        for w in noise_schedules.prediction_weights(prediction, schedule)
    )
    return p * x0 + q * (x - alpha * x0) / sigma


@pytest.mark.parametrize(
    ("name", "schedule", "prediction", "steps", "tolerance"),
    [
        ("ddpm", "linear", "epsilon", 100, 0.03),
        ("ddim", "cosine", "sample", 50, 0.02),
        ("dpm_solver", "cosine", "v", 20, 0.01),
        ("dpm_solver", "flow", "velocity", 10, 0.01),
        ("euler", "flow", "velocity", 50, 0.02),
    ],
)
def test_samples_have_the_spread_of_the_data(name, schedule, prediction, steps, tolerance):
    # Data N(0, .25): samples must have standard deviation .5. Deterministic samplers multiply
    # the start by a constant, so two starts (1, -1) tell; DDPM needs many.
    schedule = noise_schedules.make_schedule(schedule, 100)
    sampler = samplers.make_sampler(name, schedule, prediction, steps)
    rows, n = (2000 if name == "ddpm" else 2), samplers.n_noise(sampler)
    noise = np.random.default_rng(0).standard_normal((rows, n, 1)).astype(np.float32)
    if n == 1:
        noise = np.array([1.0, -1.0], np.float32).reshape(2, 1, 1)
    denoise = jax.tree_util.Partial(normal_posterior, schedule, prediction, 0.25)
    got = samplers.sample(sampler, denoise, noise)
    assert float(got.std()) == pytest.approx(0.5, abs=tolerance)


@pytest.mark.parametrize("name", ["ddpm", "dpm_solver"])
def test_unrolled_is_the_same(name):
    sampler = samplers.make_sampler(name, noise_schedules.cosine(20), "epsilon", 4)
    shape = (3, samplers.n_noise(sampler), 2, 1)
    noise = np.random.default_rng(1).standard_normal(shape).astype(np.float32)

    def denoise(x, time):
        return 0.9 * x + 0.01 * time[:, None, None]

    got = [samplers.sample(sampler, denoise, noise, 1.0, unroll) for unroll in (False, True)]
    np.testing.assert_allclose(*got, atol=1e-5)
    assert np.ptp(got[0]) > 0.1


def test_a_sampler_is_one_loop():
    sampler = samplers.make_sampler("ddim", noise_schedules.cosine(20), "epsilon", 10)
    program = jax.make_jaxpr(lambda n: samplers.sample(sampler, lambda x, t: jnp.sin(x), n))
    text = str(program(np.zeros((1, 1, 2))))
    assert text.count("scan[") == 1
    assert text.count("sin ") == 1


def test_noise_of_each_sampler():
    schedule = noise_schedules.cosine(20)
    counts = {
        name: samplers.n_noise(samplers.make_sampler(name, schedule, "epsilon", 5))
        for name in ("ddim", "ddpm", "dpm_solver")
    }
    assert counts == {"ddim": 1, "ddpm": 5, "dpm_solver": 1}


def test_wrong_values():
    schedule = noise_schedules.cosine(20)
    with pytest.raises(InputError, match="sampler must be one of"):
        samplers.make_sampler("plms", schedule, "epsilon", 5)
    with pytest.raises(InputError, match=r"between 1 and train_steps \(20\), got 21"):
        samplers.make_sampler("ddim", schedule, "epsilon", 21)
    with pytest.raises(InputError, match="use the schedule 'flow'"):
        samplers.make_sampler("euler", schedule, "epsilon", 5)

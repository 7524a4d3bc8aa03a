"""Diffusion policy: its loss by hand, what acts, and two modes that a mean would miss."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpolicy.algorithms import diffusion
from jaxpolicy.algorithms.diffusion import DiffusionConfig
from jaxpolicy.algorithms.imitation import EMAConfig
from jaxpolicy.core import normalization
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.core.types import Batch, PolicySpec
from jaxpolicy.networks.denoisers import DenoiserConfig, DiffusionPolicy
from jaxpolicy.networks.encoder import NetworkConfig

ACTION = ActionSpec("cartesian_delta", ("dx", "dyaw"), ("m", "rad"), (-0.1, -0.2), (0.1, 0.2), 20.0)
SPEC = PolicySpec((ArraySpec("proprio", (1,)),), ACTION, 1, 2, 1)
NORM = {
    # Bounds become -1 and 1.
    "action": normalization.fit([np.array([ACTION.minimum, ACTION.maximum], np.float32)]),
    "proprio": normalization.fit([np.array([[-1.0], [1.0]], np.float32)]),
}
TINY = DiffusionConfig(
    denoiser="mlp",
    denoisers=DenoiserConfig(embedding=8, mlp_widths=(32, 32)),
    train_steps=20,
    sample_steps=5,
    prediction="sample",
    noise_draws=4,
    ema=EMAConfig(max_decay=0.9),
)


def batch_of(action, mask=((True, True),)):
    action = np.asarray(action, np.float32)
    proprio = np.zeros((len(action), 1, 1), np.float32)
    return Batch({"proprio": proprio}, action, np.broadcast_to(mask, action.shape[:2]))


def setup_of(config=TINY, **changes):
    config = dataclasses.replace(config, **changes)
    return diffusion.make_setup(SPEC, NetworkConfig(), config, optax.adam(3e-3))


class Constant:
    """Stands for a network: predicts `value` for every step and element."""

    def __init__(self, value):
        self.value, self.calls = value, []

    def apply(self, variables, *inputs, method=None):
        if method is DiffusionPolicy.encode:
            self.calls.append(("encode", len(inputs[0]["proprio"])))
            return jnp.zeros((len(inputs[0]["proprio"]), 1))
        self.calls.append(("denoise", len(inputs[0])))
        return jnp.full(inputs[0].shape, self.value) + 0.0 * variables["params"]["w"].sum()


PARAMS = {"network": {"w": jnp.asarray([[1.0, 2.0]]), "b": jnp.asarray([5.0])}, "norm": NORM}


def test_loss_by_hand():
    # Actions (.05, -.2) are (.5, -1) in network units; the second step does not exist. Predicted
    # sample: .25 whatever the noise. mse = (.25^2 + 1.25^2) / 2 = .8125; l2 = .1 * (1 + 4) = .5.
    network = Constant(0.25)
    setup = dataclasses.replace(setup_of(l2=0.1), network=network)
    batch = batch_of([[[0.05, -0.2], [0.1, 0.1]]], [[True, False]])
    value, metrics = diffusion.loss(setup, PARAMS["network"], NORM, batch, jax.random.key(1))
    assert float(metrics["mse"]) == pytest.approx(0.8125)
    assert float(metrics["l2"]) == pytest.approx(0.5)
    assert float(value) == float(metrics["loss"]) == pytest.approx(1.3125)
    # The observation is encoded once for all four draws.
    assert network.calls == [("encode", 1), ("denoise", 4)]


@pytest.mark.parametrize(
    ("prediction", "schedule", "expected"),
    # Against 0: E e^2 = 1. v = alpha e - sigma x0 and velocity = e - x0 with x0 = 1: E alpha^2 + E
    # sigma^2 = 1, and 1 + 1.
    [("epsilon", "linear", 1.0), ("v", "cosine", 1.0), ("velocity", "flow", 2.0)],
)
def test_targets_of_other_predictions(prediction, schedule, expected):
    config = {"prediction": prediction, "schedule": schedule, "noise_draws": 20000}
    setup = dataclasses.replace(setup_of(**config), network=Constant(0.0))
    batch = batch_of([[[0.1, 0.2], [0.1, 0.2]]])
    value, _ = diffusion.loss(setup, PARAMS["network"], NORM, batch, jax.random.key(1))
    assert float(value) == pytest.approx(expected, abs=0.02)


def test_acts_on_what_is_predicted_in_physical_units():
    # A denoiser that always says .5 has one sample: .5 * (.1, .2). At 3 it is clipped to 1.
    observation = {"proprio": np.zeros((3, 1, 1), np.float32)}
    for value, expected in ((0.5, [0.05, 0.1]), (3.0, [0.1, 0.2])):
        setup = dataclasses.replace(setup_of(), network=Constant(value))
        got = diffusion.act(setup, PARAMS, observation, jax.random.key(0))
        np.testing.assert_allclose(got, np.broadcast_to(expected, (3, 2, 2)), atol=1e-6)
        confidence = diffusion.confidence(setup, PARAMS, observation, jax.random.key(0))
        np.testing.assert_allclose(confidence, np.ones(3), atol=1e-3)


def test_evaluation_by_hand():
    # Sampled (.25, .25), wanted (.5, -1): errors .25 and 1.25, which are .025 m and .25 rad.
    setup = dataclasses.replace(setup_of(), network=Constant(0.25))
    metrics = diffusion.eval_step(setup, PARAMS, batch_of([[[0.05, -0.2], [0.05, -0.2]]]))
    expected = {"mse": 0.8125, "action_error": 0.75, "action_error_m": 0.025}
    expected |= {"action_error_rad": 0.25, "loss": 0.8125, "l2": 0.0}
    assert {k: float(v) for k, v in metrics.items()} == pytest.approx(expected, abs=1e-5)


def test_the_average_acts():
    setup = setup_of()
    batch = batch_of(np.zeros((2, 2, 2)))
    state = jax.jit(functools.partial(diffusion.init, setup, NORM))(jax.random.key(0), batch)
    noise = np.ones((2, *diffusion.noise_shape(setup)), np.float32)
    act = jax.jit(functools.partial(diffusion.act_with_noise, setup))
    other = jax.tree.map(lambda x: x + 0.1, state.params["network"])
    answers = [
        act({**state.params, **changes}, batch.observation, noise)
        for changes in ({}, {"network": other}, {"ema": other})
    ]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[0] - answers[2]).max() > 1e-4


@pytest.mark.parametrize(("sampler", "n"), [("ddim", 1), ("ddpm", 5), ("dpm_solver", 1)])
def test_act_draws_the_noise_of_its_sampler(sampler, n):
    setup = dataclasses.replace(setup_of(sampler=sampler), network=Constant(0.5))
    assert diffusion.noise_shape(setup) == (n, 2, 2)
    observation = {"proprio": np.zeros((3, 1, 1), np.float32)}
    noise = jax.random.normal(jax.random.key(7), (3, n, 2, 2))
    given = diffusion.act_with_noise(setup, PARAMS, observation, noise)
    drawn = diffusion.act(setup, PARAMS, observation, jax.random.key(7))
    np.testing.assert_array_equal(given, drawn)


@pytest.mark.parametrize(
    "changes",
    [{}, {"prediction": "velocity", "schedule": "flow", "sampler": "euler"}],
    ids=["diffusion", "flow"],
)
def test_learns_two_modes(changes):
    # Half of the demonstrators go left (-.08 m), half right, all turn by .1: the mean is 0.
    setup = setup_of(**changes)
    action = np.full((16, 2, 2), [0.08, 0.1], np.float32)
    action[::2, :, 0] = -0.08
    batch = batch_of(action)
    state = jax.jit(functools.partial(diffusion.init, setup, NORM))(jax.random.key(0), batch)

    @jax.jit
    def train(state):
        step = functools.partial(diffusion.train_step, setup)
        return jax.lax.scan(lambda s, _: step(s, batch), state, None, 400)[0]

    params = train(state).params
    observation = {"proprio": np.zeros((64, 1, 1), np.float32)}
    act = jax.jit(functools.partial(diffusion.act, setup))
    got = np.asarray(act(params, observation, jax.random.key(3)))
    np.testing.assert_allclose(got[..., 1], 0.1, atol=0.04)
    aside = np.abs(got[..., 0])
    assert np.median(aside) == pytest.approx(0.08, abs=0.02)
    assert 0.2 < (got[:, 0, 0] > 0).mean() < 0.8
    # Both actions of a chunk go the same way.
    assert (np.sign(got[:, 0, 0]) == np.sign(got[:, 1, 0])).mean() > 0.9
    few = {"proprio": observation["proprio"][:1]}
    assert float(diffusion.confidence(setup, params, few, jax.random.key(4))[0]) < 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"denoiser": "cnn"}, "diffusion.denoiser must be one of"),
        ({"denoiser": "unet1d"}, "divisible by 4, got 2"),
        ({"schedule": "sigmoid"}, "schedule must be one of"),
        ({"prediction": "noise"}, "prediction must be one of"),
        ({"prediction": "epsilon", "schedule": "flow"}, "does not determine the sample"),
        ({"sampler": "plms"}, "sampler must be one of"),
        ({"sample_steps": 21}, r"between 1 and train_steps \(20\)"),
        ({"noise_draws": 0}, "diffusion.noise_draws must be at least 1"),
        ({"clip": 0.5}, "diffusion.clip must be 0 or at least 1"),
        ({"action_norm": "mean_std"}, r"diffusion.clip must be 0 \(actions are not bounded\)"),
        ({"residual": True}, "diffusion.clip must be 0 or at least 2"),
        ({"l2": -1.0}, "diffusion.l2 must be at least 0"),
    ],
)
def test_wrong_values(changes, message):
    with pytest.raises(InputError, match=message):
        setup_of(**changes)


def test_no_clipping_without_bounds():
    assert setup_of(action_norm="mean_std", clip=0.0).config.clip == 0.0

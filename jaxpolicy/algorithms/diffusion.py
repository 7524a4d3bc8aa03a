"""Diffusion policy: action chunks by denoising, conditioned on the observation.

Chi et al. 2023, https://arxiv.org/abs/2303.04137. With an action chunk x0 in network
units, noise e, and a level k drawn uniformly from a noise schedule, the denoiser f learns

    loss = mean((f(alpha_k x0 + sigma_k e, k, o) - (p_k x0 + q_k e))^2) + l2 * sum(w^2)

without the actions beyond the end of an episode, where (p, q) are those of the prediction
(see noise_schedules). The schedule "flow" with the prediction "velocity" is flow matching
(Lipman et al. 2022, https://arxiv.org/abs/2210.02747), its time in train_steps steps.

Images are encoded once per window, and serve `noise_draws` draws of (k, e) while training
and every step of the sampler while acting. The moving average of the weights acts.

Functions are pure and take the frozen `Setup` first; `make` binds it.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxpolicy.algorithms import imitation, noise_schedules, samplers
from jaxpolicy.algorithms.imitation import EMAConfig, ImitationConfig, Setup
from jaxpolicy.algorithms.samplers import Sampler
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import (
    Algorithm,
    Batch,
    Metrics,
    Observation,
    Params,
    PolicySpec,
    TrainState,
)
from jaxpolicy.networks import denoisers
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.denoisers import DenoiserConfig, DiffusionPolicy
from jaxpolicy.networks.encoder import NetworkConfig, resolve

__all__ = [
    "DiffusionConfig",
    "act",
    "act_with_noise",
    "confidence",
    "denoise",
    "encode",
    "eval_step",
    "init",
    "loss",
    "make",
    "make_setup",
    "noise_shape",
    "sample",
    "sample_confidence",
    "train_step",
]


@dataclasses.dataclass(frozen=True)
class DiffusionConfig(ImitationConfig):
    """Diffusion policy; see ImitationConfig for what it shares with other methods.

    Attributes:
      l2: as there; the optimiser's weight decay is the usual means here.
      ema: as there, and on.
      denoiser: key of denoisers.DENOISERS.
      denoisers: their sizes.
      schedule: key of noise_schedules.SCHEDULES; "flow" is flow matching.
      train_steps: K, levels of the schedule.
      prediction: what the denoiser predicts, one of noise_schedules.PREDICTIONS.
      noise_draws: draws of noise per window of a batch. Where the encoder costs more than
        the denoiser, many draws make more of its work.
      sampler: key of samplers.SAMPLERS.
      sample_steps: N, steps of the sampler, at most train_steps.
      clip: predicted clean actions are clipped to [-clip, clip] while sampling, in network
        units: 1 is as far as normalised actions reach (2 with `residual`); 0: never.
    """

    l2: float = 0.0
    ema: EMAConfig = dataclasses.field(default_factory=lambda: EMAConfig(max_decay=0.9999))
    denoiser: str = "unet1d"
    denoisers: DenoiserConfig = dataclasses.field(default_factory=DenoiserConfig)
    schedule: str = "cosine"
    train_steps: int = 100
    prediction: str = "epsilon"
    noise_draws: int = 1
    sampler: str = "ddim"
    sample_steps: int = 10
    clip: float = 1.0


def make(
    policy_spec: PolicySpec,
    network: NetworkConfig,
    config: DiffusionConfig,
    optimizer: optax.GradientTransformation,
    norm: Mapping[str, NormStats],
    augmentation: AugmentConfig | None = None,
) -> Algorithm:
    """Binds this module's functions.

    Args:
      policy_spec: inputs and outputs.
      network: see NetworkConfig; its encoder is used; hidden, layers and dropout are not.
      config: see DiffusionConfig.
      optimizer: e.g. optax.adamw(1e-4).
      norm: statistics of "action" [A] and, where it is an input, "proprio" [P].
      augmentation: see AugmentConfig; None: its defaults.

    Raises:
      InputError: a value or a statistic is wrong or missing.
    """
    setup = make_setup(policy_spec, network, config, optimizer, augmentation)
    statistics = imitation.check_norm(policy_spec, norm)
    return Algorithm(
        init=functools.partial(init, setup, statistics),
        train_step=functools.partial(train_step, setup),
        eval_step=functools.partial(eval_step, setup),
        act=functools.partial(act, setup),
        confidence=functools.partial(confidence, setup),
        noise=noise_shape(setup),
        act_with_noise=functools.partial(act_with_noise, setup),
    )


def make_setup(
    policy_spec: PolicySpec,
    network: NetworkConfig,
    config: DiffusionConfig,
    optimizer: optax.GradientTransformation,
    augmentation: AugmentConfig | None = None,
) -> Setup:
    """Checks the configuration and builds the network.

    Raises:
      InputError: names the key that is wrong.
    """
    denoisers.check("diffusion", config.denoiser, config.denoisers, policy_spec.horizon)
    if config.noise_draws < 1:
        raise InputError(f"diffusion.noise_draws must be at least 1, got {config.noise_draws}")
    _check_clip(config)
    network = resolve(network)
    setup = Setup(
        network=DiffusionPolicy(network, config.denoiser, config.denoisers),
        optimizer=optimizer,
        config=config,
        policy_spec=policy_spec,
        image_size=network.image_size,
        augment=augmentation or AugmentConfig(),
    )
    _sampler(setup)
    return imitation.make_setup("diffusion", setup)


def _check_clip(config: DiffusionConfig) -> None:
    """Raises InputError where clipping would cut off actions that were demonstrated."""
    reach = imitation.target_reach(config)
    if config.clip and (reach is None or config.clip < reach):
        unbounded = "0 (actions are not bounded)"
        wanted = unbounded if reach is None else f"0 or at least {reach:g}"
        raise InputError(
            f"diffusion.clip must be {wanted} with action_norm '{config.action_norm}' and "
            f"residual={config.residual}, got {config.clip}"
        )


def _schedule(setup: Setup) -> noise_schedules.NoiseSchedule:
    return noise_schedules.make_schedule(setup.config.schedule, setup.config.train_steps)


def _sampler(setup: Setup) -> Sampler:
    config = setup.config
    return samplers.make_sampler(
        config.sampler, _schedule(setup), config.prediction, config.sample_steps
    )


def noise_shape(setup: Setup) -> tuple[int, int, int]:
    """Shape [n, H, A] of the standard normal noise of one sample, see samplers.sample."""
    spec = setup.policy_spec
    return samplers.n_noise(_sampler(setup)), spec.horizon, spec.action.size


def init(setup: Setup, norm: Mapping[str, NormStats], key: jax.Array, batch: Batch) -> TrainState:
    """Random parameters and optimiser state; of `batch` only shapes matter."""
    inputs = imitation.network_input(setup, norm, batch.observation)
    chunk = jnp.asarray(batch.action)
    return imitation.init_state(setup, norm, key, inputs, chunk, jnp.zeros(len(chunk)))


def loss(
    setup: Setup, network: Params, norm: Params, batch: Batch, key: jax.Array | None
) -> tuple[jax.Array, Metrics]:
    """The loss of the module's header and its terms.

    Args:
      setup: see Setup.
      network: parameters of the network.
      norm: statistics by key.
      batch: see Batch.
      key: PRNG key of noise and augmentation; None: always the same noise, and nothing
        augmented, as at test time.

    Returns:
      The loss [] and metrics, each []: "loss" and its terms "mse" and "l2".
    """
    key_noise, key_augment = (jax.random.key(0), None) if key is None else jax.random.split(key)
    inputs = imitation.augmented(setup, norm, batch.observation, key_augment)
    encoding = encode(setup, network, inputs)
    chunk = imitation.targets(setup, norm, batch, inputs)
    mse = imitation.masked_mean(_errors(setup, network, chunk, encoding, key_noise), batch)
    l2 = setup.config.l2 * imitation.squared_weights(network)
    return mse + l2, {"loss": mse + l2, "mse": mse, "l2": l2}


def _errors(
    setup: Setup, network: Params, chunk: jax.Array, encoding: jax.Array, key: jax.Array
) -> jax.Array:
    """Squared errors [B, H, A] of the denoiser, averaged over `noise_draws` draws."""
    draws, schedule = setup.config.noise_draws, _schedule(setup)
    clean, condition = jnp.repeat(chunk, draws, 0), jnp.repeat(encoding, draws, 0)
    key_time, key_noise = jax.random.split(key)
    time = jax.random.randint(key_time, (len(clean),), 0, setup.config.train_steps)
    noise = jax.random.normal(key_noise, clean.shape)
    weights = (*schedule, *noise_schedules.prediction_weights(setup.config.prediction, schedule))
    alpha, sigma, p, q = (jnp.asarray(w, jnp.float32)[time] for w in weights)
    noisy = noise_schedules.mix(alpha, sigma, clean, noise)
    error = denoise(setup, network, condition, noisy, time.astype(jnp.float32))
    error = error - noise_schedules.mix(p, q, clean, noise)
    return jnp.square(error).reshape(len(chunk), draws, *chunk.shape[1:]).mean(1)


def encode(setup: Setup, network: Params, inputs: Observation) -> jax.Array:
    """What the denoiser is given of the observation, [B, ...]."""
    variables, method = {"params": network}, DiffusionPolicy.encode
    return jnp.asarray(setup.network.apply(variables, inputs, method=method))


def denoise(
    setup: Setup, network: Params, encoding: jax.Array, noisy: jax.Array, time: jax.Array
) -> jax.Array:
    """The denoiser's output [B, H, A]."""
    variables, method = {"params": network}, DiffusionPolicy.denoise
    return jnp.asarray(setup.network.apply(variables, noisy, time, encoding, method=method))


def train_step(setup: Setup, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One update; metrics of `loss` and "grad_norm". Randomness: fold_in(key, step)."""
    return imitation.update(setup, loss, state, batch)


def eval_step(setup: Setup, params: Params, batch: Batch) -> Metrics:
    """Metrics of `loss`, and of `imitation.action_errors` for sampled chunks.

    Noise is the same at every call, so two evaluations differ by the parameters alone.
    """
    network, norm = imitation.acting(params), params["norm"]
    metrics = loss(setup, network, norm, batch, None)[1]
    inputs = imitation.network_input(setup, norm, batch.observation)
    target = imitation.targets(setup, norm, batch, inputs)
    noise = jax.random.normal(jax.random.key(1), (len(target), *noise_shape(setup)))
    chunk = sample(setup, network, encode(setup, network, inputs), noise)
    return {**metrics, **imitation.action_errors(setup, norm, chunk - target, batch)}


def sample(
    setup: Setup, network: Params, encoding: jax.Array, noise: Any, unroll: bool = False
) -> jax.Array:
    """Action chunks [B, H, A] in network units, from noise [B, n, H, A]."""
    ask = functools.partial(denoise, setup, network, encoding)
    return samplers.sample(_sampler(setup), ask, noise, setup.config.clip, unroll)


def act(setup: Setup, params: Params, observation: Observation, key: jax.Array) -> jax.Array:
    """A sampled action chunk.

    Args:
      setup: see Setup.
      params: TrainState.params.
      observation: raw, each [B, O, ...].
      key: PRNG key of the noise.

    Returns:
      [B, H, A] in physical units.
    """
    batch = len(next(iter(observation.values())))
    noise = jax.random.normal(key, (batch, *noise_shape(setup)))
    return act_with_noise(setup, params, observation, noise)


def act_with_noise(
    setup: Setup, params: Params, observation: Observation, noise: Any, unroll: bool = False
) -> jax.Array:
    """A sampled action chunk, as a function of the noise: what is exported.

    Args:
      setup: see Setup.
      params: TrainState.params.
      observation: raw, each [B, O, ...].
      noise: standard normal [B, *noise_shape(setup)].
      unroll: as in samplers.sample.

    Returns:
      [B, H, A] in physical units.
    """
    inputs = imitation.network_input(setup, params["norm"], observation)
    network = imitation.acting(params)
    chunk = sample(setup, network, encode(setup, network, inputs), noise, unroll)
    return imitation.physical_actions(setup, params["norm"], chunk, inputs)


def confidence(setup: Setup, params: Params, observation: Observation, key: jax.Array) -> jax.Array:
    """How much the samples of the next action agree.

    `imitation.spread_confidence` over `confidence_draws` samples: low where the policy
    sees several ways to go on, whether or not all of them are good. It is not a
    probability of success; evaluation reports how well it is calibrated as one.

    Args:
      setup: see Setup.
      params: TrainState.params.
      observation: raw, each [B, O, ...].
      key: PRNG key of the samples' noise.

    Returns:
      [B] in (0, 1].
    """
    inputs = imitation.network_input(setup, params["norm"], observation)
    return sample_confidence(setup, imitation.acting(params), inputs, key)


def sample_confidence(
    setup: Setup, network: Params, inputs: Observation, key: jax.Array
) -> jax.Array:
    """`confidence` [B] for the network's inputs, each [B, O, ...]."""
    config, encoding = setup.config, encode(setup, network, inputs)
    rows = jnp.repeat(encoding, config.confidence_draws, 0)
    noise = jax.random.normal(key, (len(rows), *noise_shape(setup)))
    first = sample(setup, network, rows, noise)[:, 0]
    first = first.reshape(len(encoding), config.confidence_draws, -1)
    return imitation.spread_confidence(first.swapaxes(0, 1), config.confidence_scale)

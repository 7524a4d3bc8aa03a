"""ACT: action chunking with transformers, behavioural cloning with a latent style.

Zhao et al. 2023, https://arxiv.org/abs/2304.13705, algorithm 1: while training, a style
encoder sees the demonstrated chunk a and says in a latent z how it was done, so that the
policy f need not average over styles:

    loss = mean(|f(o, z) - a|) + kl_weight * KL(q(z | a, o) || N(0, I)) + l2 * sum(w^2)

without the actions beyond the end of an episode. While acting z is 0, the prior's mean.
Chunks are meant to be ensembled over time: see TrainConfig.temporal_ensemble.

Functions are pure and take the frozen `Setup` first; `make` binds it.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxpolicy.algorithms import imitation
from jaxpolicy.algorithms.imitation import ImitationConfig, Setup
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.types import (
    Algorithm,
    Batch,
    Metrics,
    Observation,
    Params,
    PolicySpec,
    TrainState,
)
from jaxpolicy.networks.act import ACTPolicy
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig, resolve

__all__ = [
    "ACTConfig",
    "act",
    "confidence",
    "eval_step",
    "init",
    "kl_to_prior",
    "loss",
    "make",
    "make_setup",
    "train_step",
]


@dataclasses.dataclass(frozen=True)
class ACTConfig(ImitationConfig):
    """ACT; see ImitationConfig for what it shares with other methods.

    The width of all transformers is network.token_features, their dropout network.dropout.
    The paper has 512 and 0.1, latent 32, 4 and 7 layers (80M parameters with a ResNet-18);
    the defaults train on a CPU.

    Attributes:
      latent: Z, size of the style.
      kl_weight: of the KL divergence, per latent chunk; 10 in the paper. Larger: z says
        less, and more is left to the observation, which is all there is while acting.
      encoder_layers: transformer blocks of the style encoder, and of the encoder.
      decoder_layers: transformer blocks of the decoder.
    """

    latent: int = 16
    kl_weight: float = 10.0
    encoder_layers: int = 2
    decoder_layers: int = 2


def make(
    policy_spec: PolicySpec,
    network: NetworkConfig,
    config: ACTConfig,
    optimizer: optax.GradientTransformation,
    norm: Mapping[str, NormStats],
    augmentation: AugmentConfig | None = None,
) -> Algorithm:
    """Binds this module's functions.

    Args:
      policy_spec: inputs and outputs.
      network: see NetworkConfig; its tokens are used, not its hidden layers.
      config: see ACTConfig.
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
    )


def make_setup(
    policy_spec: PolicySpec,
    network: NetworkConfig,
    config: ACTConfig,
    optimizer: optax.GradientTransformation,
    augmentation: AugmentConfig | None = None,
) -> Setup:
    """Checks the configuration and builds the network.

    Raises:
      InputError: names the key that is wrong.
    """
    lowest = {"latent": 1, "kl_weight": 0, "encoder_layers": 1, "decoder_layers": 1}
    imitation.check_lowest("act", config, lowest)
    network = resolve(network)
    layers = (config.encoder_layers, config.decoder_layers)
    sizes = (policy_spec.horizon, policy_spec.action.size, config.latent)
    setup = Setup(
        network=ACTPolicy(network, *sizes, *layers),
        optimizer=optimizer,
        config=config,
        policy_spec=policy_spec,
        image_size=network.image_size,
        augment=augmentation or AugmentConfig(),
    )
    return imitation.make_setup("act", setup)


def init(setup: Setup, norm: Mapping[str, NormStats], key: jax.Array, batch: Batch) -> TrainState:
    """Random parameters and optimiser state; of `batch` only shapes matter."""
    inputs = imitation.network_input(setup, norm, batch.observation)
    chunk = (jnp.asarray(batch.action), jnp.asarray(batch.action_mask))
    return imitation.init_state(setup, norm, key, inputs, *chunk)


def loss(
    setup: Setup, network: Params, norm: Params, batch: Batch, key: jax.Array | None
) -> tuple[jax.Array, Metrics]:
    """The loss of the module's header and its terms.

    Args:
      setup: see Setup.
      network: parameters of the network.
      norm: statistics by key.
      batch: see Batch.
      key: PRNG key of z, augmentation and dropout; None: z is 0 and neither of the others,
        as at test time.

    Returns:
      The loss [] and metrics, each []: "loss" and its terms "l1", "kl" (before its weight)
      and "l2"; "mse" and those of `imitation.action_errors`.
    """
    keys = [None] * 4 if key is None else list(jax.random.split(key, 4))
    key_augment, key_z, key_infer, key_predict = keys
    inputs = imitation.augmented(setup, norm, batch.observation, key_augment)
    target = imitation.targets(setup, norm, batch, inputs)
    mean, log_variance = _infer(setup, network, inputs, target, batch.action_mask, key_infer)
    z = jnp.zeros_like(mean)
    if key_z is not None:
        z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key_z, mean.shape)
    error = _predict(setup, network, inputs, z, key_predict) - target
    errors = imitation.action_errors(setup, norm, error, batch)
    l1, kl = errors["action_error"], kl_to_prior(mean, log_variance).mean()
    l2 = setup.config.l2 * imitation.squared_weights(network)
    total = l1 + setup.config.kl_weight * kl + l2
    mse = imitation.masked_mean(jnp.square(error), batch)
    return total, {"loss": total, "l1": l1, "kl": kl, "l2": l2, "mse": mse, **errors}


def kl_to_prior(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL(N(m, s^2) || N(0, I)) = sum(m^2 + s^2 - 1 - ln s^2) / 2, in nats.

    Kingma and Welling 2014, https://arxiv.org/abs/1312.6114, appendix B.

    Args:
      mean: m [B, Z].
      log_variance: ln s^2 [B, Z].

    Returns:
      [B].
    """
    variance = jnp.exp(log_variance)
    return 0.5 * (jnp.square(mean) + variance - 1.0 - log_variance).sum(-1)


def _infer(
    setup: Setup,
    network: Params,
    inputs: Observation,
    target: jax.Array,
    mask: Any,
    key: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Posterior of z, mean and log variance [B, Z]; with a key, dropout is on."""
    rngs = None if key is None else {"dropout": key}
    arguments, method = (inputs, target, mask, key is not None), ACTPolicy.infer
    return setup.network.apply({"params": network}, *arguments, rngs=rngs, method=method)


def _predict(
    setup: Setup, network: Params, inputs: Observation, z: jax.Array, key: jax.Array | None = None
) -> jax.Array:
    """Chunk [B, H, A] in network units; with a key, dropout is on."""
    rngs = None if key is None else {"dropout": key}
    arguments, method = (inputs, z, key is not None), ACTPolicy.predict
    chunk = setup.network.apply({"params": network}, *arguments, rngs=rngs, method=method)
    return jnp.asarray(chunk)


def train_step(setup: Setup, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One update; metrics of `loss` and "grad_norm". Randomness: fold_in(key, step)."""
    return imitation.update(setup, loss, state, batch)


def eval_step(setup: Setup, params: Params, batch: Batch) -> Metrics:
    """Metrics of `loss` with z = 0, without augmentation or dropout."""
    return loss(setup, imitation.acting(params), params["norm"], batch, None)[1]


def act(
    setup: Setup, params: Params, observation: Observation, key: jax.Array | None = None
) -> jax.Array:
    """The action chunk for z = 0.

    Args:
      setup: see Setup.
      params: TrainState.params.
      observation: raw, each [B, O, ...].
      key: unused, because the prediction is deterministic.

    Returns:
      [B, H, A] in physical units.
    """
    del key
    inputs = imitation.network_input(setup, params["norm"], observation)
    chunk = _predict(setup, imitation.acting(params), inputs, _prior(setup, inputs))
    return imitation.physical_actions(setup, params["norm"], chunk, inputs)


def _prior(setup: Setup, inputs: Observation, key: jax.Array | None = None) -> jax.Array:
    """Styles [B, Z] drawn from the prior; without a key, its mean."""
    shape = (next(iter(inputs.values())).shape[0], setup.config.latent)
    return jnp.zeros(shape) if key is None else jax.random.normal(key, shape)


def confidence(setup: Setup, params: Params, observation: Observation, key: jax.Array) -> jax.Array:
    """How little the next action depends on style, and on changes that should not matter.

    `imitation.spread_confidence` of the first action over `confidence_draws` draws of both z
    from its prior and a perturbed observation (`imitation.perturbed`): often z says next to
    nothing, and then its spread alone would be no measure. It is not a probability of
    success; evaluation reports how well it is calibrated as one.

    Args:
      setup: see Setup.
      params: TrainState.params.
      observation: raw, each [B, O, ...].
      key: PRNG key of the draws.

    Returns:
      [B] in (0, 1].
    """
    inputs = imitation.network_input(setup, params["norm"], observation)
    keys = jax.random.split(key, setup.config.confidence_draws)
    draw = functools.partial(_drawn_action, setup, imitation.acting(params), inputs)
    return imitation.spread_confidence(jax.lax.map(draw, keys), setup.config.confidence_scale)


def _drawn_action(setup: Setup, network: Params, inputs: Observation, key: jax.Array) -> jax.Array:
    """First action [B, A], in network units, of a drawn style for a perturbed observation."""
    key_z, key_inputs = jax.random.split(key)
    changed = imitation.perturbed(setup, inputs, key_inputs)
    return _predict(setup, network, changed, _prior(setup, inputs, key_z))[:, 0]

"""Behavioural cloning of action chunks.

The network regresses the next H actions of the demonstrator in normalised units:

    loss = sum(mask * (f(o) - a)^2) / (A sum(mask)) + l2 * sum(w^2)

(or |f(o) - a|, see BCConfig.loss) over a batch of windows, where mask drops actions
beyond the end of an episode and w are the weights (not the biases) of the network.

Every function is pure and takes the frozen `Setup` first; `make` binds it. Use either:

    algorithm = bc.make(policy_spec, network_config, config, optimizer, norm)
    state, metrics = jax.jit(algorithm.train_step)(state, batch)

    state, metrics = jax.jit(bc.train_step, static_argnums=0)(setup, state, batch)
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from jaxpolicy.algorithms import imitation
from jaxpolicy.algorithms.imitation import ImitationConfig, Setup
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig, resolve
from jaxpolicy.networks.policy import ChunkPolicy
from jaxpolicy.normalization import NormStats
from jaxpolicy.specs import InputError
from jaxpolicy.types import Algorithm, Batch, Metrics, Observation, Params, PolicySpec, TrainState

__all__ = [
    "BCConfig",
    "act",
    "confidence",
    "eval_step",
    "init",
    "loss",
    "make",
    "make_setup",
    "train_step",
]


LOSSES = ("mse", "l1")


@dataclasses.dataclass(frozen=True)
class BCConfig(ImitationConfig):
    """Behavioural cloning; see ImitationConfig for what it shares with other methods.

    Attributes:
      loss: "mse", or "l1" (absolute errors), which follows the commoner of two demonstrated
        actions instead of their mean, and is less swayed by rare large ones.
    """

    loss: str = "mse"


def make(
    policy_spec: PolicySpec,
    network: NetworkConfig,
    config: BCConfig,
    optimizer: optax.GradientTransformation,
    norm: Mapping[str, NormStats],
    augmentation: AugmentConfig | None = None,
) -> Algorithm:
    """Binds this module's functions.

    Args:
      policy_spec: inputs and outputs.
      network: see NetworkConfig.
      config: see BCConfig.
      optimizer: e.g. optax.adamw(1e-3).
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
    config: BCConfig,
    optimizer: optax.GradientTransformation,
    augmentation: AugmentConfig | None = None,
) -> Setup:
    """Checks the configuration and builds the network.

    Raises:
      InputError: names the key that is wrong.
    """
    if config.loss not in LOSSES:
        raise InputError(f"bc.loss must be one of {LOSSES}, got '{config.loss}'")
    network = resolve(network)
    setup = Setup(
        network=ChunkPolicy(network, policy_spec.horizon, policy_spec.action.size),
        optimizer=optimizer,
        config=config,
        policy_spec=policy_spec,
        image_size=network.image_size,
        augment=augmentation or AugmentConfig(),
    )
    return imitation.make_setup("bc", setup)


def init(setup: Setup, norm: Mapping[str, NormStats], key: jax.Array, batch: Batch) -> TrainState:
    """Random parameters and optimiser state; of `batch` only shapes matter."""
    inputs = imitation.network_input(setup, norm, batch.observation)
    return imitation.init_state(setup, norm, key, inputs)


def loss(
    setup: Setup, network: Params, norm: Params, batch: Batch, key: jax.Array | None
) -> tuple[jax.Array, Metrics]:
    """The loss of the module's header and its terms.

    Args:
      setup: see Setup.
      network: parameters of the network.
      norm: statistics by key.
      batch: see Batch.
      key: PRNG key of augmentation and dropout; None: neither, as at test time.

    Returns:
      The loss [] and metrics, each []: "loss", "mse", "l2" (terms of the loss), and those
      of `imitation.action_errors`.
    """
    key_augment, key_dropout = (None, None) if key is None else jax.random.split(key)
    inputs = imitation.augmented(setup, norm, batch.observation, key_augment)
    predicted = _apply(setup, network, inputs, key_dropout)
    error = predicted - imitation.targets(setup, norm, batch, inputs)
    mse = imitation.masked_mean(jnp.square(error), batch)
    l2 = setup.config.l2 * imitation.squared_weights(network)
    errors = imitation.action_errors(setup, norm, error, batch)
    total = l2 + (mse if setup.config.loss == "mse" else errors["action_error"])
    return total, {"loss": total, "mse": mse, "l2": l2, **errors}


def _apply(
    setup: Setup, network: Params, inputs: Observation, key: jax.Array | None = None
) -> jax.Array:
    """Chunk [B, H, A] in network units; with a key, dropout is on."""
    rngs = None if key is None else {"dropout": key}
    return jnp.asarray(setup.network.apply({"params": network}, inputs, key is not None, rngs=rngs))


def train_step(setup: Setup, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One update; metrics of `loss` and "grad_norm". Randomness: fold_in(key, step)."""
    return imitation.update(setup, loss, state, batch)


def eval_step(setup: Setup, params: Params, batch: Batch) -> Metrics:
    """Metrics of `loss` without augmentation or dropout."""
    return loss(setup, imitation.acting(params), params["norm"], batch, None)[1]


def act(
    setup: Setup, params: Params, observation: Observation, key: jax.Array | None = None
) -> jax.Array:
    """Predicted action chunk.

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
    chunk = _apply(setup, imitation.acting(params), inputs)
    return imitation.physical_actions(setup, params["norm"], chunk, inputs)


def confidence(setup: Setup, params: Params, observation: Observation, key: jax.Array) -> jax.Array:
    """How little the next action moves when the observation is perturbed.

    `imitation.spread_confidence` of the first action over `confidence_draws` copies of the
    observation, see `imitation.perturbed`. It measures stability, the only uncertainty that
    a deterministic policy has; it is not a probability of success, and evaluation reports
    how well it is calibrated as one.

    Args:
      setup: see Setup.
      params: TrainState.params.
      observation: raw, each [B, O, ...].
      key: PRNG key of the perturbations.

    Returns:
      [B] in (0, 1].
    """
    inputs = imitation.network_input(setup, params["norm"], observation)
    keys = jax.random.split(key, setup.config.confidence_draws)
    draw = functools.partial(_perturbed_action, setup, imitation.acting(params), inputs)
    return imitation.spread_confidence(jax.lax.map(draw, keys), setup.config.confidence_scale)


def _perturbed_action(
    setup: Setup, network: Params, inputs: Observation, key: jax.Array
) -> jax.Array:
    """First action [B, A], in network units, for a perturbed observation."""
    return _apply(setup, network, imitation.perturbed(setup, inputs, key))[:, 0]

"""Behavioural cloning of action chunks.

The network predicts the next H actions of the demonstrator in normalised units:

    loss = mean(d(f(o), a)) + l2 * sum(w^2)

over a batch of windows, without the actions beyond the end of an episode, where d belongs
to a head of `networks.heads` (squared errors, a negative log likelihood, ...) and w are the
weights (not the biases) of the network.

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
from jaxpolicy.networks import heads
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig, resolve
from jaxpolicy.networks.heads import HEADS, HeadConfig
from jaxpolicy.networks.policy import ChunkPolicy

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


@dataclasses.dataclass(frozen=True)
class BCConfig(ImitationConfig):
    """Behavioural cloning; see ImitationConfig for what it shares with other methods.

    Attributes:
      head: key of heads.HEADS. Where demonstrators act in two ways, "mse" learns their mean;
        "l1" the commoner one, element by element, and is less swayed by rare large errors;
        "gmm" and "discrete" the likelier one.
      heads: hyperparameters of the heads.
    """

    head: str = "mse"
    heads: HeadConfig = dataclasses.field(default_factory=HeadConfig)


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
    if config.head not in HEADS:
        raise InputError(f"bc.head must be one of {sorted(HEADS)}, got '{config.head}'")
    heads.check(config.heads)
    config = _limited(config)
    network = resolve(network)
    outputs = HEADS[config.head].size(config.heads, policy_spec.action.size)
    setup = Setup(
        network=ChunkPolicy(network, policy_spec.horizon, outputs),
        optimizer=optimizer,
        config=config,
        policy_spec=policy_spec,
        image_size=network.image_size,
        augment=augmentation or AugmentConfig(),
    )
    return imitation.make_setup("bc", setup)


def _limited(config: BCConfig) -> BCConfig:
    """`config` with bins that reach as far as targets do."""
    if config.head != "discrete" or config.heads.bin_limit:
        return config
    limit = imitation.target_reach(config)
    if limit is None:
        raise InputError(
            f"bc.head 'discrete' needs bounds: bc.action_norm must be one of ('min_max', "
            f"'quantile'), or bc.heads.bin_limit above 0, got '{config.action_norm}'"
        )
    return dataclasses.replace(config, heads=dataclasses.replace(config.heads, bin_limit=limit))


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
      The loss [] and metrics, each []: "loss" and its terms, which are named as the head
      and "l2"; "mse" and those of `imitation.action_errors`, of the actions that would act.
    """
    key_augment, key_dropout = (None, None) if key is None else jax.random.split(key)
    inputs = imitation.augmented(setup, norm, batch.observation, key_augment)
    outputs = _apply(setup, network, inputs, key_dropout)
    target = imitation.targets(setup, norm, batch, inputs)
    head, config = HEADS[setup.config.head], setup.config.heads
    term = imitation.masked_mean(head.loss(config, outputs, target), batch)
    l2 = setup.config.l2 * imitation.squared_weights(network)
    error = head.mode(config, outputs) - target
    metrics = {
        "mse": imitation.masked_mean(jnp.square(error), batch),
        **imitation.action_errors(setup, norm, error, batch),
    }
    return term + l2, {"loss": term + l2, setup.config.head: term, "l2": l2, **metrics}


def _apply(
    setup: Setup, network: Params, inputs: Observation, key: jax.Array | None = None
) -> jax.Array:
    """Outputs [B, H, S] of the network; with a key, dropout is on."""
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
      key: unused: the head's mode acts, see heads.Head.

    Returns:
      [B, H, A] in physical units.
    """
    del key
    inputs = imitation.network_input(setup, params["norm"], observation)
    outputs = _apply(setup, imitation.acting(params), inputs)
    chunk = HEADS[setup.config.head].mode(setup.config.heads, outputs)
    return imitation.physical_actions(setup, params["norm"], chunk, inputs)


def confidence(setup: Setup, params: Params, observation: Observation, key: jax.Array) -> jax.Array:
    """How sure the policy is of its next action.

    Heads that predict a distribution tell (see heads.HEADS): how narrow it is, and for a
    mixture how likely the component that acts. For the others it is how little the next
    action moves when the observation is perturbed: `imitation.spread_confidence` over
    `confidence_draws` copies, see `imitation.perturbed`. Neither is a probability of
    success; evaluation reports how well it is calibrated as one.

    Args:
      setup: see Setup.
      params: TrainState.params.
      observation: raw, each [B, O, ...].
      key: PRNG key of the perturbations.

    Returns:
      [B] in [0, 1].
    """
    inputs = imitation.network_input(setup, params["norm"], observation)
    network, config = imitation.acting(params), setup.config
    told = HEADS[config.head].confidence
    if told is not None:
        return told(config.heads, _apply(setup, network, inputs), config.confidence_scale)
    keys = jax.random.split(key, config.confidence_draws)
    draw = functools.partial(_perturbed_action, setup, network, inputs)
    return imitation.spread_confidence(jax.lax.map(draw, keys), config.confidence_scale)


def _perturbed_action(
    setup: Setup, network: Params, inputs: Observation, key: jax.Array
) -> jax.Array:
    """First action [B, A], in network units, for a perturbed observation."""
    outputs = _apply(setup, network, imitation.perturbed(setup, inputs, key))
    return HEADS[setup.config.head].mode(setup.config.heads, outputs)[:, 0]

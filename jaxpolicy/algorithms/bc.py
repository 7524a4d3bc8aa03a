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
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxpolicy import normalization
from jaxpolicy.networks import augment
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig, resolve
from jaxpolicy.networks.policy import ChunkPolicy
from jaxpolicy.normalization import NormStats
from jaxpolicy.specs import PREVIOUS_ACTION, InputError, is_camera
from jaxpolicy.types import Algorithm, Batch, Metrics, Observation, Params, PolicySpec, TrainState

__all__ = [
    "BCConfig",
    "Setup",
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
class BCConfig:
    """Behavioural cloning.

    Attributes:
      l2: weight of the sum of squared weights in the loss.
      action_norm: how actions are normalised, one of normalization.METHODS.
      loss: "mse", or "l1" (absolute errors), which follows the commoner of two demonstrated
        actions instead of their mean, and is less swayed by rare large ones.
      residual: the network predicts the change from the previous action, which must be an
        input (data.previous_action).
      proprio_norm: how proprioception is normalised.
      confidence_draws: perturbed copies that `confidence` compares.
      confidence_noise: standard deviation of their proprioception, in network units.
      confidence_scale: spread of actions, in network units, at which `confidence` has
        fallen to 1 / e.
    """

    l2: float = 1e-6
    action_norm: str = "min_max"
    loss: str = "mse"
    residual: bool = False
    proprio_norm: str = "mean_std"
    confidence_draws: int = 8
    confidence_noise: float = 0.02
    confidence_scale: float = 0.1


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything the functions of this module need besides arrays; hashable.

    Attributes:
      network: (normalised observation, train) -> [B, H, A] in network units.
      optimizer: updates the network's parameters.
      config: see BCConfig.
      policy_spec: inputs and outputs.
      image_size: see NetworkConfig.
      augment: random changes of the images while training.
    """

    network: nn.Module
    optimizer: optax.GradientTransformation
    config: BCConfig
    policy_spec: PolicySpec
    image_size: int = 0
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)


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
    statistics = _check_norm(policy_spec, norm)
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
    for key in ("action_norm", "proprio_norm"):
        method = getattr(config, key)
        if method not in normalization.METHODS:
            raise InputError(f"bc.{key} must be one of {normalization.METHODS}, got '{method}'")
    for key, lowest in (("l2", 0), ("confidence_draws", 2), ("confidence_noise", 0)):
        if getattr(config, key) < lowest:
            raise InputError(f"bc.{key} must be at least {lowest}, got {getattr(config, key)}")
    if config.confidence_scale <= 0:
        raise InputError(f"bc.confidence_scale must be positive, got {config.confidence_scale}")
    if not policy_spec.observation:
        raise InputError("a policy needs at least one observation: a camera or 'proprio'")
    if config.loss not in LOSSES:
        raise InputError(f"bc.loss must be one of {LOSSES}, got '{config.loss}'")
    names = [s.name for s in policy_spec.observation]
    if config.residual and PREVIOUS_ACTION not in names:
        raise InputError("bc.residual needs the previous action; set data.previous_action=True")
    network = resolve(network)
    module = ChunkPolicy(network, policy_spec.horizon, policy_spec.action.size)
    return Setup(
        network=module,
        optimizer=optimizer,
        config=config,
        policy_spec=policy_spec,
        image_size=network.image_size,
        augment=augmentation or AugmentConfig(),
    )


def _check_norm(policy_spec: PolicySpec, norm: Mapping[str, NormStats]) -> dict[str, NormStats]:
    """The statistics that the policy uses, as NumPy or JAX arrays of the right length."""
    sizes = {s.name: s.shape[-1] for s in policy_spec.observation if s.name == "proprio"}
    sizes["action"] = policy_spec.action.size
    for key, size in sizes.items():
        if key not in norm:
            raise InputError(f"statistics of '{key}' are missing; fit them on the training split")
        got = norm[key].mean.shape
        if got != (size,):
            raise InputError(f"statistics of '{key}' must have shape [{size}], got {list(got)}")
    return {key: norm[key] for key in sorted(sizes)}


def init(setup: Setup, norm: Mapping[str, NormStats], key: jax.Array, batch: Batch) -> TrainState:
    """Random parameters and optimiser state; of `batch` only shapes matter."""
    key_network, key_state = jax.random.split(key)
    observation = _network_input(setup, norm, batch.observation)
    network = setup.network.init(key_network, observation)["params"]
    # Copies, so that donating the state never frees the caller's statistics.
    statistics = jax.tree.map(lambda x: jnp.array(x, jnp.float32), dict(norm))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params={"network": network, "norm": statistics},
        opt_state=setup.optimizer.init(network),
        key=key_state,
    )


def _network_input(setup: Setup, norm: Params, observation: Observation) -> dict[str, Any]:
    """Declared inputs only: images resized, proprioception in network units."""
    result = {}
    for spec in setup.policy_spec.observation:
        if spec.name not in observation:
            raise InputError(f"observation lacks '{spec.name}'; it holds {sorted(observation)}")
        value = observation[spec.name]
        if is_camera(spec.name):
            value = augment.resize(value, setup.image_size)
        elif spec.name == "proprio":
            value = normalization.normalize(norm["proprio"], value, setup.config.proprio_norm)
        elif spec.name == PREVIOUS_ACTION:
            value = normalization.normalize(norm["action"], value, setup.config.action_norm)
        result[spec.name] = value
    return result


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
      The loss [] and metrics, each []: "loss", "mse", "l2" (terms of the loss),
      "action_error" (mean absolute error, network units), and "action_error_m",
      "action_error_rad" (over the elements with that unit, where there are any).
    """
    observation = _network_input(setup, norm, batch.observation)
    key_dropout = None
    if key is not None:
        key_augment, key_dropout = jax.random.split(key)
        observation = augment.augment_observation(key_augment, observation, setup.augment)
    predicted = _apply(setup, network, observation, key_dropout)
    target = normalization.normalize(norm["action"], batch.action, setup.config.action_norm)
    mask = batch.action_mask.astype(jnp.float32)[..., None]
    mse = _masked_mean(jnp.square(predicted - target), mask)
    l2 = setup.config.l2 * _squared_weights(network)
    errors = _errors(setup, norm, jnp.abs(predicted - target), mask)
    total = l2 + (mse if setup.config.loss == "mse" else errors["action_error"])
    return total, {"loss": total, "mse": mse, "l2": l2, **errors}


def _apply(
    setup: Setup, network: Params, network_input: Observation, key: jax.Array | None = None
) -> jax.Array:
    """Chunk [B, H, A] in network units; with a key, dropout is on."""
    rngs = None if key is None else {"dropout": key}
    train = key is not None
    variables = {"params": network}
    chunk = jnp.asarray(setup.network.apply(variables, network_input, train, rngs=rngs))
    if setup.config.residual:
        chunk = chunk + network_input[PREVIOUS_ACTION][:, -1:]
    return chunk


def _masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of [B, H, A] where mask [B, H, 1] is 1."""
    return (values * mask).sum() / jnp.maximum(mask.sum() * values.shape[-1], 1.0)


def _squared_weights(network: Params) -> jax.Array:
    """Sum of squares of all arrays with two or more axes (kernels, not biases)."""
    kernels = [x for x in jax.tree.leaves(network) if x.ndim > 1]
    return sum((jnp.square(x).sum() for x in kernels), jnp.zeros(()))


def _errors(setup: Setup, norm: Params, error: jax.Array, mask: jax.Array) -> Metrics:
    """Mean absolute errors; `error` [B, H, A] is absolute, in network units."""
    method = setup.config.action_norm
    zero = normalization.denormalize(norm["action"], jnp.zeros_like(error), method)
    physical = jnp.abs(normalization.denormalize(norm["action"], error, method) - zero)
    result = {"action_error": _masked_mean(error, mask)}
    for unit in ("m", "rad"):
        index = setup.policy_spec.action.indices_of_unit(unit)
        if index:
            result[f"action_error_{unit}"] = _masked_mean(physical[..., list(index)], mask)
    return result


def train_step(setup: Setup, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One update; metrics of `loss` and "grad_norm". Randomness: fold_in(key, step)."""
    key = jax.random.fold_in(state.key, state.step)
    network, norm = state.params["network"], state.params["norm"]
    gradient_of = jax.grad(loss, argnums=1, has_aux=True)
    gradient, metrics = gradient_of(setup, network, norm, batch, key)
    updates, opt_state = setup.optimizer.update(gradient, state.opt_state, network)
    params = {"network": optax.apply_updates(network, updates), "norm": norm}
    metrics = {**metrics, "grad_norm": optax.tree.norm(gradient)}
    return TrainState(state.step + 1, params, opt_state, state.key), metrics


def eval_step(setup: Setup, params: Params, batch: Batch) -> Metrics:
    """Metrics of `loss` without augmentation or dropout."""
    return loss(setup, params["network"], params["norm"], batch, None)[1]


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
    network_input = _network_input(setup, params["norm"], observation)
    chunk = _apply(setup, params["network"], network_input)
    method = setup.config.action_norm
    return normalization.denormalize(params["norm"]["action"], chunk, method)


def confidence(setup: Setup, params: Params, observation: Observation, key: jax.Array) -> jax.Array:
    """How little the next action moves when the observation is perturbed.

    exp(-s / confidence_scale), with s the standard deviation of the chunk's first
    action in network units, averaged over its elements, over `confidence_draws` copies
    whose images are shifted at random (by up to `augment.shift`, at least 1 pixel) and whose
    proprioception is noisy. It measures stability, the only uncertainty that a
    deterministic policy has; it is not a probability of success, and evaluation reports
    how well it is calibrated as one.

    Args:
      setup: see Setup.
      params: TrainState.params.
      observation: raw, each [B, O, ...].
      key: PRNG key of the perturbations.

    Returns:
      [B] in (0, 1].
    """
    network_input = _network_input(setup, params["norm"], observation)
    keys = jax.random.split(key, setup.config.confidence_draws)
    perturbed_action = functools.partial(_perturbed_action, setup, params, network_input)
    actions = jax.lax.map(perturbed_action, keys)
    spread = actions.std(0).mean(-1)
    return jnp.exp(-spread / setup.config.confidence_scale)


def _perturbed_action(
    setup: Setup, params: Params, network_input: Observation, key: jax.Array
) -> jax.Array:
    """First action [B, A], in network units, for a perturbed observation."""
    key_shift, key_noise = jax.random.split(key)
    shifting = AugmentConfig(shift=max(setup.augment.shift, 1))
    shifted = augment.augment_observation(key_shift, network_input, shifting)
    if "proprio" in shifted:
        proprio = shifted["proprio"]
        noise = jax.random.normal(key_noise, proprio.shape)
        shifted["proprio"] = proprio + setup.config.confidence_noise * noise
    return _apply(setup, params["network"], shifted)[:, 0]

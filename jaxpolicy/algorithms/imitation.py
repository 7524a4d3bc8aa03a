"""What methods that learn from demonstrations share: inputs, targets, and the update.

A method defines `loss(setup, network, norm, batch, key) -> (loss, metrics)`; everything
around it is here:

    network_input -> augmented -> (the method's network) -> loss against `targets`
    update: gradient of `loss` over micro-batches -> optimiser -> moving average

Actions and proprioception are physical outside and in network units inside; statistics
are part of the parameters, so that a checkpoint acts on its own.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxpolicy.core import normalization
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import PREVIOUS_ACTION, VECTORS, InputError, is_camera
from jaxpolicy.core.types import Batch, Metrics, Observation, Params, PolicySpec, TrainState
from jaxpolicy.networks import augment
from jaxpolicy.networks.augment import AugmentConfig

__all__ = [
    "ConfidenceConfig",
    "EMAConfig",
    "ImitationConfig",
    "Loss",
    "Setup",
    "acting",
    "action_errors",
    "augmented",
    "average",
    "check_confidence",
    "check_lowest",
    "check_norm",
    "ema_decay",
    "init_state",
    "make_setup",
    "masked_mean",
    "network_input",
    "perturbed",
    "physical_actions",
    "spread_confidence",
    "squared_weights",
    "target_reach",
    "targets",
    "update",
]


@dataclasses.dataclass(frozen=True)
class EMAConfig:
    """Exponential moving average of the network's parameters, which then acts.

    Attributes:
      max_decay: largest decay per update, below 1; 0: no average is kept.
      power: how fast the decay grows, see `ema_decay`.
    """

    max_decay: float = 0.0
    power: float = 0.75


@dataclasses.dataclass(frozen=True)
class ConfidenceConfig:
    """How a policy measures its confidence, however it is trained.

    Attributes:
      confidence_draws: copies or samples whose spread `confidence` measures.
      confidence_noise: standard deviation of the noise on proprioception in perturbed
        copies, in network units.
      confidence_scale: spread of actions, in network units, at which `confidence` has
        fallen to 1 / e.
    """

    confidence_draws: int = 8
    confidence_noise: float = 0.02
    confidence_scale: float = 0.1


@dataclasses.dataclass(frozen=True)
class ImitationConfig(ConfidenceConfig):
    """What all methods that learn from demonstrations have in common.

    Attributes:
      l2: weight of the sum of squared weights in the loss.
      action_norm: how actions are normalised, one of normalization.METHODS.
      proprio_norm: how proprioception (and the simulator's state) is normalised.
      residual: the network predicts the change from the previous action, which must be an
        input (data.previous_action).
      accumulation: parts into which a batch is split, whose gradients are averaged: less
        memory, same update. Must divide the batch (on every device).
      ema: see EMAConfig.
    """

    l2: float = 1e-6
    action_norm: str = "min_max"
    proprio_norm: str = "mean_std"
    residual: bool = False
    accumulation: int = 1
    ema: EMAConfig = dataclasses.field(default_factory=EMAConfig)


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything the functions of a method need besides arrays; hashable.

    Attributes:
      network: the method's module.
      optimizer: updates the network's parameters.
      config: the method's configuration.
      policy_spec: inputs and outputs.
      image_size: see NetworkConfig.
      augment: random changes of the images while training.
    """

    network: nn.Module
    optimizer: optax.GradientTransformation
    config: Any
    policy_spec: PolicySpec
    image_size: int = 0
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)


# (setup, network parameters, statistics, batch, key or None) -> (loss [], metrics [] each).
# With a key it augments and drops out, without one it is as at test time.
Loss = Callable[
    [Setup, Params, Params, Batch, jax.Array | None], tuple[jax.Array, Mapping[str, Any]]
]


def make_setup(name: str, setup: Setup) -> Setup:
    """`setup`, checked.

    Args:
      name: of the method, as its section of the configuration is called.
      setup: see Setup.

    Raises:
      InputError: names the key that is wrong.
    """
    config, spec = setup.config, setup.policy_spec
    for key in ("action_norm", "proprio_norm"):
        method = getattr(config, key)
        if method not in normalization.METHODS:
            raise InputError(f"{name}.{key} must be one of {normalization.METHODS}, got '{method}'")
    check_lowest(name, config, {"l2": 0, "accumulation": 1})
    check_confidence(name, config)
    if not 0.0 <= config.ema.max_decay < 1.0:
        raise InputError(f"{name}.ema.max_decay must be in [0, 1), got {config.ema.max_decay}")
    if not spec.observation:
        raise InputError("a policy needs at least one observation: a camera or 'proprio'")
    if config.residual and PREVIOUS_ACTION not in [s.name for s in spec.observation]:
        raise InputError(f"{name}.residual needs the previous action: data.previous_action=True")
    return setup


def check_lowest(name: str, config: Any, lowest: Mapping[str, float]) -> None:
    """Raises InputError where a value of section `name` lies below its lowest one."""
    for key, low in lowest.items():
        if getattr(config, key) < low:
            raise InputError(f"{name}.{key} must be at least {low}, got {getattr(config, key)}")


def check_confidence(name: str, config: ConfidenceConfig) -> None:
    """Raises InputError where a value of section `name` is wrong."""
    check_lowest(name, config, {"confidence_draws": 2, "confidence_noise": 0})
    if config.confidence_scale <= 0:
        raise InputError(f"{name}.confidence_scale must be above 0, got {config.confidence_scale}")


def target_reach(config: ImitationConfig) -> float | None:
    """How far `targets` reach in network units; None: `action_norm` knows no bounds.

    Normalised actions lie in [-1, 1], so their changes (`residual`) lie in [-2, 2].
    """
    if config.action_norm not in ("min_max", "quantile"):
        return None
    return 2.0 if config.residual else 1.0


def check_norm(policy_spec: PolicySpec, norm: Mapping[str, NormStats]) -> dict[str, NormStats]:
    """The statistics that the policy uses: of "action" [A] and of inputs in specs.VECTORS.

    Raises:
      InputError: one is missing or has the wrong length.
    """
    sizes = {s.name: s.shape[-1] for s in policy_spec.observation if s.name in VECTORS}
    sizes["action"] = policy_spec.action.size
    for key, size in sizes.items():
        if key not in norm:
            raise InputError(f"statistics of '{key}' are missing; fit them on the training split")
        got = norm[key].mean.shape
        if got != (size,):
            raise InputError(f"statistics of '{key}' must have shape [{size}], got {list(got)}")
    return {key: norm[key] for key in sorted(sizes)}


def init_state(setup: Setup, norm: Mapping[str, NormStats], key: jax.Array, *inputs: Any) -> Any:
    """Random parameters and optimiser state.

    Args:
      setup: see Setup.
      norm: statistics by key.
      key: PRNG key.
      *inputs: arguments of the network, of which only shapes matter.
    """
    key_network, key_state = jax.random.split(key)
    network = setup.network.init(key_network, *inputs)["params"]
    # Copies, so that donating the state never frees the caller's statistics.
    statistics = jax.tree.map(lambda x: jnp.array(x, jnp.float32), dict(norm))
    params = {"network": network, "norm": statistics}
    if setup.config.ema.max_decay:
        params["ema"] = jax.tree.map(jnp.copy, network)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=setup.optimizer.init(network),
        key=key_state,
    )


def acting(params: Params) -> Params:
    """The network's parameters that act: their moving average where one is kept."""
    return params.get("ema", params["network"])


# ---------------------------------------------------------------- inputs and targets


def network_input(setup: Setup, norm: Params, observation: Observation) -> dict[str, Any]:
    """Declared inputs only: images resized, numbers in network units.

    Raises:
      InputError: `observation` lacks one.
    """
    result = {}
    for spec in setup.policy_spec.observation:
        if spec.name not in observation:
            raise InputError(f"observation lacks '{spec.name}'; it holds {sorted(observation)}")
        value = observation[spec.name]
        if is_camera(spec.name):
            value = augment.resize(value, setup.image_size)
        elif spec.name in VECTORS:
            value = normalization.normalize(norm[spec.name], value, setup.config.proprio_norm)
        elif spec.name == PREVIOUS_ACTION:
            value = normalization.normalize(norm["action"], value, setup.config.action_norm)
        result[spec.name] = value
    return result


def augmented(
    setup: Setup, norm: Params, observation: Observation, key: jax.Array | None
) -> dict[str, Any]:
    """`network_input`, changed at random as configured; not with None as key."""
    found = network_input(setup, norm, observation)
    return found if key is None else augment.augment_observation(key, found, setup.augment)


def targets(setup: Setup, norm: Params, batch: Batch, inputs: Observation) -> jax.Array:
    """What the network is to predict, [B, H, A] in network units; inverse: physical_actions."""
    action = normalization.normalize(norm["action"], batch.action, setup.config.action_norm)
    return action - _base(setup, inputs)


def physical_actions(
    setup: Setup, norm: Params, chunk: jax.Array, inputs: Observation
) -> jax.Array:
    """Predictions [B, H, A] in network units -> actions in physical units."""
    action = chunk + _base(setup, inputs)
    return normalization.denormalize(norm["action"], action, setup.config.action_norm)


def _base(setup: Setup, inputs: Observation) -> Any:
    """What predictions are relative to: the previous action [B, 1, A], or nothing."""
    return inputs[PREVIOUS_ACTION][:, -1:] if setup.config.residual else 0.0


# ------------------------------------------------------------------- terms of losses


def masked_mean(values: jax.Array, batch: Batch) -> jax.Array:
    """Mean of [B, H, ...] over the actions that exist (batch.action_mask [B, H])."""
    mask = jnp.asarray(batch.action_mask, jnp.float32)
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - 2))
    size = values[0, 0].size
    return (values * mask).sum() / jnp.maximum(mask.sum() * size, 1.0)


def squared_weights(network: Params) -> jax.Array:
    """Sum of squares of all arrays with two or more axes (kernels, not biases)."""
    kernels = [x for x in jax.tree.leaves(network) if x.ndim > 1]
    return sum((jnp.square(x).sum() for x in kernels), jnp.zeros(()))


def action_errors(setup: Setup, norm: Params, error: jax.Array, batch: Batch) -> Metrics:
    """Mean absolute errors.

    Args:
      setup: see Setup.
      norm: statistics by key.
      error: [B, H, A], in network units.
      batch: its mask says which count.

    Returns:
      "action_error" (network units), and "action_error_m", "action_error_rad" over the
      elements with that unit, where there are any.
    """
    error, method = jnp.abs(error), setup.config.action_norm
    zero = normalization.denormalize(norm["action"], jnp.zeros_like(error), method)
    physical = jnp.abs(normalization.denormalize(norm["action"], error, method) - zero)
    result = {"action_error": masked_mean(error, batch)}
    for unit in ("m", "rad"):
        index = setup.policy_spec.action.indices_of_unit(unit)
        if index:
            result[f"action_error_{unit}"] = masked_mean(physical[..., list(index)], batch)
    return result


# ------------------------------------------------------------------------- the update


def update(setup: Setup, loss: Loss, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One update: gradient of `loss`, optimiser, moving average.

    Returns:
      The new state, and the metrics of `loss` with "grad_norm". Randomness is
      fold_in(state.key, state.step).
    """
    key = jax.random.fold_in(state.key, state.step)
    network = state.params["network"]
    gradient, metrics = _gradient(setup, loss, state.params, batch, key)
    updates, opt_state = setup.optimizer.update(gradient, state.opt_state, network)
    network = optax.apply_updates(network, updates)
    params = {**state.params, "network": network}
    if setup.config.ema.max_decay:
        params["ema"] = average(setup.config.ema, params["ema"], network, state.step)
    metrics = {**metrics, "grad_norm": optax.tree.norm(gradient)}
    return TrainState(state.step + 1, params, opt_state, state.key), metrics


def _gradient(
    setup: Setup, loss: Loss, params: Params, batch: Batch, key: jax.Array
) -> tuple[Params, Metrics]:
    """Gradient and metrics, averaged over the parts of the batch."""
    n = setup.config.accumulation
    of = functools.partial(jax.grad(loss, argnums=1, has_aux=True), setup)
    if n == 1:
        return of(params["network"], params["norm"], batch, key)
    parts = jax.tree.map(functools.partial(_parts, n), batch), jax.random.split(key, n)
    add = functools.partial(_add_part, of, params)
    shapes = jax.eval_shape(of, params["network"], params["norm"], *jax.tree.map(_first, parts))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda x: x / n, total)


def _parts(n: int, x: Any) -> jax.Array:
    """[B, ...] -> [n, B / n, ...], every n-th row together: each stays on its device."""
    x = jnp.asarray(x)
    if x.shape[0] % n:
        raise InputError(f"accumulation ({n}) must divide the batch of {x.shape[0]}")
    return x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1)


def _first(x: jax.Array) -> jax.Array:
    return x[0]


def _add_part(of: Callable[..., Any], params: Params, total: Any, part: Any) -> tuple[Any, None]:
    batch, key = part
    found = of(params["network"], params["norm"], batch, key)
    return jax.tree.map(jnp.add, total, found), None


def ema_decay(config: EMAConfig, step: jax.Array) -> jax.Array:
    """min(max_decay, 1 - (1 + step)^-power): 0 at first, so that the start is forgotten.

    The warm-up of Crowson's k-diffusion, as diffusion policies use it
    (https://arxiv.org/abs/2303.04137, appendix); `step` counts the updates before this one.
    """
    return jnp.minimum(config.max_decay, 1.0 - (1.0 + step) ** -config.power)


def average(config: EMAConfig, ema: Params, network: Params, step: jax.Array) -> Params:
    """The new average: decay * ema + (1 - decay) * network."""
    decay = ema_decay(config, step)
    return jax.tree.map(lambda e, x: x + decay * (e - x), ema, network)


# -------------------------------------------------------------------------- confidence


def perturbed(setup: Any, inputs: Observation, key: jax.Array) -> dict[str, Any]:
    """`inputs` with changes that should not matter to a policy.

    Images are shifted at random (by up to `augment.shift`, at least 1 pixel), and
    numbers are noisy (`confidence_noise`).
    """
    key_shift, key_noise = jax.random.split(key)
    shifting = AugmentConfig(shift=max(setup.augment.shift, 1))
    result = augment.augment_observation(key_shift, inputs, shifting)
    for i, name in enumerate(v for v in VECTORS if v in result):
        noise = jax.random.normal(jax.random.fold_in(key_noise, i), result[name].shape)
        result[name] = result[name] + setup.config.confidence_noise * noise
    return result


def spread_confidence(actions: jax.Array, scale: float) -> jax.Array:
    """exp(-s / scale), s the standard deviation over draws, averaged over elements.

    Args:
      actions: [D, B, A], draws of the next action, network units.
      scale: spread at which confidence is 1 / e.

    Returns:
      [B] in (0, 1].
    """
    return jnp.exp(-actions.std(0).mean(-1) / scale)

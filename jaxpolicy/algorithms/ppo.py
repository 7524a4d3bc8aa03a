"""Proximal policy optimisation (Schulman et al. 2017, https://arxiv.org/abs/1707.06347).

A batch is a Rollout [T, E, ...] of the policy that is being improved. Advantages are those
of `returns.gae`, and several epochs of minibatches maximise

    min(r A, clip(r, 1 - clip, 1 + clip) A),     r = exp(log p_new - log p_old)

while a critic, which may see more than the policy (asymmetric actor-critic, Pinto et al. 2017,
https://arxiv.org/abs/1710.06542), follows the targets. Whatever acts by K random choices whose
log probabilities are known can be trained so, see `actors.Actor`.

Every function is pure and takes the frozen `Setup` first; `make` binds it:

    algorithm = ppo.make(policy_spec, network_config, config, optimizer, norm)
    state, metrics = jax.jit(algorithm.train_step)(state, rollout)

Axis letters: T decisions, E worlds, K random choices, M minibatches, S shards.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxpolicy.algorithms import actors, imitation, returns
from jaxpolicy.algorithms.actors import Actor
from jaxpolicy.algorithms.imitation import ConfidenceConfig
from jaxpolicy.algorithms.returns import RewardScale
from jaxpolicy.core import normalization
from jaxpolicy.core.normalization import NormStats, RunningStats
from jaxpolicy.core.specs import VECTORS, ArraySpec, InputError, is_camera
from jaxpolicy.core.types import (
    Algorithm,
    Metrics,
    Observation,
    Params,
    PolicySpec,
    Rollout,
    TrainState,
)
from jaxpolicy.networks import augment
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig, resolve
from jaxpolicy.networks.policy import ChunkPolicy, ValueNetwork

__all__ = [
    "OptState",
    "PPOConfig",
    "Setup",
    "act",
    "advantages",
    "bind",
    "check",
    "confidence",
    "eval_step",
    "example_samples",
    "explore",
    "init",
    "loss",
    "make",
    "make_setup",
    "network_input",
    "optimizer_steps",
    "physical_actions",
    "policy_loss",
    "train_step",
    "value_loss",
]

# Factors of the adaptive learning rate, and the range of their product.
_FASTER, _SLOWEST, _FASTEST = 1.5, 0.01, 10.0


@dataclasses.dataclass(frozen=True)
class PPOConfig(ConfidenceConfig):
    """Proximal policy optimisation; see ConfidenceConfig for what it shares with other methods.

    Attributes:
      n_worlds: E, worlds that are driven at once.
      steps: T, decisions per world and update.
      epochs: passes over a rollout.
      minibatches: parts of a rollout per epoch.
      discount: gamma, per decision.
      trace_decay: lambda of generalised advantage estimation.
      clip: of the probability ratio.
      value_clip: largest change of a value per update; 0: any.
      value_weight, entropy_weight: of the terms of the loss.
      target_kl: divergence per update around which the learning rate is held: it falls by a
        factor of 1.5 above twice the target, and rises below half of it; 0: it does not adapt.
      stop_kl: divergence at which an update ends early; 0: never.
      initial_std: standard deviation of actions at the start, in network units.
      min_std: it never falls below.
      squash: the mean action is a tanh of the network's output, so it stays within limits.
      normalize_rewards: rewards are divided by the spread of their discounted sums.
      norm_clip: normalised observations are clipped to +- this.
      freeze_norm: statistics of what the policy sees do not change.
      critic_warmup: first updates, in which only the critic learns.
      reference_weight: of the divergence from the policy that training started from.
      action_norm: how actions are normalised, one of normalization.METHODS.
    """

    n_worlds: int = 256
    steps: int = 50
    epochs: int = 6
    minibatches: int = 8
    discount: float = 0.95
    trace_decay: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.0
    value_weight: float = 0.5
    entropy_weight: float = 0.0
    target_kl: float = 0.02
    stop_kl: float = 0.0
    initial_std: float = 0.6
    min_std: float = 0.2
    squash: bool = True
    normalize_rewards: bool = False
    norm_clip: float = 6.0
    freeze_norm: bool = False
    critic_warmup: int = 0
    critic_rate: float = 1.0
    reference_weight: float = 0.0
    action_norm: str = "min_max"


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything the functions of this module need besides arrays; hashable.

    Attributes:
      actor: how actions are drawn from the network's outputs.
      network, critic: modules.
      optimizer: updates the parameters of both.
      config: see PPOConfig.
      policy_spec: inputs and outputs; `critic` is what the critic sees.
      image_size: see NetworkConfig.
      augment: shifts of the images in perturbed copies, see imitation.perturbed.
      shards: S, parts of the worlds that never exchange a step: one per device.
    """

    actor: Actor
    network: nn.Module
    critic: nn.Module
    optimizer: optax.GradientTransformation
    config: PPOConfig
    policy_spec: PolicySpec
    image_size: int = 0
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    shards: int = 1


class OptState(NamedTuple):
    """All that an update needs besides parameters.

    Attributes:
      optimizer: state of Setup.optimizer.
      rate: factor on the learning rate, float32 [].
      scale: see RewardScale.
    """

    optimizer: Any
    rate: jax.Array
    scale: RewardScale


class _Samples(NamedTuple):
    """A rollout with what is learned from it, each [S, N, ...] or a part of that."""

    observation: Observation
    trace: Any
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


class _Carry(NamedTuple):
    """What changes from minibatch to minibatch."""

    network: Params
    optimizer: Any
    rate: jax.Array
    stopped: jax.Array


# ---------------------------------------------------------------------------- making it


def make(
    policy_spec: PolicySpec,
    network: NetworkConfig,
    config: PPOConfig,
    optimizer: optax.GradientTransformation,
    norm: Mapping[str, NormStats],
    augmentation: AugmentConfig | None = None,
    shards: int = 1,
) -> Algorithm:
    """Binds this module's functions.

    Args:
      policy_spec: inputs and outputs.
      network: of policy and critic, see NetworkConfig.
      config: see PPOConfig.
      optimizer: e.g. optax.adam(1e-3).
      norm: statistics of "action" [A].
      augmentation: see AugmentConfig; None: its defaults.
      shards: devices over which worlds are split.

    Raises:
      InputError: a value or a statistic is wrong or missing.
    """
    setup = make_setup(policy_spec, network, config, optimizer, augmentation, shards)
    return bind(setup, norm)


def bind(setup: Setup, norm: Mapping[str, NormStats]) -> Algorithm:
    """The functions of this module with `setup`, and `norm` of "action", bound.

    Raises:
      InputError: those statistics are missing.
    """
    if "action" not in norm:
        raise InputError("statistics of 'action' are missing")
    return Algorithm(
        init=functools.partial(init, setup, {"action": norm["action"]}),
        train_step=functools.partial(train_step, setup),
        eval_step=functools.partial(eval_step, setup),
        act=functools.partial(act, setup),
        confidence=functools.partial(confidence, setup),
        explore=functools.partial(explore, setup),
    )


def make_setup(
    policy_spec: PolicySpec,
    network: NetworkConfig,
    config: PPOConfig,
    optimizer: optax.GradientTransformation,
    augmentation: AugmentConfig | None = None,
    shards: int = 1,
) -> Setup:
    """Checks the configuration and builds both networks.

    Raises:
      InputError: names the key that is wrong.
    """
    check("ppo", config, policy_spec, shards)
    network = resolve(network)
    return Setup(
        actor=actors.GAUSSIAN,
        network=ChunkPolicy(network, policy_spec.horizon, policy_spec.action.size),
        critic=ValueNetwork(network),
        optimizer=optimizer,
        config=config,
        policy_spec=policy_spec,
        image_size=network.image_size,
        augment=augmentation or AugmentConfig(),
        shards=shards,
    )


_LOWEST = {
    **dict.fromkeys(("n_worlds", "steps", "epochs", "minibatches"), 1),
    **dict.fromkeys(("value_clip", "value_weight", "target_kl", "stop_kl", "min_std"), 0),
    **dict.fromkeys(("critic_warmup", "reference_weight"), 0),
}


def check(name: str, config: PPOConfig, policy_spec: PolicySpec, shards: int) -> None:
    """Checks the values.

    Args:
      name: of the method, as its section of the configuration is called.
      config: see PPOConfig.
      policy_spec: inputs and outputs.
      shards: devices.

    Raises:
      InputError: names the key that is wrong.
    """
    imitation.check_lowest(name, config, _LOWEST)
    imitation.check_confidence(name, config)
    for key in ("discount", "trace_decay"):
        if not 0.0 <= getattr(config, key) <= 1.0:
            raise InputError(f"{name}.{key} must be in [0, 1], got {getattr(config, key)}")
    for key in ("clip", "norm_clip", "initial_std", "critic_rate"):
        if getattr(config, key) <= 0.0:
            raise InputError(f"{name}.{key} must be above 0, got {getattr(config, key)}")
    if config.initial_std <= config.min_std:
        raise InputError(f"{name}.initial_std must be above {name}.min_std ({config.min_std})")
    if config.action_norm not in normalization.METHODS:
        raise InputError(f"{name}.action_norm must be one of {normalization.METHODS}")
    if config.n_worlds % shards:
        raise InputError(
            f"{name}.n_worlds ({config.n_worlds}) must be a multiple of the {shards} devices"
        )
    if config.n_worlds // shards * config.steps % config.minibatches:
        raise InputError(
            f"{name}.minibatches ({config.minibatches}) must divide n_worlds * steps on every "
            f"device ({config.n_worlds // shards * config.steps})"
        )
    if not policy_spec.observation or not policy_spec.critic:
        raise InputError(f"{name}: policy and critic need at least one observation each")


def optimizer_steps(config: PPOConfig, updates: int) -> int:
    """Steps of the optimiser in `updates` updates."""
    return updates * config.epochs * config.minibatches


def init(setup: Setup, norm: Mapping[str, NormStats], key: jax.Array, batch: Any) -> TrainState:
    """Random parameters and the state of an untrained policy; `batch` does not matter."""
    del batch
    key_actor, key_critic, key_state = jax.random.split(key, 3)
    spec = setup.policy_spec
    vectors = {s.name: s for s in (*spec.observation, *spec.critic) if s.name in VECTORS}
    params: dict[str, Any] = {
        "norm": {
            **{k: normalization.init_running(s.shape[-1]) for k, s in sorted(vectors.items())},
            # Copies, so that donating the state never frees the caller's statistics.
            **jax.tree.map(lambda x: jnp.array(x, jnp.float32), dict(norm)),
        }
    }
    observation = _zeros(spec.observation, spec.n_obs_steps)
    inputs = network_input(setup, params["norm"], observation, spec.observation)
    seen = network_input(setup, params["norm"], _zeros(spec.critic, spec.n_obs_steps), spec.critic)
    network = {
        "actor": setup.actor.init(setup, key_actor, inputs),
        "critic": setup.critic.init(key_critic, seen)["params"],
    }
    params["network"] = network
    if setup.config.reference_weight:
        params["reference"] = jax.tree.map(jnp.copy, network["actor"])
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=OptState(
            optimizer=setup.optimizer.init(network),
            rate=jnp.ones(()),
            scale=returns.init_reward_scale(setup.config.n_worlds),
        ),
        key=key_state,
    )


def _zeros(specs: tuple[ArraySpec, ...], n_obs_steps: int) -> dict[str, jax.Array]:
    return {s.name: jnp.zeros((1, n_obs_steps, *s.shape), s.dtype) for s in specs}


# ---------------------------------------------------------------------------- acting


def network_input(
    setup: Setup, norm: Params, observation: Observation, specs: tuple[ArraySpec, ...]
) -> dict[str, Any]:
    """What a network sees of `observation` [B, O, ...]: images resized, numbers normalised.

    Raises:
      InputError: `observation` lacks one of `specs`.
    """
    result = {}
    for spec in specs:
        if spec.name not in observation:
            raise InputError(f"observation lacks '{spec.name}'; it holds {sorted(observation)}")
        value = observation[spec.name]
        if is_camera(spec.name):
            value = augment.resize(value, setup.image_size)
        elif spec.name in VECTORS:
            clip = setup.config.norm_clip
            value = normalization.normalize_running(norm[spec.name], value, clip)
        result[spec.name] = value
    return result


def explore(
    setup: Setup, params: Params, observation: Observation, key: jax.Array
) -> tuple[jax.Array, Any, jax.Array]:
    """Actions to learn from.

    Args:
      setup: see Setup.
      params: TrainState.params.
      observation: raw, each [B, O, ...].
      key: PRNG key.

    Returns:
      Physical actions [B, n_action_steps, A] within their limits, and `trace` and `log_prob`
      of a Rollout, [B, ...].
    """
    inputs = network_input(setup, params["norm"], observation, setup.policy_spec.observation)
    drawn = setup.actor.sample(setup, params["network"]["actor"], inputs, key)
    n = setup.policy_spec.n_action_steps
    return physical_actions(setup, params, drawn.chunk[:, :n]), drawn.trace, drawn.log_prob


def physical_actions(setup: Setup, params: Params, chunk: jax.Array) -> jax.Array:
    """Network units -> physical units, within the limits of the action vector."""
    spec, method = setup.policy_spec.action, setup.config.action_norm
    action = normalization.denormalize(params["norm"]["action"], chunk, method)
    return jnp.clip(action, jnp.asarray(spec.minimum), jnp.asarray(spec.maximum))


def act(
    setup: Setup, params: Params, observation: Observation, key: jax.Array | None = None
) -> jax.Array:
    """The policy's action chunk without exploration; see `bc.act`."""
    inputs = network_input(setup, params["norm"], observation, setup.policy_spec.observation)
    chunk = setup.actor.mode(setup, params["network"]["actor"], inputs, key)
    return physical_actions(setup, params, chunk)


def confidence(setup: Setup, params: Params, observation: Observation, key: jax.Array) -> jax.Array:
    """How little the next action moves when the observation is perturbed; see `bc.confidence`."""
    inputs = network_input(setup, params["norm"], observation, setup.policy_spec.observation)
    keys = jax.random.split(key, setup.config.confidence_draws)
    draw = functools.partial(_perturbed_action, setup, params["network"]["actor"], inputs)
    return imitation.spread_confidence(jax.lax.map(draw, keys), setup.config.confidence_scale)


def _perturbed_action(
    setup: Setup, network: Params, inputs: Observation, key: jax.Array
) -> jax.Array:
    """First action [B, A], in network units, for a perturbed observation."""
    return setup.actor.mode(setup, network, imitation.perturbed(setup, inputs, key), None)[:, 0]


def eval_step(setup: Setup, params: Params, batch: _Samples) -> Metrics:
    """Terms of `loss` for samples [B, ...]; how good a policy is, worlds tell."""
    return loss(setup, params["network"], params, batch)[1]


def example_samples(algorithm: Algorithm, policy_spec: PolicySpec, n: int) -> _Samples:
    """Shapes of `n` samples, as `eval_step` takes them.

    Args:
      algorithm: of this module or `dppo`.
      policy_spec: inputs and outputs.
      n: B.
    """
    explore: Any = algorithm.explore
    specs = {s.name: s for s in (*policy_spec.observation, *policy_spec.critic)}
    shapes = {k: (n, policy_spec.n_obs_steps, *s.shape) for k, s in specs.items()}
    seen = {k: jax.ShapeDtypeStruct(shape, specs[k].dtype) for k, shape in shapes.items()}
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(algorithm.init, key, ()).params
    _, trace, log_prob = jax.eval_shape(explore, params, seen, key)
    number: Any = jax.ShapeDtypeStruct((n,), jnp.float32)
    return _Samples(seen, trace, log_prob, number, number, number)


# ---------------------------------------------------------------------------- learning


def advantages(setup: Setup, params: Params, rollout: Rollout, reward: jax.Array) -> _Samples:
    """A rollout with values, advantages and targets, each still [T, E, ...].

    Args:
      setup: see Setup.
      params: TrainState.params.
      rollout: see Rollout.
      reward: its rewards [T, E], scaled.
    """
    evaluate = functools.partial(_values, setup, params)
    value = jax.lax.map(evaluate, rollout.observation)
    next_value = jax.lax.map(evaluate, rollout.final)
    advantage, target = returns.gae(
        reward,
        value,
        next_value,
        rollout.terminated,
        rollout.ended,
        setup.config.discount,
        setup.config.trace_decay,
    )
    return _Samples(
        observation=rollout.observation,
        trace=rollout.trace,
        log_prob=rollout.log_prob,
        value=value,
        advantage=returns.standardize(advantage),
        target=target,
    )


def _values(setup: Setup, params: Params, observation: Observation) -> jax.Array:
    """Values [B] of the critic for raw windows [B, O, ...]."""
    inputs = network_input(setup, params["norm"], observation, setup.policy_spec.critic)
    return setup.critic.apply({"params": params["network"]["critic"]}, inputs)


def loss(
    setup: Setup, network: Params, params: Params, samples: _Samples
) -> tuple[jax.Array, Metrics]:
    """The loss over samples [B, ...] and its terms, each [].

    Args:
      setup: see Setup.
      network: parameters of actor and critic, which are being trained.
      params: the rest of TrainState.params.
      samples: see `advantages`.
    """
    config, spec, norm = setup.config, setup.policy_spec, params["norm"]
    inputs = network_input(setup, norm, samples.observation, spec.observation)
    with jax.named_scope("actor"):
        log_prob = setup.actor.log_prob(setup, network["actor"], inputs, samples.trace)
    policy, clipped = policy_loss(setup, log_prob, samples)
    seen = network_input(setup, norm, samples.observation, spec.critic)
    with jax.named_scope("critic"):
        value = setup.critic.apply({"params": network["critic"]}, seen)
    value = value_loss(setup, value, samples)
    entropy = setup.actor.entropy(setup, network["actor"])
    total = policy + config.value_weight * value - config.entropy_weight * entropy
    drift = jnp.zeros(())
    if config.reference_weight:
        drift = setup.actor.drift(
            setup, network["actor"], params["reference"], inputs, samples.trace
        ).mean()
        total = total + config.reference_weight * drift
    change = log_prob - samples.log_prob
    return total, {
        "loss": total,
        "policy_loss": policy,
        "value_loss": value,
        "entropy": entropy,
        "drift": drift,
        # The estimator k3 of http://joschu.net/blog/kl-approx.html: unbiased, never negative.
        "kl": (jnp.exp(change) - 1.0 - change).sum(-1).mean(),
        "clipped": clipped,
    }


def policy_loss(
    setup: Setup, log_prob: jax.Array, samples: _Samples
) -> tuple[jax.Array, jax.Array]:
    """The clipped surrogate (Schulman et al. 2017, eq. 7), negated, and the share clipped.

    Args:
      setup: see Setup.
      log_prob: of the actions now, [B, K].
      samples: see `advantages`.

    Returns:
      Both [].
    """
    low, high = 1.0 - setup.config.clip, 1.0 + setup.config.clip
    ratio = jnp.exp(log_prob - samples.log_prob)
    gain = samples.advantage[:, None] * setup.actor.weights(setup)
    worst = jnp.minimum(ratio * gain, jnp.clip(ratio, low, high) * gain)
    return -worst.mean(), ((ratio < low) | (ratio > high)).mean()


def value_loss(setup: Setup, value: jax.Array, samples: _Samples) -> jax.Array:
    """Half of the squared error of values [B], []; the larger one where they are clipped too."""
    error = jnp.square(value - samples.target)
    limit = setup.config.value_clip
    if limit:
        held = samples.value + jnp.clip(value - samples.value, -limit, limit)
        error = jnp.maximum(error, jnp.square(held - samples.target))
    return 0.5 * error.mean()


def train_step(setup: Setup, state: TrainState, batch: Rollout) -> tuple[TrainState, Metrics]:
    """One update: all epochs over a rollout. Randomness: fold_in(key, step).

    Returns:
      The new state, and metrics: terms of `loss` in the last epoch, "rate" (factor on the
      learning rate), "std", "explained_variance", "reward" per decision.
    """
    config, ended = setup.config, batch.ended
    scale = returns.update_reward_scale(state.opt_state.scale, batch.reward, ended, config.discount)
    divisor = returns.reward_std(scale) if config.normalize_rewards else 1.0
    samples = advantages(setup, state.params, batch, batch.reward / divisor)
    start = _Carry(
        network=state.params["network"],
        optimizer=state.opt_state.optimizer,
        rate=state.opt_state.rate,
        stopped=jnp.zeros((), bool),
    )
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), config.epochs)
    learns = jnp.float32(state.step >= config.critic_warmup)
    rows = jax.tree.map(functools.partial(_rows, setup.shards), samples)
    epoch = functools.partial(_epoch, setup, state.params, rows, learns)
    carry, metrics = jax.lax.scan(epoch, start, keys)
    params = {**state.params, "network": carry.network, "norm": _norm(setup, state.params, batch)}
    metrics = {k: v[-1] for k, v in metrics.items()} | {
        "rate": carry.rate,
        "std": setup.actor.std(setup, carry.network["actor"]),
        "explained_variance": returns.explained_variance(samples.value, samples.target),
        "reward": batch.reward.mean(),
    }
    opt_state = OptState(carry.optimizer, carry.rate, scale)
    return TrainState(state.step + 1, params, opt_state, state.key), metrics


def _rows(shards: int, x: jax.Array) -> jax.Array:
    """[T, E, ...] -> [S, T E / S, ...]; worlds stay on their device."""
    t, e = x.shape[:2]
    x = x.reshape(t, shards, e // shards, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0).reshape(shards, -1, *x.shape[3:])


def _epoch(
    setup: Setup, params: Params, rows: _Samples, learns: jax.Array, carry: _Carry, key: jax.Array
) -> tuple[_Carry, Metrics]:
    """A pass over all samples [S, N, ...], shuffled within each shard; mean metrics."""
    shards, n = rows.advantage.shape
    shuffle = jax.vmap(functools.partial(jax.random.permutation, x=n))
    order = shuffle(jax.random.split(key, shards))
    order = jnp.moveaxis(order.reshape(shards, setup.config.minibatches, -1), 1, 0)
    step = functools.partial(_minibatch, setup, params, rows, learns)
    carry, metrics = jax.lax.scan(step, carry, order)
    metrics = jax.tree.map(jnp.mean, metrics)
    return carry._replace(rate=_adapted(setup.config, carry.rate, metrics["kl"], learns)), metrics


def _adapted(
    config: PPOConfig, rate: jax.Array, divergence: jax.Array, learns: jax.Array
) -> jax.Array:
    """The factor on the learning rate after an epoch of this mean divergence."""
    if not config.target_kl:
        return rate
    slower, faster = divergence > 2.0 * config.target_kl, divergence < 0.5 * config.target_kl
    factor = jnp.where(slower, 1.0 / _FASTER, jnp.where(faster, _FASTER, 1.0))
    return jnp.where(learns > 0, jnp.clip(rate * factor, _SLOWEST, _FASTEST), rate)


def _minibatch(
    setup: Setup, params: Params, rows: _Samples, learns: jax.Array, carry: _Carry, index: jax.Array
) -> tuple[_Carry, Metrics]:
    """One step of the optimiser on the samples `index` [S, N / M]; none once it has stopped."""
    samples = jax.tree.map(lambda x: jax.vmap(_take)(x, index), rows)
    samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples)
    of = jax.value_and_grad(functools.partial(loss, setup), has_aux=True)
    (_, metrics), gradient = of(carry.network, params, samples)
    gradient["actor"] = jax.tree.map(lambda g: learns * g, gradient["actor"])
    updates, optimizer = setup.optimizer.update(gradient, carry.optimizer, carry.network)
    rates = {"actor": carry.rate, "critic": carry.rate * setup.config.critic_rate}
    updates = {k: optax.tree.scale(rates[k], v) for k, v in updates.items()}
    network = optax.apply_updates(carry.network, updates)
    stopped = carry.stopped
    if setup.config.stop_kl:
        stopped = stopped | (metrics["kl"] > setup.config.stop_kl)
    keep = functools.partial(jnp.where, stopped)
    return (
        _Carry(
            network=jax.tree.map(keep, carry.network, network),
            optimizer=jax.tree.map(keep, carry.optimizer, optimizer),
            rate=carry.rate,
            stopped=stopped,
        ),
        {**metrics, "grad_norm": optax.tree.norm(gradient)},
    )


def _take(x: jax.Array, index: jax.Array) -> jax.Array:
    return x[index]


def _norm(setup: Setup, params: Params, rollout: Rollout) -> dict[str, Any]:
    """Statistics with a rollout's observations taken in."""
    norm = dict(params["norm"])
    seen = {s.name for s in setup.policy_spec.observation}
    frozen = seen if setup.config.freeze_norm else set()
    for name, stats in norm.items():
        if isinstance(stats, RunningStats) and name not in frozen:
            newest = rollout.observation[name][:, :, -1]
            rows = newest.reshape(-1, newest.shape[-1])
            norm[name] = normalization.update_running(stats, rows)
    return norm

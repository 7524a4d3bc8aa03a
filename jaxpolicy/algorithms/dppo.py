"""Policy gradients through the denoising steps of a diffusion policy (DPPO).

Ren et al. 2024, "Diffusion Policy Policy Optimization", https://arxiv.org/abs/2409.00588. To
denoise is to make N random choices: a step from x_i leads to

    x_{i+1} = m_i(x_i, o) + max(sigma_i, min_sampling_std) z,     i = 0 ... N - 1

where m_i and sigma_i are those of DDIM with `eta`, z is standard normal, x_0 is noise and x_N
the action chunk. Each choice has a known density, so `ppo` applies with one probability ratio
per step, clipped on its own. Choices share the advantage of the decision that they end in, and
step i has the weight denoising_discount^(N - 1 - i), divided by the mean of all weights: of what
early steps decide, much is undone later.

The density is that of the *executed* actions, summed over them: the world knows of no others,
so at the last step they are noise alone, and elsewhere they matter little. It is a sum and
not a mean, so that ratios, `clip` and `target_kl` mean the same as in `ppo`.

Without exploration the policy acts as `diffusion.act` does, by its own sampler.

Axis letters: B batch, N denoising steps, K of them that learn, H horizon, n executed
actions, A action.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxpolicy.algorithms import actors, diffusion, imitation, noise_schedules, ppo, samplers
from jaxpolicy.algorithms.actors import Actor, Draw
from jaxpolicy.algorithms.diffusion import DiffusionConfig
from jaxpolicy.algorithms.ppo import PPOConfig
from jaxpolicy.algorithms.samplers import Sampler
from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import Algorithm, Observation, Params, PolicySpec
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig, resolve
from jaxpolicy.networks.policy import ValueNetwork

__all__ = ["DENOISING", "DPPOConfig", "act_with_noise", "confidence", "make", "make_setup"]


@dataclasses.dataclass(frozen=True)
class DPPOConfig(PPOConfig):
    """Fine-tuning of a diffusion policy; see PPOConfig for what it shares with `ppo`.

    Of that, `initial_std`, `min_std` and `squash` are not used, nor is what confidence is
    measured with, which is `diffusion`'s; `entropy_weight` must be 0.

    Attributes:
      diffusion: of the run that is fine-tuned.
      eta: how much of the noise a step replaces while exploring, see samplers.ddim.
      min_sampling_std: least standard deviation of a step while exploring, in network units.
      min_logprob_std: least one that its density is computed with.
      denoising_discount: weight of a denoising step relative to that of the next one.
      finetune_steps: K, last denoising steps that learn; 0: all.
      target_kl: as there, of all K choices together.
      freeze_norm, critic_warmup, critic_rate: as there.
    """

    diffusion: DiffusionConfig = dataclasses.field(default_factory=DiffusionConfig)
    eta: float = 1.0
    min_sampling_std: float = 0.1
    min_logprob_std: float = 0.1
    denoising_discount: float = 0.9
    finetune_steps: int = 0
    target_kl: float = 0.2
    freeze_norm: bool = True
    critic_warmup: int = 4
    critic_rate: float = 10.0


class _Chain(NamedTuple):
    """The N denoising steps.

    Attributes:
      sampler: coefficients, see samplers.Sampler.
      drawn: standard deviations [N] of the noise.
      judged: standard deviations [N] that densities are computed with.
    """

    sampler: Sampler
    drawn: np.ndarray
    judged: np.ndarray


# ---------------------------------------------------------------------------- making it


def make(
    policy_spec: PolicySpec,
    network: NetworkConfig,
    config: DPPOConfig,
    optimizer: optax.GradientTransformation,
    norm: Mapping[str, NormStats],
    augmentation: AugmentConfig | None = None,
    shards: int = 1,
) -> Algorithm:
    """Binds the functions of `ppo` and of this module.

    Args:
      policy_spec: inputs and outputs.
      network: of policy and critic; its encoder must be that of the run that is fine-tuned.
      config: see DPPOConfig.
      optimizer: e.g. optax.adam(1e-4).
      norm: statistics of "action" [A].
      augmentation: see AugmentConfig; None: its defaults.
      shards: devices over which worlds are split.

    Raises:
      InputError: a value or a statistic is wrong or missing.
    """
    setup = make_setup(policy_spec, network, config, optimizer, augmentation, shards)
    return ppo.bind(setup, norm)._replace(
        confidence=functools.partial(confidence, setup),
        noise=diffusion.noise_shape(_policy(setup)),
        act_with_noise=functools.partial(act_with_noise, setup),
    )


def make_setup(
    policy_spec: PolicySpec,
    network: NetworkConfig,
    config: DPPOConfig,
    optimizer: optax.GradientTransformation,
    augmentation: AugmentConfig | None = None,
    shards: int = 1,
) -> ppo.Setup:
    """Checks the configuration and builds both networks.

    Raises:
      InputError: names the key that is wrong.
    """
    ppo.check("dppo", config, policy_spec, shards)
    _check(config)
    policy = diffusion.make_setup(policy_spec, network, config.diffusion, optimizer)
    return ppo.Setup(
        actor=DENOISING,
        network=policy.network,
        critic=ValueNetwork(resolve(network)),
        optimizer=optimizer,
        config=config,
        policy_spec=policy_spec,
        image_size=policy.image_size,
        augment=augmentation or AugmentConfig(),
        shards=shards,
    )


def _check(config: DPPOConfig) -> None:
    steps, policy = config.diffusion.sample_steps, config.diffusion
    for key in ("min_sampling_std", "min_logprob_std"):
        if getattr(config, key) <= 0.0:
            raise InputError(f"dppo.{key} must be above 0, got {getattr(config, key)}")
    if not 0.0 <= config.eta <= 1.0:
        raise InputError(f"dppo.eta must be in [0, 1], got {config.eta}")
    if not 0.0 < config.denoising_discount <= 1.0:
        raise InputError(
            f"dppo.denoising_discount must be in (0, 1], got {config.denoising_discount}"
        )
    if not 0 <= config.finetune_steps <= steps:
        raise InputError(
            f"dppo.finetune_steps must lie between 0 and dppo.diffusion.sample_steps ({steps}), "
            f"got {config.finetune_steps}"
        )
    if config.entropy_weight:
        raise InputError("dppo.entropy_weight must be 0: the entropy of actions is not known")
    if policy.residual:
        raise InputError("dppo.diffusion.residual must be off: worlds show no previous action")
    if policy.proprio_norm != "mean_std":
        raise InputError(
            f"dppo.diffusion.proprio_norm must be 'mean_std', got '{policy.proprio_norm}'"
        )
    if policy.action_norm != config.action_norm:
        raise InputError(
            f"dppo.action_norm ('{config.action_norm}') must be dppo.diffusion.action_norm "
            f"('{policy.action_norm}')"
        )


def _config(setup: ppo.Setup) -> DPPOConfig:
    return cast(DPPOConfig, setup.config)


def _policy(setup: ppo.Setup) -> imitation.Setup:
    """The diffusion policy within, for the functions of `diffusion`."""
    config = _config(setup).diffusion
    return imitation.Setup(setup.network, setup.optimizer, config, setup.policy_spec)


def _chain(setup: ppo.Setup) -> _Chain:
    config = _config(setup)
    policy = config.diffusion
    schedule = noise_schedules.make_schedule(policy.schedule, policy.train_steps)
    sampler = samplers.stochastic(schedule, policy.prediction, policy.sample_steps, config.eta)
    sigma = sampler.step.random
    drawn = np.maximum(sigma, np.float32(config.min_sampling_std))
    return _Chain(sampler, drawn, np.maximum(sigma, np.float32(config.min_logprob_std)))


def _learning(setup: ppo.Setup) -> _Chain:
    """The K steps that learn."""
    k = _config(setup).finetune_steps
    return jax.tree.map(lambda x: x[-k:], _chain(setup))


# ---------------------------------------------------------------------------- the actor


def _init(setup: ppo.Setup, key: jax.Array, inputs: Observation) -> Params:
    spec = setup.policy_spec
    noisy = jnp.zeros((1, spec.horizon, spec.action.size))
    return {"policy": setup.network.init(key, inputs, noisy, jnp.zeros(1))["params"]}


def _denoiser(setup: ppo.Setup, network: Params, inputs: Observation) -> samplers.Denoise:
    """(noisy chunk [B, H, A], time [B]) -> the network's output; observations are encoded once."""
    policy = _policy(setup)
    encoding = diffusion.encode(policy, network["policy"], inputs)
    return functools.partial(diffusion.denoise, policy, network["policy"], encoding)


def _sample(setup: ppo.Setup, network: Params, inputs: Observation, key: jax.Array) -> Draw:
    """The trace is x_{N-K} ... x_N, [B, K + 1, H, A]."""
    spec, chain = setup.policy_spec, _chain(setup)
    key_start, key_steps = jax.random.split(key)
    batch = len(next(iter(inputs.values())))
    start = jax.random.normal(key_start, (batch, spec.horizon, spec.action.size))
    keys = jax.random.split(key_steps, len(chain.drawn))
    step = functools.partial(_step, setup, _denoiser(setup, network, inputs))
    chunk, (later, log_prob) = jax.lax.scan(step, start, (jax.tree.map(jnp.asarray, chain), keys))
    k = len(_learning(setup).drawn)
    trace = jnp.concatenate([start[None], later])[-k - 1 :]
    return Draw(chunk, jnp.moveaxis(trace, 0, 1), log_prob[-k:].T)


def _step(
    setup: ppo.Setup, denoise: samplers.Denoise, x: jax.Array, row: tuple[_Chain, jax.Array]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """One step from x [B, H, A]: the next x, and its log density [B]."""
    chain, key = row
    mean = _mean(setup, denoise, chain.sampler, x)
    x = mean + chain.drawn * jax.random.normal(key, x.shape)
    n = setup.policy_spec.n_action_steps
    judged = jnp.asarray(chain.judged)
    return x, (x, actors.gaussian_log_prob(x[:, :n], mean[:, :n], judged))


def _mean(setup: ppo.Setup, denoise: samplers.Denoise, row: Sampler, x: jax.Array) -> jax.Array:
    """m_i(x) [B, H, A]."""
    return samplers.mean(row, denoise, x, _policy(setup).config.clip)


@jax.named_scope("policy")
def _means(setup: ppo.Setup, network: Params, inputs: Observation, trace: jax.Array) -> jax.Array:
    """m_i of the executed actions at all K steps of a trace, [B, K, n, A]."""
    mean = functools.partial(_mean, setup, _denoiser(setup, network, inputs))
    rows = jax.tree.map(jnp.asarray, _learning(setup).sampler)
    means = jax.vmap(mean, in_axes=(0, 1), out_axes=1)(rows, trace[:, :-1])
    return means[:, :, : setup.policy_spec.n_action_steps]


def _log_prob(
    setup: ppo.Setup, network: Params, inputs: Observation, trace: jax.Array
) -> jax.Array:
    """Log densities [B, K] of the executed actions at each step."""
    means = _means(setup, network, inputs, trace)
    reached = trace[:, 1:, : means.shape[2]]
    density = jax.vmap(actors.gaussian_log_prob, in_axes=(1, 1, 0), out_axes=1)
    return density(reached, means, jnp.asarray(_learning(setup).judged))


def _mode(setup: ppo.Setup, network: Params, inputs: Observation, key: jax.Array) -> jax.Array:
    """A chunk [B, H, A] of the policy's own sampler."""
    policy = _policy(setup)
    batch = len(next(iter(inputs.values())))
    noise = jax.random.normal(key, (batch, *diffusion.noise_shape(policy)))
    return _from_noise(setup, network, inputs, noise)


def _from_noise(
    setup: ppo.Setup, network: Params, inputs: Observation, noise: Any, unroll: bool = False
) -> jax.Array:
    policy, parameters = _policy(setup), network["policy"]
    encoding = diffusion.encode(policy, parameters, inputs)
    return diffusion.sample(policy, parameters, encoding, noise, unroll)


def _entropy(setup: ppo.Setup, network: Params) -> jax.Array:
    del setup, network
    return jnp.zeros(())


def _drift(
    setup: ppo.Setup, network: Params, reference: Params, inputs: Observation, trace: jax.Array
) -> jax.Array:
    """KL divergence [B] of the K choices along `trace`, per executed action.

    Both policies have the same standard deviations, so it is the sum of
    (m - m_reference)^2 / (2 sigma^2).
    """
    old, new = (_means(setup, p, inputs, trace) for p in (reference, network))
    std = jnp.asarray(_learning(setup).judged)[:, None, None]
    return (jnp.square(new - old) / (2.0 * jnp.square(std))).sum(-1).mean(-1).sum(-1)


def _weights(setup: ppo.Setup) -> jax.Array:
    """Weights [K] that grow towards the last step; their mean is 1."""
    k = len(_learning(setup).drawn)
    weights = _config(setup).denoising_discount ** np.arange(k)[::-1]
    return jnp.asarray(weights / weights.mean(), jnp.float32)


def _std(setup: ppo.Setup, network: Params) -> jax.Array:
    """That of the last step, which ends in what is executed."""
    del network
    return jnp.asarray(_chain(setup).drawn[-1])


DENOISING = Actor(
    init=_init,
    sample=_sample,
    log_prob=_log_prob,
    mode=_mode,
    entropy=_entropy,
    drift=_drift,
    weights=_weights,
    std=_std,
)


# ------------------------------------------------------------------------------ acting


def act_with_noise(
    setup: ppo.Setup, params: Params, observation: Observation, noise: Any, unroll: bool = False
) -> jax.Array:
    """A chunk without exploration, as a function of the noise; see `diffusion.act_with_noise`."""
    inputs = ppo.network_input(setup, params["norm"], observation, setup.policy_spec.observation)
    chunk = _from_noise(setup, params["network"]["actor"], inputs, noise, unroll)
    return ppo.physical_actions(setup, params, chunk)


def confidence(
    setup: ppo.Setup, params: Params, observation: Observation, key: jax.Array
) -> jax.Array:
    """How much the samples of the next action agree; see `diffusion.confidence`."""
    inputs = ppo.network_input(setup, params["norm"], observation, setup.policy_spec.observation)
    return diffusion.sample_confidence(
        _policy(setup), params["network"]["actor"]["policy"], inputs, key
    )

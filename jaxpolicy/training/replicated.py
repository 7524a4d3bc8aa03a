"""Data parallelism by `jax.pmap`: an algorithm whose devices train one policy, not one each.

    algorithm = replicated.make("devices", bc.make, policy_spec, network, config, optimizer, norm)
    states = jax.pmap(algorithm.init, in_axes=(None, 0))(key, batches)
    step = jax.pmap(algorithm.train_step, axis_name="devices", donate_argnums=0)
    states, metrics = step(states, batches)

`batches` and `states` have a leading axis [D], the devices. An algorithm that was made without
this module has no axis names: under `pmap` it trains D policies that never meet, whatever name
`pmap` is given. One that was made by it fails outside of its axis.

Sharding (see module `sharding`) gives what one device gives with the whole batch, and is what
`loop` does; this is for loops that are written around `pmap`. docs/own_loop.md shows both.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import Algorithm, Batch, Metrics, Params, PolicySpec, TrainState
from jaxpolicy.networks.augment import AugmentConfig
from jaxpolicy.networks.encoder import NetworkConfig

__all__ = ["averaged", "eval_step", "first", "make", "train_step"]


def make(
    axis_name: str,
    make_algorithm: Callable[..., Algorithm],
    policy_spec: PolicySpec,
    network: NetworkConfig,
    config: Any,
    optimizer: optax.GradientTransformation,
    norm: Mapping[str, NormStats],
    augmentation: AugmentConfig | None = None,
) -> Algorithm:
    """The algorithm with gradients and metrics averaged over the devices.

    Args:
      axis_name: as it is given to `jax.pmap`.
      make_algorithm: `make` of an algorithm that learns from demonstrations, such as `bc.make`.
      policy_spec, network, config, optimizer, norm, augmentation: its arguments.

    Returns:
      An Algorithm whose `train_step` and `eval_step` run in that axis only; the rest is as
      without it.

    Raises:
      InputError: the algorithm learns in worlds, which `sharding` splits instead; or what
        `make_algorithm` raises.
    """
    mean = averaged(optimizer, axis_name)
    algorithm = make_algorithm(policy_spec, network, config, mean, norm, augmentation)
    if algorithm.explore is not None:
        raise InputError(
            "methods that learn in worlds keep statistics of all of them, which pmap would split: "
            "use sharding, see docs/own_loop.md"
        )
    return algorithm._replace(
        train_step=functools.partial(train_step, algorithm, axis_name),
        eval_step=functools.partial(eval_step, algorithm, axis_name),
    )


def averaged(
    optimizer: optax.GradientTransformation, axis_name: str
) -> optax.GradientTransformation:
    """`optimizer` behind a mean of the gradients over the devices of an axis.

    All of it sees the mean, clipping too, so its state stays equal on every device.
    """
    update = functools.partial(_update, optimizer, axis_name)
    return optax.GradientTransformation(optimizer.init, update)


def _update(
    optimizer: optax.GradientTransformation,
    axis_name: str,
    gradient: Params,
    state: Any,
    params: Params | None = None,
) -> tuple[Any, Any]:
    return optimizer.update(jax.lax.pmean(gradient, axis_name), state, params)


def train_step(
    algorithm: Algorithm, axis_name: str, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """One update of a device's copy of the policy, with its part of the batch.

    Augmentation, dropout and noise differ from device to device. Every device's mean over its
    actions counts the same, also where more of them lie beyond the end of an episode.

    Args:
      algorithm: with an optimiser that is `averaged` over `axis_name`.
      axis_name: of the devices.
      state: see TrainState; equal on every device, also afterwards.
      batch: [B / D, ...].

    Returns:
      The new state, and metrics averaged over the devices ("grad_norm" is the mean of the
      norms of their gradients).
    """
    own = state._replace(key=jax.random.fold_in(state.key, jax.lax.axis_index(axis_name)))
    new, metrics = algorithm.train_step(own, batch)
    return new._replace(key=state.key), jax.lax.pmean(metrics, axis_name)


def eval_step(algorithm: Algorithm, axis_name: str, params: Params, batch: Batch) -> Metrics:
    """Metrics of a held-out batch [B / D, ...], averaged over the devices."""
    return jax.lax.pmean(algorithm.eval_step(params, batch), axis_name)


def first(tree: Any) -> Any:
    """The first device's copy of a tree of arrays [D, ...]: a state, parameters, metrics."""
    return jax.tree.map(_first, tree)


def _first(x: jax.Array) -> jax.Array:
    return x[0]

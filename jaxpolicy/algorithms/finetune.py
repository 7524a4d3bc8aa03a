"""Training that starts from what another run has learned.

    algorithm = finetune.start_from(algorithm, params_of_the_other_run)

A policy that goes on in the way it was trained keeps its parameters and its statistics. One
that was cloned from demonstrations and goes on in worlds becomes the actor: its network and
what it knows of actions and of its inputs move over, the critic begins anew.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy.algorithms import imitation
from jaxpolicy.core.normalization import NormStats, RunningStats
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import Algorithm, Params

__all__ = ["as_running", "start_from", "transplant"]

# Rows that statistics of a dataset count as: so many that a rollout hardly moves them.
_ROWS = 1e7
_CONSTANT = 1e-6  # standard deviation below which an element counts as constant


def start_from(algorithm: Algorithm, source: Params) -> Algorithm:
    """`algorithm` whose `init` gives the parameters `source` of another run."""
    return algorithm._replace(init=functools.partial(_init, algorithm.init, source))


def _init(init: Callable[..., Any], source: Params, key: jax.Array, batch: Any) -> Any:
    state = init(key, batch)
    return state._replace(params=transplant(state.params, source))


def transplant(params: Params, source: Params) -> Params:
    """`params` of a new run with what `source`, those of another run, knows.

    Raises:
      InputError: the networks or their inputs differ; names the first array that does.
    """
    result = {**params, "norm": _norms(params["norm"], source["norm"])}
    policy = _policy(source)
    if "actor" not in params["network"]:
        result["network"] = _fitting(params["network"], policy, "network")
        return result | ({"ema": policy} if "ema" in params else {})
    actor = dict(params["network"]["actor"])
    actor["policy"] = _fitting(actor["policy"], policy, "network")
    network = {**params["network"], "actor": actor}
    if "critic" in source["network"]:
        network["critic"] = _fitting(network["critic"], source["network"]["critic"], "critic")
    result["network"] = network
    if "reference" in params:
        result["reference"] = jax.tree.map(jnp.copy, actor)
    return result


def _policy(source: Params) -> Params:
    """The network of a policy that acts, however it was trained."""
    network = imitation.acting(source)
    return network["actor"]["policy"] if "actor" in network else network


def _norms(mine: Params, theirs: Params) -> dict[str, Any]:
    """Statistics: those of the other run where it has them, in the form of this one."""
    result = dict(mine)
    for name, stats in theirs.items():
        if name in mine:
            converts = isinstance(mine[name], RunningStats) and isinstance(stats, NormStats)
            result[name] = as_running(stats) if converts else stats
            _fitting(mine[name], result[name], f"norm/{name}")
    return result


def as_running(stats: NormStats) -> RunningStats:
    """Statistics of a dataset as running ones; constant elements keep their scale of 1."""
    std = jnp.where(stats.std < _CONSTANT, 1.0, stats.std)
    count = jnp.asarray(_ROWS, jnp.float32)
    return RunningStats(count, jnp.asarray(stats.mean), jnp.square(std) * count)


def _fitting(mine: Params, theirs: Params, where: str) -> Params:
    """`theirs`, which must have the structure and the shapes of `mine`."""
    shapes = [
        {jax.tree_util.keystr(k): x.shape for k, x in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (mine, theirs)
    ]
    for name in sorted(set(shapes[0]) | set(shapes[1])):
        want, got = (s.get(name) for s in shapes)
        if want != got:
            raise InputError(
                f"init_from: {where}{name} has the shape {got} there and {want} here: network, "
                "inputs, horizon and action must be those of that run"
            )
    return theirs

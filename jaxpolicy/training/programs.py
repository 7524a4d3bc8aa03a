"""Several steps in one program: pure functions, compiled by the loop.

Import them to build a loop of your own:

    run = jax.jit(functools.partial(train_steps, algorithm, fetch), donate_argnums=0)
    state, metrics = run(state, arrays, data, n)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy.types import Algorithm, Batch, Metrics, Params, TrainState

__all__ = ["Fetch", "eval_steps", "train_steps"]

# (device arrays, one row of data) -> Batch, see inputs.make_fetch.
Fetch = Callable[[Any, Any], Batch]


def train_steps(
    algorithm: Algorithm, fetch: Fetch, state: TrainState, arrays: Any, data: Any, n: jax.Array
) -> tuple[TrainState, Metrics]:
    """The first `n` updates of `data`.

    A scan whose length is an argument, so that calls of every length share one
    compilation.

    Args:
      algorithm: see types.Algorithm.
      fetch: see Fetch.
      state: see TrainState.
      arrays: device-resident data, or None.
      data: [S, ...], see inputs.Feed.
      n: int32 [], at most S.

    Returns:
      The new state and metrics, each [S], zero from `n` on.
    """
    update = functools.partial(_update, algorithm, fetch, arrays, data)
    size = jax.tree.leaves(data)[0].shape[0]
    shapes = jax.eval_shape(algorithm.train_step, state, fetch(arrays, _row(data, 0)))[1]
    metrics = jax.tree.map(lambda s: jnp.zeros((size, *s.shape), s.dtype), shapes)
    return jax.lax.fori_loop(0, n, update, (state, metrics))


def _update(
    algorithm: Algorithm, fetch: Fetch, arrays: Any, data: Any, i: jax.Array, carry: Any
) -> Any:
    state, metrics = carry
    state, row = algorithm.train_step(state, fetch(arrays, _row(data, i)))
    return state, jax.tree.map(lambda column, x: column.at[i].set(x), metrics, row)


def eval_steps(
    algorithm: Algorithm, fetch: Fetch, params: Params, arrays: Any, data: Any, n: jax.Array
) -> Metrics:
    """Sum of `algorithm.eval_step` over the first `n` rows of `data`; see train_steps."""
    add = functools.partial(_add, algorithm, fetch, params, arrays, data)
    shapes = jax.eval_shape(algorithm.eval_step, params, fetch(arrays, _row(data, 0)))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.fori_loop(0, n, add, zeros)


def _add(
    algorithm: Algorithm, fetch: Fetch, params: Params, arrays: Any, data: Any, i: Any, total: Any
) -> Any:
    row = algorithm.eval_step(params, fetch(arrays, _row(data, i)))
    return jax.tree.map(jnp.add, total, row)


def _row(data: Any, i: Any) -> Any:
    return jax.tree.map(lambda x: x[i], data)

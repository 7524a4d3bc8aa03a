"""What the loop compiles: one step, or several steps in one program. Pure functions.

Import them to build a loop of your own:

    run = jax.jit(functools.partial(train_steps, algorithm, fetch), donate_argnums=0)
    state, metrics = run(state, arrays, data, n)

XLA brings convolutions into the form that its fast CPU kernels accept in the top
computation of a program only, not in the body of a loop: there the gradient of a plain
3x3 convolution is 20 to 40 times slower (JAX 0.10), which `networks.conv` works around
and other networks do not. So the loop uses `train_step` and `eval_step` on CPU, where
starting a program costs little, and `train_steps` and `eval_steps` on accelerators.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy.core.types import Algorithm, Batch, Metrics, Params, TrainState

__all__ = ["Fetch", "eval_step", "eval_steps", "train_step", "train_steps"]

# (device arrays, one row of data) -> Batch, see inputs.make_fetch.
Fetch = Callable[[Any, Any], Batch]


def train_step(
    algorithm: Algorithm, fetch: Fetch, state: TrainState, arrays: Any, row: Any
) -> tuple[TrainState, Metrics]:
    """One update.

    Args:
      algorithm: see types.Algorithm.
      fetch: see Fetch.
      state: see TrainState.
      arrays: device-resident data, or None.
      row: one step of data.
    """
    return algorithm.train_step(state, fetch(arrays, row))


def eval_step(algorithm: Algorithm, fetch: Fetch, params: Params, arrays: Any, row: Any) -> Metrics:
    """Metrics of one validation batch; see train_step."""
    return algorithm.eval_step(params, fetch(arrays, row))


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
    state, new = train_step(algorithm, fetch, state, arrays, _row(data, i))
    return state, jax.tree.map(lambda column, x: column.at[i].set(x), metrics, new)


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
    new = eval_step(algorithm, fetch, params, arrays, _row(data, i))
    return jax.tree.map(jnp.add, total, new)


def _row(data: Any, i: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x)[i], data)

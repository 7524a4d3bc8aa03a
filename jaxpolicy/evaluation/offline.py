"""Errors of predicted actions on recorded episodes, beside two baselines.

For datasets without a simulator this is the only evaluation there is, and a small
error means nothing by itself: a policy must beat the best constant action and
repeating the previous recorded action.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxpolicy.core.specs import ActionSpec, InputError
from jaxpolicy.core.types import Params, PolicySpec
from jaxpolicy.data.cache import Cache
from jaxpolicy.data.loader import gather_on_host
from jaxpolicy.data.windows import Index

__all__ = ["ActionErrors", "action_errors", "compare", "hold_previous", "predict", "spread"]

# Of the largest value: an element that varies less is constant.
_CONSTANT = 1e-6


@dataclasses.dataclass(frozen=True)
class ActionErrors:
    """Errors of one predictor over N steps.

    Attributes:
      mse: mean squared error of actions divided by the training standard deviation
        (1.0 is what the training mean scores on training data).
      mae: unit -> mean absolute error over the elements with that unit.
      n_steps: N.
      elements: name -> mean absolute error of that element, in its unit.
      units: name -> unit of that element.
    """

    mse: float
    mae: Mapping[str, float]
    n_steps: int
    elements: Mapping[str, float] = dataclasses.field(default_factory=dict)
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)


def action_errors(
    prediction: np.ndarray, target: np.ndarray, spec: ActionSpec, std: np.ndarray
) -> ActionErrors:
    """Errors of `prediction` against `target`, both [N, A] in physical units.

    Args:
      prediction: predicted actions.
      target: recorded actions.
      spec: names the unit of each element.
      std: [A], training standard deviation; elements of which it is 0 do not count.
    """
    moving = std > 0.0
    scaled = (prediction - target)[:, moving] / std[moving]
    error = np.abs(prediction - target)
    units = {u: list(spec.indices_of_unit(u)) for u in dict.fromkeys(spec.units)}
    mae = {u: float(error[:, i].mean()) for u, i in units.items()}
    names = dict(zip(spec.names, error.mean(0).tolist(), strict=True))
    mse = float((scaled**2).mean()) if moving.any() else 0.0
    units_of = dict(zip(spec.names, spec.units, strict=True))
    return ActionErrors(mse, mae, len(target), names, units_of)


def spread(actions: np.ndarray) -> np.ndarray:
    """Standard deviation [A] of actions [M, A]; 0 for elements that are constant.

    Rounding gives a repeated float32 number a deviation, so what counts is how it compares
    with the size of the numbers.
    """
    wide = actions.astype(np.float64)
    std, size = wide.std(0), np.abs(wide).max(0, initial=0.0)
    return np.where(std > _CONSTANT * size, std, 0.0)


def hold_previous(actions: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Repeats the previous recorded action.

    Args:
      actions: [N, A], steps of consecutive episodes.
      starts: int [E], row at which each episode starts.

    Returns:
      prediction [N, A], and valid bool [N], False on first steps, which have no
      previous action.
    """
    valid = np.ones(len(actions), bool)
    valid[starts] = False
    return np.concatenate([actions[:1], actions[:-1]]), valid


def compare(
    policy: np.ndarray,
    target: np.ndarray,
    starts: np.ndarray,
    train_action: np.ndarray,
    spec: ActionSpec,
) -> dict[str, ActionErrors]:
    """Policy, best constant action and hold-previous-action on the same steps.

    The constant is the one that is best on the training part for each error: the mean
    for the squared error, the median for the absolute error. First steps of episodes
    are left out for all three, as nothing precedes them.

    Args:
      policy: [N, A], the policy's predictions.
      target: [N, A], recorded actions of validation episodes, one after the other.
      starts: int [E], row at which each episode starts.
      train_action: [M, A], recorded actions of the training part.
      spec: the action vector.

    Raises:
      InputError: every validation episode has a single step.
    """
    held, valid = hold_previous(target, starts)
    if not valid.any():
        raise InputError("offline evaluation needs validation episodes of two steps or more")
    std = spread(train_action)
    mean, median = train_action.mean(0), np.median(train_action, axis=0)

    def errors(prediction: np.ndarray) -> ActionErrors:
        rows = np.broadcast_to(prediction, target.shape)[valid]
        return action_errors(rows, target[valid], spec, std)

    constant = dataclasses.replace(errors(median), mse=errors(mean).mse)
    return {
        "policy": errors(policy),
        "best constant action": constant,
        "hold previous action": errors(held),
    }


def predict(
    act: Callable[..., jax.Array],
    params: Params,
    spec: PolicySpec,
    frames: Cache,
    batch_size: int = 64,
) -> np.ndarray:
    """The policy's action for every recorded step.

    Args:
      act: Algorithm.act.
      params: its parameters.
      spec: its inputs and outputs.
      frames: N recorded steps of whole episodes, with the policy's inputs.
      batch_size: steps predicted at once.

    Returns:
      [N, A], the first action of each predicted chunk, physical units.
    """
    run = jax.jit(act)
    keys = [s.name for s in spec.observation]
    arrays = {k: frames.arrays[k] for k in (*keys, "action")}
    start = np.repeat(frames.starts, frames.lengths)
    length = np.repeat(frames.lengths, frames.lengths)
    key, rows = jax.random.key(0), np.arange(frames.n_frames)
    parts = []
    for i in range(0, len(rows), batch_size):
        # The last batch is filled up with the last row, so that act compiles once.
        at = np.minimum(np.arange(i, i + batch_size), len(rows) - 1)
        index = Index(start[at], length[at], rows[at] - start[at])
        window = gather_on_host(arrays, index, spec.n_obs_steps, 1)
        parts.append(_first_action(run, params, window.observation, jax.random.fold_in(key, i)))
    return np.concatenate(parts)[: len(rows)]


def _first_action(
    run: Callable[..., jax.Array], params: Params, observation: Any, key: jax.Array
) -> np.ndarray:
    return np.asarray(run(params, observation, key))[:, 0]

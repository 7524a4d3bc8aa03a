"""When training has diverged, and what then: back to a good checkpoint, with smaller steps.

Pure functions over small records, so that a resumed run decides as an unbroken one.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.specs import InputError

__all__ = [
    "KL",
    "WINDOW",
    "DivergenceError",
    "GuardConfig",
    "Recovery",
    "Trend",
    "all_finite",
    "check_finite",
    "check_kl",
    "check_params",
    "describe",
    "exhausted",
    "fold",
    "is_key",
    "learning_rate",
    "recoveries_from",
    "trend_from",
    "watch",
]

KL = "train/kl"
# Values in a row whose median is compared: one unlucky validation is no collapse.
WINDOW = 3


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """What counts as divergence, and how often to recover from it.

    A metric or parameter that is NaN or infinite always counts. A recovery goes back to the
    newest checkpoint that was still good, or to the beginning where none is kept.

    Attributes:
      tries: recoveries of the whole run; 0 stops at the first divergence.
      lr_factor: each recovery multiplies optimizer.learning_rate by it.
      max_kl: largest "train/kl", mean over a dispatch, for algorithms that report it: how
        far reinforcement learning moved the policy, nats (ACT's is that of its latent);
        0 is no limit.
      metric: what must not collapse, higher is better: "train/<metric>", "val/<metric>" or
        "eval/<metric>".
      max_drop: largest fall of `metric` below its best, in its own unit, so that returns
        may be negative; medians of WINDOW values in a row are compared. 0 is no limit.
    """

    tries: int = 3
    lr_factor: float = 0.1
    max_kl: float = 0.0
    metric: str = "eval/success"
    max_drop: float = 0.0

    def __post_init__(self) -> None:
        for name in ("tries", "max_kl", "max_drop"):
            value = getattr(self, name)
            if not value >= 0:
                raise InputError(f"loop.guard.{name} must be at least 0, got {value}")
        if not 0.0 < self.lr_factor <= 1.0:
            raise InputError(f"loop.guard.lr_factor must be in (0, 1], got {self.lr_factor}")
        if not self.metric.startswith(("train/", "val/", "eval/")):
            raise InputError(
                f"loop.guard.metric must start with train/, val/ or eval/, got '{self.metric}'"
            )


class DivergenceError(InputError):
    """Training is not worth continuing from here.

    Attributes:
      reason: what was seen.
      step: updates done then.
      good_until: states after at most so many updates are good.
      advice: what the user can do.
    """

    def __init__(self, reason: str, step: int, good_until: int, advice: str):
        """See class."""
        super().__init__(f"training diverged: {reason} at step {step}; {advice}")
        self.reason = reason
        self.step = step
        self.good_until = good_until
        self.advice = advice


class Recovery(NamedTuple):
    """A divergence that a run came back from.

    Attributes:
      step: updates done when it was seen.
      reason: what was seen.
      learning_rate: peak learning rate that led there.
      back_to: updates done in the checkpoint it went on from.
    """

    step: int
    reason: str
    learning_rate: float
    back_to: int


class Trend(NamedTuple):
    """How the watched metric has gone.

    Attributes:
      recent: its newest values, WINDOW at most, oldest first.
      best: highest median of WINDOW values in a row, None before there were as many.
      top: highest value, None before the first.
      top_step: updates done when it was last reached.
    """

    recent: tuple[float, ...] = ()
    best: float | None = None
    top: float | None = None
    top_step: int = 0


# ------------------------------------------------------------------ what counts


def check_finite(metrics: Mapping[str, Any], first_step: int) -> None:
    """Checks metrics of consecutive steps.

    Args:
      metrics: name -> [N] values of steps `first_step` ... `first_step` + N - 1, each
        computed from the state after as many updates.
      first_step: step of the first value.

    Raises:
      DivergenceError: names the metric and the first step that is not finite.
    """
    found = []
    for name, values in metrics.items():
        bad = np.flatnonzero(~np.isfinite(np.atleast_1d(values)))
        if bad.size:
            found.append((int(bad[0]), f"{name} is {np.atleast_1d(values)[bad[0]]}"))
    if found:
        offset, reason = min(found, key=lambda pair: pair[0])
        raise _not_finite(reason, first_step + offset)


def check_params(is_finite: Any, step: int) -> None:
    """Raises DivergenceError unless parameters are finite (see all_finite) after `step`."""
    if not is_finite:
        raise _not_finite("a parameter is NaN or infinite", step)


def _not_finite(reason: str, step: int) -> DivergenceError:
    """The state after `step` updates is what it was computed from, so that one is bad too."""
    advice = "lower optimizer.learning_rate or look for extreme values in the data"
    return DivergenceError(reason, step, step - 1, advice)


def all_finite(tree: Any) -> jax.Array:
    """Whether all floating-point arrays of `tree` are finite, bool []."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))


def check_kl(config: GuardConfig, values: Mapping[str, float], start: int, stop: int) -> None:
    """Raises DivergenceError where the updates `start` ... `stop` - 1 went too far."""
    kl = values.get(KL, 0.0)
    if 0 < config.max_kl < kl:
        raise DivergenceError(
            f"{KL} is {kl:.3g} (loop.guard.max_kl={config.max_kl:g})",
            stop,
            start,
            "lower optimizer.learning_rate or raise loop.guard.max_kl",
        )


def watch(config: GuardConfig, trend: Trend, values: Mapping[str, float], step: int) -> Trend:
    """Trend after `values`, as it was where the watched metric is of another kind.

    Args:
      config: see GuardConfig.
      trend: before.
      values: metrics of `step`.
      step: updates done.

    Raises:
      InputError: metrics of its kind have come, and the watched one is not among them.
      DivergenceError: it collapsed, or is not finite.
    """
    kind = config.metric.split("/")[0] + "/"
    names = sorted(name for name in values if name.startswith(kind))
    if not config.max_drop or not names:
        return trend
    if config.metric not in names:
        known = ", ".join(names)
        raise InputError(f"loop.guard.metric must be one of {known}, got '{config.metric}'")
    check_finite({config.metric: values[config.metric]}, step)
    trend = _extended(trend, step, values[config.metric])
    _check_drop(config, trend, step)
    return trend


def _extended(trend: Trend, step: int, value: float) -> Trend:
    """`trend` with one more value; of equal tops the last counts, whose checkpoint is newer."""
    recent = (*trend.recent, value)[-WINDOW:]
    best = trend.best
    if len(recent) == WINDOW:
        middle = statistics.median(recent)
        best = middle if best is None else max(best, middle)
    if trend.top is None or value >= trend.top:
        return Trend(recent, best, value, step)
    return Trend(recent, best, trend.top, trend.top_step)


def _check_drop(config: GuardConfig, trend: Trend, step: int) -> None:
    if trend.best is None:
        return
    now = statistics.median(trend.recent)
    if now < trend.best - config.max_drop:
        raise DivergenceError(
            f"{config.metric} fell from {trend.best:.3g} to {now:.3g} in medians of {WINDOW} "
            f"(loop.guard.max_drop={config.max_drop:g})",
            step,
            trend.top_step,
            "lower optimizer.learning_rate or raise loop.guard.max_drop",
        )


# ------------------------------------------------------------------ what then


def learning_rate(config: GuardConfig, peak: float, n: int) -> float:
    """Peak learning rate after `n` recoveries; `peak` before the first."""
    return peak * config.lr_factor**n


def is_key(x: Any) -> bool:
    """Whether an array holds PRNG keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def fold(keys: jax.Array, n: int) -> jax.Array:
    """`jax.random.fold_in` of every one of `keys`, of any shape."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys.reshape(-1), n).reshape(keys.shape)


def exhausted(found: DivergenceError, earlier: Sequence[Recovery], rate: float) -> DivergenceError:
    """What to raise where `found` comes after the last of the recoveries that are allowed.

    Args:
      found: the divergence that ends the run.
      earlier: all recoveries.
      rate: peak learning rate that led to `found`.
    """
    if not earlier:
        return found
    story = "; ".join(f"{r.reason} at step {r.step} with {r.learning_rate:.3g}" for r in earlier)
    advice = (
        f"the learning rate was {rate:.3g} by then, after {len(earlier)} recoveries "
        f"(loop.guard.tries) from: {story}. To go on: {found.advice}, and use another --workdir"
    )
    return DivergenceError(found.reason, found.step, found.good_until, advice)


def describe(config: GuardConfig, recoveries: Sequence[Recovery], rate: float) -> str:
    """One line about the newest of `recoveries`, after which `rate` is the peak."""
    last = recoveries[-1]
    return (
        f"step {last.step:>6}  diverged: {last.reason}; back to step {last.back_to} with "
        f"learning rate {rate:.3g} (recovery {len(recoveries)} of {config.tries})"
    )


# ------------------------------------------------------------------ out of JSON


def trend_from(value: Mapping[str, Any]) -> Trend:
    """Inverse of `Trend._asdict` after JSON."""
    trend = Trend(**value)
    return trend._replace(recent=tuple(trend.recent))


def recoveries_from(values: Sequence[Mapping[str, Any]]) -> tuple[Recovery, ...]:
    """Inverse of `Recovery._asdict` of each, after JSON."""
    return tuple(Recovery(**value) for value in values)

"""Batches drawn from several datasets by weight.

Which dataset a sample comes from is a function of its number alone, and so is its number
within that dataset: a run resumes exactly from its step, as with one dataset.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxpolicy.core.normalization import NormStats
from jaxpolicy.core.specs import FROM_DATA, FROM_ROBOT, FROM_SETTINGS, InputError, is_camera
from jaxpolicy.core.types import Batch, DatasetSpec
from jaxpolicy.data.loader import BatchLoader, Loader
from jaxpolicy.data.windows import Index

__all__ = ["MixtureLoader", "columns", "common_spec", "deal", "merge_norms"]

# Weights are kept to this many parts of the whole.
_PERIOD = 1024


def deal(weights: Sequence[float], period: int = _PERIOD) -> np.ndarray:
    """How many of the first p samples come from each dataset, for p of one period.

    Samples are dealt one by one to the dataset that lacks most, so every stretch of them has
    the weights within about one sample.

    Returns:
      int64 [period + 1, n_datasets]; row p sums to p.

    Raises:
      InputError: a weight so small that its dataset would never be dealt a sample.
    """
    wanted = np.asarray(weights, float) / np.sum(weights)
    table = np.zeros((period + 1, len(wanted)), np.int64)
    for p in range(period):
        table[p + 1] = table[p]
        table[p + 1, np.argmax(wanted * (p + 1) - table[p])] += 1
    if not table[-1].all():
        raise InputError(
            f"mixture: a dataset would get less than one in {period} samples; raise its weight, "
            f"got {list(weights)}"
        )
    return table


class MixtureLoader:
    """A BatchLoader over loaders of several datasets.

    Attributes:
      mode: "device" where every part is, "stream" where any part is, else "host".
      reason: those of the parts.
    """

    def __init__(
        self,
        loaders: Sequence[BatchLoader],
        weights: Sequence[float],
        batch_size: int,
        window: tuple[int, int],
    ):
        """Mixture of `loaders`.

        Args:
          loaders: one per dataset, with the same keys.
          weights: shares of the samples, relative.
          batch_size: B over all hosts.
          window: (O, H).
        """
        self._loaders, self._table = tuple(loaders), deal(weights)
        self._size, self._window = batch_size // jax.process_count(), window
        self._batch_size = batch_size
        self.mode = _joint_mode({part.mode for part in loaders})
        self.reason = "mixture of " + "; ".join(part.reason for part in loaders)

    @property
    def batches_per_epoch(self) -> int:
        """Steps that take as many samples as the datasets hold together."""
        return sum(part.batches_per_epoch for part in self._loaders)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of every episode, dataset after dataset."""
        return np.concatenate([part.lengths for part in self._loaders])

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """All frames, dataset after dataset, in memory."""
        parts = [part.arrays for part in self._loaders]
        return {k: np.concatenate([_column(part, k) for part in parts]) for k in _keys(parts)}

    def indices(self, step: int) -> Index:
        """Samples of `step` into `arrays`."""
        found, offset = [], 0
        for part, first, n in self._shares(step):
            index = _cached(part).stream_indices(first, n)
            found.append(index._replace(start=index.start + np.int32(offset)))
            offset += int(part.lengths.sum())
        return Index(*(np.concatenate(x) for x in zip(*found, strict=True)))

    def batch(self, step: int) -> Batch:
        """Batch of `step` of this host, dataset after dataset."""
        return self._merge([p.stream(first, n) for p, first, n in self._shares(step) if n])

    def stream(self, first: int, n: int) -> Batch:
        """This host's samples number `first` to `first + n - 1`."""
        shares = self._numbers(first, n)
        return self._merge([p.stream(start, count) for p, start, count in shares if count])

    def _shares(self, step: int) -> list[tuple[Any, int, int]]:
        return self._numbers(step * self._size, self._size)

    def _numbers(self, first: int, n: int) -> list[tuple[Any, int, int]]:
        """(loader, first sample, number of samples) of each dataset."""
        start, stop = self._dealt(first), self._dealt(first + n)
        return list(zip(self._loaders, start.tolist(), (stop - start).tolist(), strict=True))

    def _dealt(self, p: int) -> np.ndarray:
        periods, rest = divmod(p, len(self._table) - 1)
        return periods * self._table[-1] + self._table[rest]

    def _merge(self, batches: Sequence[Batch]) -> Batch:
        observations = [b.observation for b in batches]
        keys = _keys(observations)
        observation = {k: np.concatenate([_column(o, k) for o in observations]) for k in keys}
        action = np.concatenate([b.action for b in batches])
        return Batch(observation, action, np.concatenate([b.action_mask for b in batches]))


def _joint_mode(modes: set[str]) -> str:
    if modes == {"device"}:
        return "device"
    return "stream" if "stream" in modes else "host"


def _cached(part: BatchLoader) -> Loader:
    if not isinstance(part, Loader):
        raise InputError("a mixture with a streaming dataset has no indices; use batch(step)")
    return part


def _keys(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({k for part in parts for k in part})


def columns(arrays: Mapping[str, np.ndarray], keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays `keys` of one dataset; a mask that it lacks is True."""
    return {k: _column(arrays, k) for k in keys}


def _column(part: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """One array; a mask that a dataset lacks is True: its camera is always there."""
    if key in part:
        return part[key]
    image = part[key.replace("mask/", "image/", 1)]
    return np.ones(image.shape[:-3], bool)


def common_spec(specs: Sequence[DatasetSpec], names: Sequence[str], image_size: int) -> DatasetSpec:
    """What a step of all datasets holds.

    Masks are in it where any dataset has them; bounds of the action are the widest.

    Args:
      specs: one per dataset.
      names: of the datasets, for messages.
      image_size: data.image_size; where it is given, cameras may differ in size.

    Raises:
      InputError: a key, shape or action of one dataset does not match the first's.
    """
    first = specs[0]
    for spec, name in zip(specs[1:], names[1:], strict=True):
        _match(first, spec, f"mixture: {name} and {names[0]}", image_size)
    arrays = {s.name: s for spec in specs for s in reversed(spec.observation)} | {
        s.name: s for s in first.observation
    }
    action = dataclasses.replace(
        first.action,
        minimum=tuple(min(x) for x in zip(*(s.action.minimum for s in specs), strict=True)),
        maximum=tuple(max(x) for x in zip(*(s.action.maximum for s in specs), strict=True)),
        limits_from=_joint_limits([s.action.limits_from for s in specs]),
    )
    return DatasetSpec(tuple(arrays[k] for k in sorted(arrays)), action)


def _joint_limits(sources: Sequence[str]) -> str:
    """Where the widest limits come from: the least certain of their sources."""
    order = (FROM_DATA, "", FROM_SETTINGS, FROM_ROBOT)
    return min(sources, key=order.index)


def _match(a: DatasetSpec, b: DatasetSpec, where: str, image_size: int) -> None:
    keys = [{k for k in s.keys if not k.startswith("mask/")} for s in (a, b)]
    if keys[0] != keys[1]:
        different = ", ".join(sorted(keys[0] ^ keys[1]))
        raise InputError(
            f"{where} do not hold the same: {different} is in one of them alone; choose with "
            "data.cameras, camera_keys, proprio_keys, language"
        )
    for key in sorted(keys[0]):
        if a[key].shape != b[key].shape and not (is_camera(key) and image_size):
            hint = "; set data.image_size" if is_camera(key) else ""
            raise InputError(
                f"{where}: '{key}' is {list(b[key].shape)} and {list(a[key].shape)}{hint}"
            )
    if (a.action.size, a.action.kind) != (b.action.size, b.action.kind):
        raise InputError(
            f"{where}: actions are {b.action.kind} [{b.action.size}] and {a.action.kind} "
            f"[{a.action.size}]"
        )
    _match_units(a, b, where)


def _match_units(a: DatasetSpec, b: DatasetSpec, where: str) -> None:
    """Rates and units must agree where both datasets tell them ("1": nobody said)."""
    rates = b.action.control_hz, a.action.control_hz
    if all(rates) and rates[0] != rates[1]:
        raise InputError(
            f"{where}: steps are at {rates[0]:g} and {rates[1]:g} Hz; give the faster "
            f"data.resample_hz={min(rates):g}"
        )
    for name, x, y in zip(a.action.names, b.action.units, a.action.units, strict=True):
        if x != y and "1" not in (x, y):
            raise InputError(f"{where}: action '{name}' is in {x} and in {y}")


def merge_norms(norms: Sequence[NormStats], weights: Sequence[float]) -> NormStats:
    """Statistics of samples that come from several datasets by weight.

    Moments are exact: the mean is the weighted mean, the variance the weighted mean of second
    moments less its square. The percentiles of a mixture do not follow from those of its
    parts; the outermost of the parts are taken.
    """
    w = np.asarray(weights, np.float64)[:, None] / np.sum(weights)
    mean, std = (
        np.stack([getattr(n, f) for n in norms]).astype(np.float64) for f in ("mean", "std")
    )
    centre = (w * mean).sum(0)
    spread = np.sqrt((w * (std**2 + (mean - centre) ** 2)).sum(0))
    low = {f: np.min([getattr(n, f) for n in norms], axis=0) for f in ("minimum", "q01")}
    high = {f: np.max([getattr(n, f) for n in norms], axis=0) for f in ("maximum", "q99")}
    values = {"mean": centre, "std": spread, **low, **high}
    return NormStats(**{k: np.asarray(v, np.float32) for k, v in values.items()})

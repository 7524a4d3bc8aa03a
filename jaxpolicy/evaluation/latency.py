"""How long a controller takes to answer.

Every call starts a new episode, so that each one predicts and none is answered from an
action chunk predicted before.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

__all__ = ["Latency", "measure", "measure_controller"]


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds per prediction.

    Attributes:
      p50, p95, p99: percentiles, ms.
      samples: every measurement, ms.
      batch: observations per prediction.
    """

    p50: float
    p95: float
    p99: float
    samples: tuple[float, ...]
    batch: int = 1

    def to_dict(self) -> dict[str, float]:
        """{"p50", "p95", "p99"} as in report.json."""
        return {"p50": self.p50, "p95": self.p95, "p99": self.p99}


def measure(
    predict: Callable[[Mapping[str, np.ndarray]], Any],
    observation: Mapping[str, np.ndarray],
    n: int = 200,
    warmup: int = 10,
) -> Latency:
    """Times `predict(observation)`, waiting for the result each time.

    Args:
      predict: what to time; its first calls (compilation) are not counted.
      observation: each [1, ...].
      n: measured calls.
      warmup: calls before them.
    """
    for _ in range(warmup):
        jax.block_until_ready(predict(observation))
    samples = tuple(_milliseconds(predict, observation) for _ in range(n))
    p50, p95, p99 = (float(p) for p in np.percentile(samples, (50, 95, 99)))
    batch = len(next(iter(observation.values())))
    return Latency(p50, p95, p99, samples, batch)


def measure_controller(
    controller: Any, observation: Mapping[str, np.ndarray], n: int = 200, warmup: int = 10
) -> Latency:
    """Times a `rollout.Controller` on one observation of one robot (each [1, ...])."""

    return measure(_Fresh(controller), observation, n, warmup)


class _Fresh:
    """Answers each observation as the first of an episode."""

    def __init__(self, controller: Any):
        self._controller = controller

    def __call__(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        self._controller.reset(1)
        return self._controller.act(dict(observation))


def _milliseconds(predict: Callable[..., Any], observation: Mapping[str, np.ndarray]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(predict(observation))
    return 1e3 * (time.perf_counter() - start)

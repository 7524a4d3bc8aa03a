"""How long a controller takes to answer.

Every call starts a new episode, so that each one predicts and none is answered from an
action chunk predicted before.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

__all__ = ["measure", "time_calls"]


def measure(
    controller: Any, observation: Mapping[str, np.ndarray], n: int = 200, warmup: int = 10
) -> dict[str, Any]:
    """Times the decisions of a `rollout.Controller`; see `time_calls`.

    Args:
      controller: what decides.
      observation: of one robot, each [1, ...].
      n: measured decisions.
      warmup: decisions before them.
    """
    return time_calls(_Fresh(controller), observation, n, warmup)


def time_calls(
    predict: Callable[[Mapping[str, np.ndarray]], Any],
    observation: Mapping[str, np.ndarray],
    n: int = 200,
    warmup: int = 10,
) -> dict[str, Any]:
    """Times `predict(observation)`, waiting for the result each time.

    Args:
      predict: what to time; its first calls (compilation) are not counted.
      observation: each [B, ...].
      n: measured calls.
      warmup: calls before them.

    Returns:
      {"p50", "p95", "p99"} percentiles in ms, and "samples", the n measurements in ms.
    """
    for _ in range(warmup):
        jax.block_until_ready(predict(observation))
    samples = [_milliseconds(predict, observation) for _ in range(n)]
    values = [float(p) for p in np.percentile(samples, (50, 95, 99))]
    return {**dict(zip(("p50", "p95", "p99"), values, strict=True)), "samples": samples}


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

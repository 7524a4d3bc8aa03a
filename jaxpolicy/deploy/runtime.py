"""A policy on a controller: history in, receding-horizon actions out, at a fixed rate.

Everything is counted and timed on the monotonic clock. No JAX is needed or loaded.
"""

import dataclasses
import os
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from jaxpolicy.core import chunking, specs
from jaxpolicy.core.specs import ArraySpec, InputError
from jaxpolicy.deploy import backends
from jaxpolicy.deploy.safety import ActionGuard

__all__ = [
    "Clock",
    "LoopReport",
    "PolicyRuntime",
    "Robot",
    "RuntimeCounters",
    "SystemClock",
    "percentiles",
    "run",
]

# Latency samples kept: the last few hours at 20 Hz.
_MAX_SAMPLES = 2**18


class Robot(Protocol):
    """What the loop drives: one robot, real or simulated."""

    def observe(self) -> Mapping[str, Any]:
        """The latest observation, each array of one time step without batch axis."""
        ...

    def apply(self, action: np.ndarray) -> None:
        """Starts executing `action` [A], physical units; returns at once."""
        ...


class Clock(Protocol):
    """Time that never goes back."""

    def now(self) -> float:
        """Seconds since an arbitrary moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Waits."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds since an arbitrary moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


@dataclasses.dataclass(frozen=True)
class RuntimeCounters:
    """What a runtime has done since it was made.

    Attributes:
      steps: calls of `act`.
      predictions: runs of the graph.
      held: actions that were not finite and were replaced by holding still, summed
        over environments.
      clipped: actions outside the robot's limits, summed over environments.
      latency_ms: {"p50", "p95", "p99"} of `act` in milliseconds.
      prediction_ms: the same over the calls that ran the graph.
    """

    steps: int
    predictions: int
    held: int
    clipped: int
    latency_ms: Mapping[str, float]
    prediction_ms: Mapping[str, float]


def percentiles(seconds: Any) -> dict[str, float]:
    """{"p50", "p95", "p99"} in milliseconds; NaN when there is no sample."""
    values = np.asarray(seconds, np.float64) * 1e3
    return {
        f"p{q}": float(np.percentile(values, q)) if values.size else np.nan for q in (50, 95, 99)
    }


class PolicyRuntime:
    """An exported policy that controls E robots (or one, E = 1).

    Keeps the observation history and the rest of the current action chunk, draws the
    sampling noise from its own seed, checks every observation, and guards every
    action (see `safety.ActionGuard`). Two runtimes with one seed and the same
    observations give the same actions.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        backend: str = "onnx",
        seed: int = 0,
        threads: int = 1,
    ):
        """Loads the bundle in `directory`.

        Args:
          directory: what the exporter wrote.
          backend: artefact kind, a key of `backends.BACKENDS`.
          seed: of the sampling noise.
          threads: CPU threads of the backend.

        Raises:
          InputError: damaged bundle or missing runtime library.
        """
        self._backend = backends.load(directory, backend, threads)
        self.manifest = self._backend.manifest
        self._history = chunking.History(self.manifest.n_obs_steps)
        self._queue = chunking.make_buffer(
            self.manifest.n_action_steps, self.manifest.temporal_ensemble
        )
        self._guard = ActionGuard(self.manifest.action)
        self._seed, self._n_envs, self._predictions = seed, 1, 0
        self._last_action = np.zeros((1, self.manifest.action.size), np.float32)
        self._act_s: deque[float] = deque(maxlen=_MAX_SAMPLES)
        self._predict_s: deque[float] = deque(maxlen=_MAX_SAMPLES)
        self._steps = 0

    def reset(self, n: int = 1) -> None:
        """Starts new episodes of `n` environments (E); counters and noise go on."""
        if n < 1:
            raise InputError(f"the number of environments must be at least 1, got {n}")
        self._n_envs = n
        self._history.reset()
        self._queue.reset()
        self._guard.reset()
        self._last_action = np.zeros((n, self.manifest.action.size), np.float32)

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        """The next action of each environment.

        Args:
          observation: raw arrays [E, ...] of the current step; keys that the policy
            does not use are ignored, an absent `mask/<camera>` means it is there.

        Returns:
          float32 [E, A], physical units, finite and within the robot's limits.

        Raises:
          InputError: an observation is missing, misshapen or not finite; or the
            policy returned NaN with nothing safe to hold.
        """
        start = time.perf_counter()
        window = self._history.push(
            self._checked({**observation, specs.PREVIOUS_ACTION: self._last_action})
        )
        if self._queue.empty:
            self._queue.fill(self._predict(window))
        action = self._guard(self._queue.pop())
        self._last_action = action
        self._steps += 1
        self._act_s.append(time.perf_counter() - start)
        return action

    @property
    def counters(self) -> RuntimeCounters:
        """What was done so far."""
        return RuntimeCounters(
            self._steps,
            self._predictions,
            self._guard.held,
            self._guard.clipped,
            percentiles(self._act_s),
            percentiles(self._predict_s),
        )

    def _checked(self, observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {s.name: self._check_one(s, observation) for s in self.manifest.observation}

    def _check_one(self, spec: ArraySpec, observation: Mapping[str, Any]) -> np.ndarray:
        where = f"step {self._steps}"
        if spec.name in observation:
            value = np.asarray(observation[spec.name])
        elif spec.name.startswith(specs.MASK_PREFIX):
            value = np.ones((self._n_envs, *spec.shape), bool)
        else:
            raise InputError(
                f"{where}: the observation lacks '{spec.name}'; it has {sorted(observation)}"
            )
        spec.validate(value, where)
        if value.shape != (self._n_envs, *spec.shape):
            wanted = [self._n_envs, *spec.shape]
            raise InputError(f"{where}: '{spec.name}' must be {wanted}, got {list(value.shape)}")
        return value

    def _predict(self, window: Mapping[str, np.ndarray]) -> np.ndarray:
        start = time.perf_counter()
        rng = np.random.default_rng((self._seed, self._predictions))
        shapes = {s.name: (self._n_envs, *s.shape) for s in self.manifest.noise}
        noise = {k: rng.standard_normal(v, np.float32) for k, v in shapes.items()}
        chunk = self._backend(window, noise)
        self._predictions += 1
        self._predict_s.append(time.perf_counter() - start)
        return chunk


@dataclasses.dataclass(frozen=True)
class LoopReport:
    """What a fixed-rate loop did.

    Attributes:
      steps: actions applied.
      overruns: steps that ended after their deadline.
      skipped: periods dropped to catch up after overruns longer than a period.
      period_s: seconds per step.
      work_ms: {"p50", "p95", "p99"} of observing, acting and applying, milliseconds.
      counters: the runtime's, at the end.
    """

    steps: int
    overruns: int
    skipped: int
    period_s: float
    work_ms: Mapping[str, float]
    counters: RuntimeCounters


def run(
    robot: Robot, runtime: PolicyRuntime, n_steps: int, clock: Clock | None = None
) -> LoopReport:
    """Drives `robot` for `n_steps` at the control rate of the policy's ActionSpec.

    Deadlines are multiples of the period counted from the start, so the rate does not
    drift. A step that misses its deadline is counted; when it misses more than one,
    the periods that have passed are skipped (never executed in a burst).

    Raises:
      InputError: from the runtime; the robot keeps its last action, and stopping it
        is the caller's business.
    """
    clock = clock or SystemClock()
    period = 1.0 / runtime.manifest.action.control_hz
    runtime.reset(1)
    start, tick, overruns, work = clock.now(), 0, 0, []
    for _ in range(n_steps):
        begin = clock.now()
        _step(robot, runtime)
        end = clock.now()
        work.append(end - begin)
        late = end - (start + (tick + 1) * period)
        overruns += late > 0
        tick += 1 + (int(late // period) if late > 0 else 0)
        clock.sleep(max(0.0, start + tick * period - end))
    skipped = tick - n_steps
    return LoopReport(n_steps, overruns, skipped, period, percentiles(work), runtime.counters)


def _step(robot: Robot, runtime: PolicyRuntime) -> None:
    observation = {k: np.asarray(v)[None] for k, v in robot.observe().items()}
    robot.apply(runtime.act(observation)[0])

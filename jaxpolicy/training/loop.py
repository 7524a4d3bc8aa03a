"""The training loop: the only place that jits, donates, logs and saves.

`fit` prepares the data and trains; `train` does the second half for data that is
ready. Both continue where an earlier, killed run of the same configuration stopped.
What a step does is a function of (configuration, step), and what happens between steps
is a function of the absolute step, so an interrupted run ends with the very bits of an
unbroken one on the same number of devices.
"""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxpolicy import schema
from jaxpolicy.data.loader import BatchLoader
from jaxpolicy.specs import InputError
from jaxpolicy.training import (
    callbacks,
    factory,
    inputs,
    prepare,
    programs,
    run_directory,
    sharding,
)
from jaxpolicy.training.callbacks import Best
from jaxpolicy.training.checkpoint import Checkpointer
from jaxpolicy.training.config import LoopConfig, TrainConfig
from jaxpolicy.training.inputs import Feed
from jaxpolicy.training.metrics import MetricsWriter
from jaxpolicy.training.prepare import Prepared
from jaxpolicy.training.progress import ProgressBar
from jaxpolicy.types import Algorithm, Metrics, Params, PolicySpec, TrainState

__all__ = [
    "Context",
    "EvaluateFn",
    "FitResult",
    "Journal",
    "Part",
    "Position",
    "Schedule",
    "dispatch_plan",
    "enable_compilation_cache",
    "fit",
    "make_schedule",
    "n_val_batches",
    "train",
    "use_scan",
]

# (algorithm, policy_spec, params, step) -> numbers, logged as "eval/<name>".
EvaluateFn = Callable[[Algorithm, PolicySpec, Params, int], Mapping[str, float]]


class FitResult(NamedTuple):
    """What training gives back.

    Attributes:
      params: parameters of the best checkpoint (the last without validation).
      best_step: updates done there.
      step: updates done in total.
      metrics: the newest value of every metric.
      algorithm, policy_spec: to act with `params`.
      state: all of training at its end.
      resumed_from: step at which this call started.
      stopped_early: whether patience ran out.
      seconds: wall-clock time of this call after the data was ready.
      steps_per_second: without the first dispatch, which compiles.
      data_wait_share: share of `seconds` spent waiting for data.
    """

    params: Params
    best_step: int
    step: int
    metrics: Mapping[str, float]
    algorithm: Algorithm
    policy_spec: PolicySpec
    state: TrainState
    resumed_from: int
    stopped_early: bool
    seconds: float
    steps_per_second: float
    data_wait_share: float


class Position(NamedTuple):
    """Where a run stands.

    Attributes:
      state: all that is on the devices.
      step: updates done.
      best: best validation so far.
      stopped: patience has run out.
    """

    state: TrainState
    step: int
    best: Best
    stopped: bool = False


class Schedule(NamedTuple):
    """When things happen, in updates.

    Attributes:
      total: end of the run.
      eval_every: between validations, 0 without validation data.
      checkpoint_every: between checkpoints.
      dispatch: at most this many per call of the compiled program.
    """

    total: int
    eval_every: int
    checkpoint_every: int
    dispatch: int


@dataclasses.dataclass
class Journal:
    """What a run tells: numbers, where they go, and how fast they come.

    Attributes:
      writer: metrics files, None on all but the first host.
      bar: progress bar.
      values: newest value of every metric.
      marks: (seconds, step) after every dispatch.
      waited_s: time spent waiting for data.
    """

    writer: MetricsWriter | None
    bar: ProgressBar
    values: dict[str, float] = dataclasses.field(default_factory=dict)
    marks: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    waited_s: float = 0.0

    def mark(self, step: int) -> float:
        """Notes that `step` updates are done; steps per second since the last mark."""
        self.marks.append((time.perf_counter(), step))
        return self.rate(max(len(self.marks) - 2, 0))

    def rate(self, since: int = 1) -> float:
        """Steps per second from mark number `since` to the last, 0 when unknown."""
        if len(self.marks) <= since + 1:
            return 0.0
        (t0, s0), (t1, s1) = self.marks[since], self.marks[-1]
        return (s1 - s0) / max(t1 - t0, 1e-9)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One row of metrics."""
        self.values |= values
        if self.writer is not None:
            self.writer.write(step, values)
        self.bar.update(step, values)

    def close(self) -> None:
        """Closes files and bar."""
        self.bar.close()
        if self.writer is not None:
            self.writer.close()


@dataclasses.dataclass(frozen=True)
class Context:
    """Everything a run needs besides its Position; nothing here is replaced.

    Attributes:
      config: see TrainConfig.
      schedule: see Schedule.
      algorithm: see types.Algorithm.
      data: see Prepared.
      mesh: devices.
      like: TrainState of shapes, dtypes and shardings.
      train_part, eval_part: see Part; no `eval_part` without validation data.
      checkpointer, journal: outputs.
      evaluate: see EvaluateFn.
    """

    config: TrainConfig
    schedule: Schedule
    algorithm: Algorithm
    data: Prepared
    mesh: Mesh
    like: TrainState
    train_part: "Part"
    eval_part: "Part | None"
    checkpointer: Checkpointer
    journal: Journal
    evaluate: EvaluateFn | None


class Part(NamedTuple):
    """One part of the data and the program that consumes it.

    Attributes:
      loader: see data.loader.
      program: compiled function of module `programs`.
      arrays: device-resident data, None in host mode.
      size: batches per dispatch.
      scan: whether a dispatch is one program.
    """

    loader: BatchLoader
    program: Callable[..., Any]
    arrays: Any
    size: int
    scan: bool

    def feeds(self, plan: Iterable[tuple[int, int]], mesh: Mesh) -> Iterator[Feed]:
        """Data of every dispatch of `plan`."""
        return inputs.feeds(self.loader, plan, mesh, self.size if self.scan else 0)


def enable_compilation_cache(directory: str | os.PathLike[str]) -> None:
    """Keeps compiled programs in `directory`, so that the next process starts faster."""
    jax.config.update("jax_compilation_cache_dir", os.fspath(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def fit(
    config: TrainConfig, workdir: str | os.PathLike[str], evaluate: EvaluateFn | None = None
) -> FitResult:
    """Trains `config` in `workdir`, continuing what is there.

    Args:
      config: a TrainConfig or a subclass; stored as `<workdir>/config.json`.
      workdir: run directory.
      evaluate: called at every validation, see EvaluateFn.

    Raises:
      InputError: unwritable `workdir`, a checkpoint of another configuration, bad data,
        or training that diverged.
    """
    run_directory.check_writable(workdir)
    return train(config, workdir, prepare.prepare_data(config, workdir), evaluate)


def train(
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    data: Prepared,
    evaluate: EvaluateFn | None = None,
) -> FitResult:
    """Trains on data that is ready; see `fit`."""
    start = time.perf_counter()
    run_directory.check_writable(workdir)
    _check_monitor(config.loop, data, evaluate)
    with contextlib.ExitStack() as stack:
        context, first = _open(config, workdir, data, evaluate, stack)
        context.journal.mark(first.step)
        context.journal.bar.note(f"data on {data.train_loader.reason}")
        last = _run(context, first)
        params, best_step = _best_params(context, last)
    journal, seconds = context.journal, time.perf_counter() - start
    return FitResult(
        params=params,
        best_step=best_step,
        step=last.step,
        metrics=dict(journal.values),
        algorithm=context.algorithm,
        policy_spec=data.policy_spec,
        state=last.state,
        resumed_from=first.step,
        stopped_early=last.stopped,
        seconds=seconds,
        steps_per_second=journal.rate(),
        data_wait_share=journal.waited_s / max(seconds, 1e-9),
    )


def _check_monitor(config: LoopConfig, data: Prepared, evaluate: EvaluateFn | None) -> None:
    if config.monitor.startswith("eval/") and evaluate is None:
        raise InputError(f"loop.monitor={config.monitor} needs in-loop evaluation; use val/loss")
    if config.patience and data.val_loader is None:
        raise InputError("loop.patience needs validation data; data.split leaves none")


# ------------------------------------------------------------------ opening a run


def _open(
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    data: Prepared,
    evaluate: EvaluateFn | None,
    stack: contextlib.ExitStack,
) -> tuple[Context, Position]:
    """Everything a run needs, and where it starts; `stack` closes what is opened."""
    mesh = sharding.make_mesh(config.loop.devices)
    sharding.check_batch_size(config.loop.batch_size, mesh)
    schedule = make_schedule(config.loop, data)
    algorithm = factory.make_algorithm(config, data.policy_spec, data.norm, schedule.total)
    seed = jax.random.key(config.seed), factory.example_batch(data.policy_spec)
    like = sharding.abstract(algorithm.init, mesh, *seed)
    checkpointer = stack.enter_context(
        contextlib.closing(Checkpointer(workdir, config.loop.max_to_keep))
    )
    step = checkpointer.latest_step()
    assets = {} if step is None else checkpointer.assets(step)
    if step is None:
        first = Position(sharding.init_on(algorithm.init, mesh, *seed), 0, Best())
    else:
        _check_assets(config, data, assets, workdir)
        first = _position(checkpointer.restore(step, like), step, assets)
    if jax.process_index() == 0:
        run_directory.write_config(config, workdir)
    journal = _make_journal(config.loop, workdir, schedule, first.step)
    stack.callback(journal.close)
    train_part, eval_part = _make_parts(config, data, algorithm, mesh, schedule)
    context = Context(
        config=config,
        schedule=schedule,
        algorithm=algorithm,
        data=data,
        mesh=mesh,
        like=like,
        train_part=train_part,
        eval_part=eval_part,
        checkpointer=checkpointer,
        journal=journal,
        evaluate=evaluate,
    )
    return context, first


def make_schedule(config: LoopConfig, data: Prepared) -> Schedule:
    """Epochs and defaults of `config` as numbers of updates."""
    epoch = max(data.train_loader.batches_per_epoch, 1)
    total = config.epochs * epoch or config.steps
    every = config.eval_every or epoch
    checkpoint_every = config.checkpoint_every or every
    size = inputs.stack_size(data.train_loader, min(config.steps_per_dispatch, total))
    return Schedule(total, every if data.val_loader else 0, checkpoint_every, size)


def _make_journal(
    config: LoopConfig, workdir: str | os.PathLike[str], schedule: Schedule, step: int
) -> Journal:
    first_host = jax.process_index() == 0
    writer = MetricsWriter(workdir, step, config.tensorboard) if first_host else None
    return Journal(writer, ProgressBar(schedule.total, step, config.progress and first_host))


def _make_parts(
    config: TrainConfig, data: Prepared, algorithm: Algorithm, mesh: Mesh, schedule: Schedule
) -> tuple[Part, Part | None]:
    """Data and programs, which compile at their first call."""
    scan = use_scan(config.loop, mesh)
    make = functools.partial(_make_part, config, algorithm, mesh, scan)
    step = programs.train_steps if scan else programs.train_step
    train_part = make(data.train_loader, step, schedule.dispatch)
    if data.val_loader is None:
        return train_part, None
    size = inputs.stack_size(data.val_loader, n_val_batches(config.loop, data.val_loader))
    return train_part, make(
        data.val_loader, programs.eval_steps if scan else programs.eval_step, size
    )


def use_scan(config: LoopConfig, mesh: Mesh) -> bool:
    """Whether several steps are one program; see module `programs`."""
    if config.scan == "auto":
        return mesh.devices.flat[0].platform != "cpu"
    return config.scan == "on"


def n_val_batches(config: LoopConfig, loader: BatchLoader) -> int:
    """Batches per validation."""
    n = max(loader.batches_per_epoch, 1)
    return min(n, config.eval_batches or n)


def _make_part(
    config: TrainConfig,
    algorithm: Algorithm,
    mesh: Mesh,
    scan: bool,
    loader: BatchLoader,
    step: Callable[..., Any],
    size: int,
) -> Part:
    fetch = inputs.make_fetch(loader, config.n_obs_steps, config.horizon)
    trains = step in (programs.train_step, programs.train_steps)
    program = jax.jit(
        functools.partial(step, algorithm, fetch),
        donate_argnums=0 if trains else (),
        out_shardings=sharding.replicated(mesh),
    )
    resident = loader.mode == "device"
    arrays = sharding.put_replicated(dict(loader.arrays), mesh) if resident else None
    return Part(loader, program, arrays, size, scan)


# ------------------------------------------------------------------ running


def dispatch_plan(schedule: Schedule, start: int) -> Iterator[tuple[int, int]]:
    """(first step, number of steps) of every dispatch from `start` to the end.

    A dispatch ends at multiples of `schedule.dispatch` and at every event, which is a
    function of the absolute step alone: a resumed run makes the same calls.
    """
    while start < schedule.total:
        ends = [
            (start // every + 1) * every
            for every in (schedule.dispatch, schedule.eval_every, schedule.checkpoint_every)
            if every
        ]
        stop = min(*ends, schedule.total)
        yield start, stop - start
        start = stop


def _is_due(step: int, every: int, total: int) -> bool:
    return bool(every) and (step % every == 0 or step == total)


def _run(context: Context, position: Position) -> Position:
    """Trains to the end; metrics are fetched one dispatch late, so devices never wait."""
    if position.stopped or position.step >= context.schedule.total:
        return position
    plan = dispatch_plan(context.schedule, position.step)
    late: tuple[Feed, Any] | None = None
    with inputs.Prefetcher(context.train_part.feeds(plan, context.mesh)) as ahead:
        for feed in ahead:
            context.journal.waited_s = ahead.waited_s
            state, metrics = _dispatch(context.train_part, position.state, feed)
            position = position._replace(state=state, step=feed.stop)
            if late:
                _record(context, *late)
            late = feed, metrics
            if _has_event(context.schedule, feed.stop):
                _record(context, *late)
                late, position = None, _handle_events(context, position)
            if position.stopped:
                break
    return position


def _dispatch(part: Part, state: TrainState, feed: Feed) -> tuple[TrainState, Any]:
    """Starts the updates of `feed`; metrics are on their way in the form `_rows` takes."""
    if part.scan:
        return part.program(state, part.arrays, feed.data, np.int32(feed.n))
    rows = []
    for data in feed.data:
        state, metrics = part.program(state, part.arrays, data)
        rows.append(metrics)
    return state, rows


def _rows(metrics: Any, n: int) -> dict[str, np.ndarray]:
    """Metrics of a dispatch, each [n]; waits for the devices."""
    found = jax.device_get(metrics)
    if isinstance(found, list):
        return {k: np.stack([row[k] for row in found]) for k in found[0]}
    return {k: v[:n] for k, v in found.items()}


def _has_event(schedule: Schedule, step: int) -> bool:
    periods = (schedule.eval_every, schedule.checkpoint_every)
    return step == schedule.total or any(_is_due(step, p, schedule.total) for p in periods)


def _record(context: Context, feed: Feed, metrics: Any) -> None:
    """Means over a dispatch -> metrics files; stops the run on NaN or infinity."""
    rows = _rows(metrics, feed.n)
    callbacks.check_finite(rows, feed.start)
    journal = context.journal
    values = {f"train/{k}": float(v.mean()) for k, v in rows.items()}
    rate = journal.mark(feed.stop)
    elapsed = journal.marks[-1][0] - journal.marks[0][0]
    values |= {"steps_per_s": rate, "data_wait_share": journal.waited_s / max(elapsed, 1e-9)}
    journal.write(feed.stop, values)


def _handle_events(context: Context, position: Position) -> Position:
    """Validation, best checkpoint, early stopping and saving, as due at this step."""
    config, schedule, step = context.config.loop, context.schedule, position.step
    score = None
    if _is_due(step, schedule.eval_every, schedule.total):
        score = _score(config, _validate(context, position))
        best = callbacks.update_best(position.best, step, score)
        stopped = callbacks.should_stop(best, config.patience)
        position = position._replace(best=best, stopped=stopped)
    improved = score is not None and position.best.step == step
    if improved or position.stopped or _is_due(step, schedule.checkpoint_every, schedule.total):
        context.checkpointer.save(step, position.state, _assets(context, position), score)
    return position


def _validate(context: Context, position: Position) -> dict[str, float]:
    """Mean metrics on held-out data, "val/...", and of in-loop evaluation, "eval/..."."""
    values = {f"val/{k}": v for k, v in _val_metrics(context, position.state.params).items()}
    callbacks.check_finite(values, position.step)
    if context.evaluate is not None:
        found = context.evaluate(
            context.algorithm, context.data.policy_spec, position.state.params, position.step
        )
        values |= {f"eval/{k}": float(v) for k, v in found.items()}
    context.journal.write(position.step, values)
    context.journal.bar.line(position.step)
    return values


def _val_metrics(context: Context, params: Params) -> dict[str, float]:
    """Mean of `eval_step` over the validation batches."""
    part = context.eval_part
    if part is None:
        return {}
    n = n_val_batches(context.config.loop, part.loader)
    plan = [(s, min(part.size, n - s)) for s in range(0, n, part.size)]
    sums: list[Metrics] = []
    for feed in part.feeds(plan, context.mesh):
        if part.scan:
            sums.append(part.program(params, part.arrays, feed.data, np.int32(feed.n)))
        else:
            sums += [part.program(params, part.arrays, row) for row in feed.data]
    found = jax.device_get(sums)
    return {k: float(sum(row[k] for row in found) / n) for k in found[0]}


def _score(config: LoopConfig, values: Mapping[str, float]) -> float:
    """The monitored metric, lower is better."""
    if config.monitor not in values:
        raise InputError(
            f"loop.monitor must be one of {', '.join(sorted(values))}, got '{config.monitor}'"
        )
    value = values[config.monitor]
    return value if config.monitor_mode == "min" else -value


# ------------------------------------------------------------------ saving and restoring


def _assets(context: Context, position: Position) -> dict[str, Any]:
    """JSON part of a checkpoint; inverse of `_position`."""
    return {
        "config": schema.to_mapping(context.config),
        "policy_spec": schema.to_mapping(context.data.policy_spec),
        "dataset_hash": context.data.dataset_hash,
        "versions": run_directory.versions(),
        "total_steps": context.schedule.total,
        "best": position.best._asdict(),
        "stopped": position.stopped,
        "streamed": _is_streamed(context.data),
    }


def _position(state: TrainState, step: int, assets: Mapping[str, Any]) -> Position:
    return Position(state, step, Best(**assets["best"]), assets["stopped"])


def _check_order(data: Prepared, assets: Mapping[str, Any]) -> None:
    """Streaming draws samples in another order than the other modes do."""
    streamed = assets.get("streamed", False)
    if streamed != _is_streamed(data):
        raise InputError(
            f"the run so far {'streamed' if streamed else 'did not stream'} its data, and "
            f"data.loader would {'not ' if streamed else ''}now: samples would come in another "
            f"order; resume with --config.data.loader={'stream' if streamed else 'host'}"
        )


def _is_streamed(data: Prepared) -> bool:
    return data.train_loader.mode == "stream"


def _check_assets(
    config: TrainConfig,
    data: Prepared,
    assets: Mapping[str, Any],
    workdir: str | os.PathLike[str],
) -> None:
    """Raises InputError unless the checkpoint was made by this configuration and data."""
    run_directory.check_same_config(config, assets, workdir)
    _check_order(data, assets)
    if assets["dataset_hash"] != data.dataset_hash:
        raise InputError(
            f"{os.fspath(workdir)} holds checkpoints trained on another dataset (hash "
            f"{assets['dataset_hash'][:12]}, now {data.dataset_hash[:12]}); use another --workdir"
        )


def _best_params(context: Context, position: Position) -> tuple[Params, int]:
    context.checkpointer.wait()
    step = context.checkpointer.best_step()
    if step is None or step == position.step:
        return position.state.params, position.step
    return context.checkpointer.params(step, context.like.params), step

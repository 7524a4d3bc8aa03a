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
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxpolicy.algorithms import finetune
from jaxpolicy.core import interruption, schema
from jaxpolicy.core.interruption import Interrupted
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import Algorithm, Metrics, Params, PolicySpec, TrainState
from jaxpolicy.data.loader import BatchLoader
from jaxpolicy.training import (
    callbacks,
    factory,
    guard,
    inputs,
    journal,
    online,
    prepare,
    programs,
    run_directory,
    schedule,
    sharding,
)
from jaxpolicy.training.callbacks import Best
from jaxpolicy.training.checkpoint import Checkpointer
from jaxpolicy.training.config import LoopConfig, TrainConfig
from jaxpolicy.training.guard import DivergenceError, Recovery, Trend
from jaxpolicy.training.inputs import Feed
from jaxpolicy.training.journal import Journal
from jaxpolicy.training.metrics import Video
from jaxpolicy.training.prepare import Prepared
from jaxpolicy.training.schedule import Schedule

__all__ = [
    "Context",
    "EvaluateFn",
    "FitResult",
    "Part",
    "Position",
    "enable_compilation_cache",
    "fit",
    "train",
    "use_scan",
]

# Seconds that an interrupted run has to finish the updates under way, which it then saves.
_SAVED_WITHIN_S = 30.0

# (algorithm, policy_spec, params, step) -> numbers and videos, logged as "eval/<name>".
EvaluateFn = Callable[[Algorithm, PolicySpec, Params, int], Mapping[str, float | Video]]


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
      seconds: wall-clock time after the data was ready, that of the calls which this one
        continued included.
      steps_per_second: without the first dispatch, which compiles.
      shares: share of this call's time for each of journal.PARTS.
      recoveries: divergences that the run came back from, oldest first.
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
    shares: Mapping[str, float]
    recoveries: tuple[Recovery, ...] = ()


class Position(NamedTuple):
    """Where a run stands.

    Attributes:
      state: all that is on the devices.
      step: updates done.
      best: best validation so far.
      stopped: patience has run out.
      pending: what happens after this step (validation) was interrupted, and is to come.
      trend: of the metric that must not collapse.
      recoveries: divergences so far, oldest first.
    """

    state: TrainState
    step: int
    best: Best
    stopped: bool = False
    pending: bool = False
    trend: Trend = Trend()
    recoveries: tuple[Recovery, ...] = ()


@dataclasses.dataclass(frozen=True)
class Context:
    """Everything a run needs besides its Position; only a recovery replaces some of it.

    Attributes:
      config: see TrainConfig.
      schedule: see Schedule.
      algorithm: see types.Algorithm; a recovery lowers its learning rate.
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
        or training that diverged (DivergenceError) after all that `loop.guard` tried.
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
    began = time.perf_counter()
    run_directory.check_writable(workdir)
    _check_monitor(config.loop, data, evaluate)
    with contextlib.ExitStack() as stack:
        context, first = _open(config, workdir, data, evaluate, stack)
        told = context.journal
        told.began = began
        told.mark(first.step)
        told.bar.note(f"data on {data.train_loader.reason}")
        context, last = _run(context, first)
        with told.timed("checkpoint"):
            params, best_step = _best_params(context, last)
    return FitResult(
        params=params,
        best_step=best_step,
        step=last.step,
        metrics=dict(told.values),
        algorithm=context.algorithm,
        policy_spec=data.policy_spec,
        state=last.state,
        resumed_from=first.step,
        stopped_early=last.stopped,
        seconds=told.seconds(),
        steps_per_second=told.rate(),
        shares=told.shares(),
        recoveries=last.recoveries,
    )


def _check_monitor(config: LoopConfig, data: Prepared, evaluate: EvaluateFn | None) -> None:
    if config.guard.max_drop and config.guard.metric.startswith("eval/") and evaluate is None:
        raise InputError(
            f"loop.guard.max_drop of {config.guard.metric} needs in-loop evaluation "
            "(loop.rollouts); use it, or another loop.guard.metric"
        )
    if config.monitor.startswith("eval/") and evaluate is None:
        raise InputError(f"loop.monitor={config.monitor} needs in-loop evaluation; use val/loss")
    if data.val_loader is None and config.monitor.startswith("val/"):
        if config.patience:
            raise InputError("loop.patience needs validation data; data.split leaves none")
        if evaluate is not None:
            raise InputError(
                f"loop.monitor={config.monitor} needs validation data, and data.split leaves "
                "none; use eval/success with loop.monitor_mode=max"
            )


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
    times = schedule.make_schedule(config.loop, data, evaluate is not None)
    checkpointer = stack.enter_context(
        contextlib.closing(Checkpointer(workdir, config.loop.max_to_keep))
    )
    step = checkpointer.latest_step()
    assets = {} if step is None else checkpointer.assets(step)
    if assets:
        _check_assets(config, data, assets, workdir)
        run_directory.check_length(times.total, step or 0, workdir)
    n_recoveries = len(assets.get("recoveries", ()))
    algorithm = _make_algorithm(config, data, times, mesh, n_recoveries, step is None)
    shard = config.loop.shard_params
    like = sharding.abstract(algorithm.init, mesh, *_seed(config, data), shard=shard)
    like = online.place(like, mesh)
    if jax.process_index() == 0:
        run_directory.write_config(config, workdir)
    earlier_s = assets.get("seconds", 0.0)
    told = journal.open_journal(config, workdir, times.total, step or 0, earlier_s)
    stack.callback(told.close)
    train_part, eval_part = _make_parts(config, data, algorithm, mesh, like, times)
    context = Context(
        config=config,
        schedule=times,
        algorithm=algorithm,
        data=data,
        mesh=mesh,
        like=like,
        train_part=train_part,
        eval_part=eval_part,
        checkpointer=checkpointer,
        journal=told,
        evaluate=evaluate,
    )
    position = _restored(context, step)
    planned = assets.get("total_steps", times.total)
    if planned == times.total:
        return context, position
    told.bar.note(schedule.describe_change(config, planned, times.total, position.step))
    return context, _lengthened(position, planned, times.total)


def _lengthened(position: Position, planned: int, total: int) -> Position:
    """Where a run of `planned` updates stands that is to have `total`.

    One that patience had ended, and that is asked for more, gets as many validations again.
    """
    if total <= planned or not position.stopped:
        return position
    return position._replace(stopped=False, best=position.best._replace(waited=0))


def _make_algorithm(
    config: TrainConfig,
    data: Prepared,
    times: Schedule,
    mesh: Mesh,
    n_recoveries: int,
    begins: bool,
) -> Algorithm:
    """The algorithm as it is after so many recoveries: they lower the learning rate alone.

    Only where the run `begins` is what it starts from read: later its own checkpoints hold it.
    """
    peak = guard.learning_rate(config.loop.guard, config.optimizer.learning_rate, n_recoveries)
    optimizer = dataclasses.replace(config.optimizer, learning_rate=peak)
    config = dataclasses.replace(config, optimizer=optimizer)
    algorithm = online.make_algorithm(config, data, times.total, mesh)
    if not (begins and config.init_from):
        return algorithm
    return finetune.start_from(algorithm, factory.load_policy(online.source(config)).params)


def _seed(config: TrainConfig, data: Prepared) -> tuple[Any, ...]:
    """Arguments of `Algorithm.init`."""
    return jax.random.key(config.seed), factory.example_batch(data.policy_spec)


def _make_parts(
    config: TrainConfig,
    data: Prepared,
    algorithm: Algorithm,
    mesh: Mesh,
    like: TrainState,
    times: Schedule,
) -> tuple[Part, Part | None]:
    """Data and programs, which compile at their first call."""
    scan = use_scan(config.loop, mesh)
    program = _train_program(config, data.train_loader, algorithm, mesh, like, scan)
    train_part = _make_part(data.train_loader, program, mesh, times.dispatch, scan)
    if data.val_loader is None:
        return train_part, None
    n = schedule.n_val_batches(config.loop, data.val_loader)
    size = inputs.stack_size(data.val_loader, n)
    step: Callable[..., Any] = programs.eval_steps if scan else programs.eval_step
    fetch = inputs.make_fetch(data.val_loader, config.n_obs_steps, config.horizon)
    program = jax.jit(
        functools.partial(step, algorithm, fetch), out_shardings=sharding.replicated(mesh)
    )
    return train_part, _make_part(data.val_loader, program, mesh, size, scan)


def _train_program(
    config: TrainConfig,
    loader: BatchLoader,
    algorithm: Algorithm,
    mesh: Mesh,
    like: TrainState,
    scan: bool,
) -> Callable[..., Any]:
    """Updates of `algorithm`, which a recovery compiles anew."""
    step: Callable[..., Any] = programs.train_steps if scan else programs.train_step
    fetch = inputs.make_fetch(loader, config.n_obs_steps, config.horizon)
    where = jax.tree.map(lambda x: x.sharding, like), sharding.replicated(mesh)
    return jax.jit(functools.partial(step, algorithm, fetch), donate_argnums=0, out_shardings=where)


def _make_part(
    loader: BatchLoader, program: Callable[..., Any], mesh: Mesh, size: int, scan: bool
) -> Part:
    resident = loader.mode == "device"
    arrays = sharding.put_replicated(dict(loader.arrays), mesh) if resident else None
    return Part(loader, program, arrays, size, scan)


def use_scan(config: LoopConfig, mesh: Mesh) -> bool:
    """Whether several steps are one program; see module `programs`."""
    if config.scan == "auto":
        return mesh.devices.flat[0].platform != "cpu"
    return config.scan == "on"


# ------------------------------------------------------------------ running


def _run(context: Context, position: Position) -> tuple[Context, Position]:
    """Trains to the end; where training diverges, again from a checkpoint that was good."""
    while True:
        try:
            return context, _advance(context, position)
        except DivergenceError as e:
            # Not the traceback: it holds the state, and a second one may not fit.
            found = e.with_traceback(None)
        context, position = _recover(context, position.recoveries, found)


def _advance(context: Context, position: Position) -> Position:
    """Trains to the end; metrics are fetched one dispatch late, so devices never wait."""
    if position.pending:
        position = _handle_events(context, position._replace(pending=False))
    if position.stopped or position.step >= context.schedule.total:
        return position
    plan = schedule.dispatch_plan(context.schedule, position.step)
    told = context.journal
    waited = told.spent.get("data", 0.0)
    late: tuple[Feed, Any] | None = None
    feeds = context.train_part.feeds(plan, context.mesh)
    with inputs.Prefetcher(feeds) as ahead, interruption.patience() as grant:
        for feed in ahead:
            told.spent["data"] = waited + ahead.waited_s
            with told.timed("profile"):
                told.profiler.before(feed.start, feed.stop)
            state, metrics = _dispatch(context.train_part, position.state, feed)
            position = position._replace(state=state, step=feed.stop)
            if late:
                position = _record(context, position, *late)
            late = feed, metrics
            context.checkpointer.check()
            # The first dispatch compiles; from now on there is something to save.
            grant(_SAVED_WITHIN_S)
            if interruption.requested() and not schedule.has_event(context.schedule, feed.stop):
                _leave(context, _record(context, position, *late))
            if schedule.has_event(context.schedule, feed.stop):
                # What is saved comes after metrics that were all looked at.
                position = _record(context, position, *late)
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


def _record(context: Context, position: Position, feed: Feed, metrics: Any) -> Position:
    """Means over a dispatch -> metrics files and trend; raises where training has diverged."""
    rows = _rows(metrics, feed.n)
    guard.check_finite(rows, feed.start)
    told, limits = context.journal, context.config.loop.guard
    values = {f"train/{k}": float(v.mean()) for k, v in rows.items()}
    rate = told.mark(feed.stop)
    elapsed = told.marks[-1][0] - told.marks[0][0]
    values["learning_rate"] = factory.learning_rate(
        context.config, context.schedule.total, feed.stop
    )
    values |= {"steps_per_s": rate, "data_wait_share": told.spent["data"] / max(elapsed, 1e-9)}
    if position.recoveries:
        values["recoveries"] = len(position.recoveries)
    told.write(feed.stop, values)
    guard.check_kl(limits, values, feed.start, feed.stop)
    return position._replace(trend=guard.watch(limits, position.trend, values, feed.stop))


def _handle_events(context: Context, position: Position) -> Position:
    """Validation, best checkpoint, early stopping and saving, as due at this step."""
    config, times, step = context.config.loop, context.schedule, position.step
    score = None
    if schedule.is_due(step, times.eval_every, times.total):
        try:
            with context.journal.timed("eval"):
                values = _validate(context, position)
        except Interrupted:
            _leave(context, position._replace(pending=True))
            raise
        score = _score(config, values)
        guard.check_finite({config.monitor: score}, step)
        trend = guard.watch(config.guard, position.trend, values, step)
        best = callbacks.update_best(position.best, step, score)
        stopped = callbacks.should_stop(best, config.patience)
        position = position._replace(best=best, stopped=stopped, trend=trend)
    improved = score is not None and position.best.step == step
    is_due = schedule.is_due(step, times.checkpoint_every, times.total)
    if improved or position.stopped or is_due:
        _save(context, position, score)
        interruption.check()
    elif interruption.requested():
        _leave(context, position)
    return position


def _save(context: Context, position: Position, score: float | None = None) -> None:
    with context.journal.timed("checkpoint"):
        _check_params(context, position)
        assets = _assets(context, position)
        context.checkpointer.save(position.step, position.state, assets, score)


def _leave(context: Context, position: Position) -> None:
    """Saves where an interrupted run stands, and raises Interrupted.

    Saving takes all hosts, and a signal may have come to one alone: then it only raises.
    """
    if jax.process_count() == 1:
        with interruption.patience() as grant:
            grant(math.inf)
            _save(context, position)
            context.checkpointer.wait()
    interruption.check()


def _check_params(context: Context, position: Position) -> None:
    """Metrics are those before an update; this looks at what the last one made."""
    is_finite = jax.jit(guard.all_finite, out_shardings=sharding.replicated(context.mesh))
    guard.check_params(is_finite(position.state.params["network"]), position.step)


def _validate(context: Context, position: Position) -> dict[str, float]:
    """Mean metrics on held-out data, "val/...", and of in-loop evaluation, "eval/..."."""
    values = {f"val/{k}": v for k, v in _val_metrics(context, position.state.params).items()}
    guard.check_finite(values, position.step)
    videos = {}
    if context.evaluate is not None:
        found = context.evaluate(
            context.algorithm, context.data.policy_spec, position.state.params, position.step
        )
        for name, value in found.items():
            if isinstance(value, Video):
                videos[f"eval/{name}"] = value
            else:
                values[f"eval/{name}"] = float(value)
    context.journal.write(position.step, values, videos)
    context.journal.bar.line(position.step)
    return values


def _val_metrics(context: Context, params: Params) -> dict[str, float]:
    """Mean of `eval_step` over the validation batches."""
    part = context.eval_part
    if part is None:
        return {}
    n = schedule.n_val_batches(context.config.loop, part.loader)
    plan = [(s, min(part.size, n - s)) for s in range(0, n, part.size)]
    sums: list[Metrics] = []
    for feed in part.feeds(plan, context.mesh):
        interruption.check()
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


# ------------------------------------------------------------------ after a divergence


def _recover(
    context: Context, earlier: tuple[Recovery, ...], found: DivergenceError
) -> tuple[Context, Position]:
    """Back to the newest good checkpoint or the beginning, with a lower learning rate.

    A run that is killed between here and its next checkpoint diverges and recovers again,
    with the same results; later checkpoints hold the recoveries.
    """
    config, told, n = context.config, context.journal, len(earlier) + 1
    limits, peak = config.loop.guard, config.optimizer.learning_rate
    rate = guard.learning_rate(limits, peak, n - 1)
    if n > limits.tries:
        raise guard.exhausted(found, earlier, rate)
    with told.timed("checkpoint"):
        step = context.checkpointer.forget(found.good_until)
        context = _slowed(context, n, step is None)
        position = _restored(context, step)
    recoveries = (*earlier, Recovery(found.step, found.reason, rate, position.step))
    rate = guard.learning_rate(limits, peak, n)
    told.go_back(position.step, guard.describe(limits, recoveries, rate))
    state = _reseeded(context, position.state, n)
    return context, position._replace(state=state, recoveries=recoveries)


def _reseeded(context: Context, state: TrainState, n: int) -> TrainState:
    """`state` with other noise than that which led to the divergence."""
    return jax.tree.map(
        lambda x, like: sharding.init_as(guard.fold, like, x, n) if guard.is_key(x) else x,
        state,
        context.like,
    )


def _slowed(context: Context, n_recoveries: int, begins: bool) -> Context:
    """`context` with the learning rate of after so many recoveries; see `_make_algorithm`."""
    config, part = context.config, context.train_part
    data, times = context.data, context.schedule
    algorithm = _make_algorithm(config, data, times, context.mesh, n_recoveries, begins)
    program = _train_program(config, part.loader, algorithm, context.mesh, context.like, part.scan)
    train_part = part._replace(program=program)
    return dataclasses.replace(context, algorithm=algorithm, train_part=train_part)


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
        "pending": position.pending,
        "trend": position.trend._asdict(),
        "recoveries": [recovery._asdict() for recovery in position.recoveries],
        "streamed": _is_streamed(context.data),
        "seconds": context.journal.seconds(),
    }


def _position(state: TrainState, step: int, assets: Mapping[str, Any]) -> Position:
    return Position(
        state=state,
        step=step,
        best=Best(**assets["best"]),
        stopped=assets["stopped"],
        pending=assets.get("pending", False),
        trend=guard.trend_from(assets.get("trend", {})),
        recoveries=guard.recoveries_from(assets.get("recoveries", ())),
    )


def _restored(context: Context, step: int | None) -> Position:
    """Where the checkpoint of `step` stands; None: the beginning."""
    if step is None:
        seed = _seed(context.config, context.data)
        state = sharding.init_as(context.algorithm.init, context.like, *seed)
        return Position(state, 0, Best())
    state = context.checkpointer.restore(step, context.like)
    return _position(state, step, context.checkpointer.assets(step))


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

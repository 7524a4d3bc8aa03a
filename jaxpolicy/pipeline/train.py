"""Stage 5: a trained policy, and how it compares with two baselines."""

import contextlib
import dataclasses
import functools

import jax
import numpy as np

from jaxpolicy.core import atomic
from jaxpolicy.core.types import Algorithm, Params, PolicySpec
from jaxpolicy.evaluation import offline, plots, rollout
from jaxpolicy.pipeline import evaluate, stages
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.pipeline.stages import PathLike, Progress
from jaxpolicy.sim import streams
from jaxpolicy.sim.render import pictures
from jaxpolicy.training import loop, metrics, online, prepare, run_directory
from jaxpolicy.training.metrics import Video

__all__ = ["run", "success_curve", "success_now"]

CURVE = "success_curve.png"
SUCCESS = "eval/success"
# Every second frame of an episode is in the videos of training, which are GIFs.
VIDEO_STRIDE = 2


def run(
    config: ExperimentConfig, workdir: PathLike, progress: Progress | None = None
) -> tuple[loop.FitResult, dict[str, offline.ActionErrors]]:
    """Trains in `workdir`, resuming what is there, and compares with two baselines.

    With `config.loop.rollouts`, every validation drives the simulated robot too; their
    success over time is plotted into evaluation/success_curve.png.
    """
    run_directory.check_writable(workdir)
    data = _prepared(config, workdir, progress)
    watch = functools.partial(success_now, config) if config.loop.rollouts else None
    result = loop.train(config, workdir, data, watch)
    if watch is not None:
        _plot_success(config, workdir)
    return result, evaluate.offline_errors(config, workdir) if data.val_loader else {}


def _prepared(
    config: ExperimentConfig, workdir: PathLike, progress: Progress | None
) -> prepare.Prepared:
    """The data of a run, or the worlds that it learns in."""
    if online.is_online(config):
        return online.prepare(config, stages.make_world(config.env))
    return prepare.prepare_data(config, workdir, progress)


def success_now(
    config: ExperimentConfig, algorithm: Algorithm, spec: PolicySpec, params: Params, step: int
) -> dict[str, float | Video]:
    """Closed-loop success of parameters in training; a loop.EvaluateFn but for `config`.

    Starts come from the VALIDATION stream, so that choosing parameters by it says nothing
    about the starts of the final evaluation.

    Returns:
      "success" and "return", means over `config.loop.rollouts` episodes, and a video
      "episodes" of the first success and the first failure.
    """
    del step
    n = config.loop.rollouts
    settings = dataclasses.replace(
        config.evaluation, n_episodes=n, seed=0, n_recorded=1, view_size=96
    )
    controller = rollout.PolicyController(algorithm.act, _local(params), spec, config.seed)
    found = rollout.evaluate(
        stages.make_world(config.env), controller, settings, None, 0, stream=streams.VALIDATION
    )
    told: dict[str, float | Video] = {"return": float(found.returns.mean())}
    if found.success is not None:
        told["success"] = found.n_success / n
    if found.recordings:
        frames = pictures.mosaic(found.recordings)[::VIDEO_STRIDE]
        told["episodes"] = Video(frames, found.control_hz / VIDEO_STRIDE)
    return told


def _local(params: Params) -> Params:
    """Parameters that every device holds, as those of one device."""
    return jax.tree.map(lambda x: x.addressable_data(0) if x.is_fully_replicated else x, params)


def _plot_success(config: ExperimentConfig, workdir: PathLike) -> None:
    """evaluation/success_curve.png, where matplotlib is installed and there is something."""
    steps, rates, x = success_curve(config, workdir)
    with contextlib.suppress(ImportError):
        if len(steps):
            picture = plots.success_curve(steps, rates, config.loop.rollouts, x=x)
            atomic.write_bytes(evaluate.path(workdir) / CURVE, picture)


def success_curve(
    config: ExperimentConfig, workdir: PathLike
) -> tuple[np.ndarray, np.ndarray, str]:
    """Closed-loop success while a run trained.

    Returns:
      Steps [K], success rates [K], and what steps count: control steps where the run learned
      in worlds, else updates.
    """
    found = [(r["step"], r[SUCCESS]) for r in metrics.read(workdir) if SUCCESS in r]
    steps, rates = np.asarray(found, np.float64).reshape(-1, 2).T
    if online.is_online(config):
        return steps * online.steps_per_update(config), rates, "control steps"
    return steps, rates, "updates"

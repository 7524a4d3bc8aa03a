"""Plots of an evaluation as PNG bytes. Needs matplotlib (the `viz` extra)."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxpolicy.core.specs import ActionSpec
from jaxpolicy.evaluation import metrics
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.evaluation.rollout import Rollouts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["actions", "draw_all", "learning_curves", "success_curve"]

GREEN, RED, BLUE, GREY = "#248a3d", "#c8342b", "#3465a4", "#777777"
BLOCKS = 8


def draw_all(
    rollouts: Rollouts, config: EvaluationConfig, latency_ms: dict[str, Any] | None
) -> dict[str, bytes]:
    """File name -> PNG, of everything that was measured.

    Raises:
      ImportError: matplotlib is not installed.
    """
    plots = {}
    if rollouts.success is not None:
        plots["success.png"] = _success(rollouts.success, config)
        plots["time.png"] = _time_to_success(rollouts)
    plots["returns.png"] = _returns(rollouts)
    if rollouts.start is not None and rollouts.success is not None:
        plots["starts.png"] = _starts(rollouts.start, rollouts.success)
    if rollouts.paths is not None and rollouts.success is not None:
        plots["paths.png"] = _paths(rollouts.paths, rollouts.success)
    if latency_ms and "samples" in latency_ms:
        plots["latency.png"] = _latency(latency_ms, config)
    if rollouts.confidence is not None and rollouts.success is not None:
        plots["calibration.png"] = _calibration(rollouts.confidence, rollouts.success)
    return plots


def success_curve(
    steps: np.ndarray,
    rates: np.ndarray,
    n: int,
    title: str = "Success while training",
    x: str = "updates",
) -> bytes:
    """Success as learning goes on, with 95 % intervals of `n` episodes each, as PNG.

    Args:
      steps: int [K], updates done or another measure of progress.
      rates: [K] in [0, 1].
      n: episodes per point.
      title: of the plot.
      x: what `steps` counts.

    Raises:
      ImportError: matplotlib is not installed.
    """
    bounds = np.asarray([metrics.wilson(round(rate * n), n) for rate in rates])
    figure, axes = _figure(f"{title}, {n} episodes each", x, "success rate")
    axes.fill_between(steps, *bounds.T, color=GREEN, alpha=0.2, lw=0)
    axes.plot(steps, rates, color=GREEN, marker="o", ms=3)
    axes.set_ylim(-0.02, 1.05)
    return _png(figure)


def learning_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], n: int, x: str) -> bytes:
    """Success of several runs as they learn, as PNG.

    Args:
      curves: name of a run -> (steps [K], success rates [K] in [0, 1]).
      n: episodes per point.
      x: what steps count.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib.ticker import EngFormatter

    figure, axes = _figure(f"Success while training, {n} episodes each", x, "success rate")
    # 150k and 1.5M: figures of seven digits run into one another.
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    for name, (steps, rates) in curves.items():
        axes.plot(steps, rates, marker="o", ms=3, lw=1, label=name)
    axes.legend(fontsize=8, frameon=False)
    axes.set_ylim(-0.02, 1.05)
    return _png(figure)


def actions(recorded: np.ndarray, predicted: np.ndarray, spec: ActionSpec, title: str) -> bytes:
    """Recorded and predicted actions of an episode, an axis for every element, as PNG.

    Args:
      recorded, predicted: [T, A], physical units.
      spec: names and units of the elements.
      title: of the plot.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 0.8 + 1.1 * spec.size), layout="constrained")
    figure.suptitle(f"{title}: recorded (grey), predicted (blue)", fontsize=10)
    rate = spec.control_hz or 1.0
    x = np.arange(len(recorded)) / rate
    for i, axes in enumerate(figure.subplots(spec.size, 1, sharex=True, squeeze=False)[:, 0]):
        axes.plot(x, recorded[:, i], color=GREY, lw=1.6)
        axes.plot(x, predicted[:, i], color=BLUE, lw=1.0)
        unit = f" ({spec.units[i]})" if spec.units[i] not in ("", "1") else ""
        axes.set_ylabel(f"{spec.names[i]}{unit}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("seconds" if spec.control_hz else "steps", fontsize=8)
    return _png(figure)


def _figure(title: str, x: str, y: str) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _success(success: np.ndarray, config: EvaluationConfig) -> bytes:
    """Rate of all episodes and of blocks of consecutive seeds, with 95 % intervals."""
    blocks = np.array_split(success, min(BLOCKS, len(success)))
    groups = [success, *blocks]
    rates = np.asarray([g.mean() for g in groups])
    bounds = np.asarray([metrics.wilson(int(g.sum()), len(g)) for g in groups])
    figure, axes = _figure("Success, with 95 % intervals", "episodes", "success rate")
    colours = [GREEN] + [GREY] * len(blocks)
    errors = np.maximum(np.abs(bounds.T - rates), 0.0)
    axes.bar(range(len(groups)), rates, color=colours, alpha=0.8, yerr=errors, capsize=3)
    ends = np.cumsum([len(b) for b in blocks])
    names = [f"{e - len(b) + 1}-{e}" for b, e in zip(blocks, ends, strict=True)]
    axes.set_xticks(range(len(groups)), ["all", *names], rotation=45, fontsize=8)
    for level, name in ((config.good, "good"), (config.acceptable, "acceptable")):
        axes.axhline(level, color=BLUE, lw=0.8, ls="--")
        axes.annotate(
            name, (1.01, level), xycoords=("axes fraction", "data"), fontsize=7, color=BLUE
        )
    axes.set_ylim(0, 1.05)
    return _png(figure)


def _time_to_success(rollouts: Rollouts) -> bytes:
    steps = np.asarray(rollouts.first_success)
    reached = np.unique(steps[steps > 0], return_counts=True)
    figure, axes = _figure("When the goal was first reached", "seconds", "episodes")
    width = 0.9 / rollouts.control_hz
    axes.bar(reached[0] / rollouts.control_hz, reached[1], width, color=GREEN, alpha=0.8)
    axes.set_xlim(0, rollouts.lengths.max() / rollouts.control_hz)
    never = int((steps == 0).sum())
    axes.annotate(f"never: {never}", (0.98, 0.95), xycoords="axes fraction", ha="right", va="top")
    return _png(figure)


def _returns(rollouts: Rollouts) -> bytes:
    figure, axes = _figure("Return (sum of rewards)", "return", "episodes")
    bins = np.histogram_bin_edges(rollouts.returns, 20)
    if rollouts.success is None:
        axes.hist(rollouts.returns, bins=bins, color=GREY)
    else:
        parts = [rollouts.returns[rollouts.success], rollouts.returns[~rollouts.success]]
        labels = ["success", "failure"]
        axes.hist(parts, bins=bins, stacked=True, color=[GREEN, RED], label=labels, alpha=0.8)
        axes.legend(fontsize=8, frameon=False)
    return _png(figure)


def _starts(start: np.ndarray, success: np.ndarray) -> bytes:
    figure, axes = _figure("Where the object started", "x (m)", "y (m)")
    for outcome, colour, name, marker in (
        (True, GREEN, "success", "o"),
        (False, RED, "failure", "x"),
    ):
        points = start[success == outcome]
        axes.scatter(
            *points.T, s=22, color=colour, label=f"{name} ({len(points)})", marker=marker, alpha=0.8
        )
    axes.set_aspect("equal", adjustable="datalim")
    figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    return _png(figure)


def _paths(paths: np.ndarray, success: np.ndarray) -> bytes:
    """The tool's way in every episode [N, T, 2], seen from above; failures lie on top."""
    figure, axes = _figure("Ways of the tool, from above", "x (m)", "y (m)")
    for outcome, colour, name in ((True, GREEN, "success"), (False, RED, "failure")):
        chosen = paths[success == outcome]
        # One line for all of them: NaN, appended to each, breaks it.
        line = np.concatenate([chosen, np.full_like(chosen[:, :1], np.nan)], axis=1)
        label = f"{name} ({len(chosen)})"
        axes.plot(*line.reshape(-1, 2).T, color=colour, lw=0.7, alpha=0.5, label=label)
    axes.set_aspect("equal", adjustable="datalim")
    figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    return _png(figure)


def _latency(latency_ms: dict[str, Any], config: EvaluationConfig) -> bytes:
    figure, axes = _figure("Time per decision, one robot", "milliseconds", "decisions")
    axes.hist(latency_ms["samples"], bins=30, color=BLUE, alpha=0.8)
    # In a legend, since percentiles may lie as close together as they like.
    for name, style in (("p50", "-"), ("p95", "--"), ("p99", ":")):
        label = f"{name} {latency_ms[name]:.3g} ms"
        axes.axvline(latency_ms[name], color=RED, lw=1, ls=style, label=label)
    axes.plot([], [], " ", label=f"limit {config.max_latency_ms:g} ms")
    figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    return _png(figure)


def _calibration(confidence: np.ndarray, success: np.ndarray) -> bytes:
    bins = metrics.calibration(confidence, success)["bins"]
    figure, axes = _figure("Calibration", "mean confidence", "success rate")
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    size = [20 + 200 * b["n"] / len(success) for b in bins]
    axes.scatter([b["confidence"] for b in bins], [b["success"] for b in bins], s=size, color=BLUE)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.05)
    return _png(figure)

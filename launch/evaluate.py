"""Closed-loop success of a trained policy on held-out starts: <workdir>/evaluation.

Examples:
  python -m launch.evaluate --workdir=runs/lift_demo
  python -m launch.evaluate --workdir=runs/lift_demo --policy=onnx
  python -m launch.evaluate --workdir=runs/bc_bridge --offline

In the directory of a sweep (seeds, grid), every run of it.
"""

from absl import flags

from jaxpolicy.pipeline import evaluate, gate, grid, sweep, words
from jaxpolicy.pipeline.experiment import ExperimentConfig
from launch import cli, show

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config(required=False)
POLICY = flags.DEFINE_enum(
    "policy", "jax", evaluate.POLICIES, "The JAX policy, or an artefact in its deployment runtime."
)
OFFLINE = flags.DEFINE_bool(
    "offline", False, "Compare predicted with recorded actions; for data without a simulator."
)
FINAL = flags.DEFINE_string(
    "final", "", "Reason for reading the locked test part (with --offline); it is recorded."
)


def main() -> int:
    """Evaluates; exit code 3 where success is below the experiment's min_success."""
    config = cli.config_from(CONFIG, WORKDIR.value)
    if OFFLINE.value or FINAL.value:
        show.offline_table(evaluate.offline_errors(config, WORKDIR.value, FINAL.value))
        return 0
    return _closed_loop(config)


def _closed_loop(config: ExperimentConfig) -> int:
    if grid.is_sweep(config):
        return _sweep(config)
    with show.bars() as bar:
        found = evaluate.run(config, WORKDIR.value, POLICY.value, bar("evaluate"))
    show.text(words.tell_evaluate(found))
    show.text(f"report: {evaluate.report_path(WORKDIR.value, POLICY.value)}")
    return _gate(config, found[0]["success_rate"])


def _sweep(config: ExperimentConfig) -> int:
    with show.bars() as bar:
        found = sweep.evaluate(config, WORKDIR.value, bar)
    show.sweep_table(found)
    return _gate(config, found["groups"][0]["success_rate"])


def _gate(config: ExperimentConfig, rate: float | None) -> int:
    return cli.GATE_NOT_PASSED if gate.success_reasons(config, rate) else 0


if __name__ == "__main__":
    cli.run(main)

"""The whole road: collect, process, train, evaluate, export, verify, drive the artefact.

Examples:
  python -m launch.pipeline --config=configs/lift_demo.py --workdir=runs/lift_demo
  python -m launch.pipeline --config=configs/lift_demo.py --workdir=runs/seeds --config.seeds=3

A run that was killed continues when it is started again.

Keys: collect.n_episodes, loop.steps, evaluation.n_episodes, min_success, seeds, grid; see the
help of each stage for the rest.
"""
from . import cli

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()


def main() -> int:
    """Runs every stage; exit code 3 where the gate is not passed."""
    from jaxpolicy.pipeline import console, grid, run, sweep

    config = cli.config_from(CONFIG)
    with console.bars() as bar:
        stages = sweep.run if grid.is_sweep(config) else run.run
        summary = stages(config, WORKDIR.value, bar)
    rows = [(stage, f"{seconds:.1f}", found) for stage, seconds, found in summary.rows]
    total = sum(seconds for _, seconds, _ in summary.rows)
    rows.append(("total", f"{total:.1f}", "gate passed" if summary.passed else "gate NOT passed"))
    console.table(config.name, ("stage", "seconds", "found"), rows)
    if grid.is_sweep(config):
        console.sweep_table(sweep.read(WORKDIR.value))
    console.gate(summary.reasons)
    console.paths(summary.paths)
    return 0 if summary.passed else cli.GATE_NOT_PASSED


if __name__ == "__main__":
    cli.run(main)

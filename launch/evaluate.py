"""Closed-loop success of a trained policy on held-out starts: <workdir>/evaluation.

Examples:
  python -m launch.evaluate --workdir=runs/lift_demo
  python -m launch.evaluate --workdir=runs/lift_demo --policy=onnx
  python -m launch.evaluate --workdir=runs/lift_demo --config.evaluation.n_episodes=50
  python -m launch.evaluate --workdir=runs/bc_bridge --offline

In the directory of a sweep (seeds, grid), every run of it.

Keys: evaluation.n_episodes, evaluation.seed, evaluation.batch, evaluation.n_recorded, env.objects,
env.randomization, min_success.
"""

from absl import flags

from jaxpolicy.core.schema import InputError

from . import cli

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config(required=False)
POLICY = flags.DEFINE_enum(
    "policy",
    "jax",
    ("jax", "onnx", "tflite"),
    "The JAX policy, or an artefact in its deployment runtime.",
)
OFFLINE = flags.DEFINE_bool(
    "offline", False, "Compare predicted with recorded actions; for data without a simulator."
)
NAME = flags.DEFINE_string(
    "name", "", "Folder below evaluation/ for a report of its own, beside the run's own report."
)
FINAL = flags.DEFINE_string(
    "final", "", "Reason for reading the locked test part (with --offline); it is recorded."
)


def main() -> int:
    """Evaluates; exit code 3 where success is below the experiment's min_success."""
    from jaxpolicy.pipeline import console, evaluate, gate, grid, sweep, words

    config = cli.config_from(CONFIG, WORKDIR.value)
    _check_flags(grid.is_sweep(config))
    if OFFLINE.value or FINAL.value:
        rows = evaluate.offline_errors(config, WORKDIR.value, FINAL.value)
        console.offline_table(rows, "test" if FINAL.value else "validation")
        console.element_table(rows)
        console.text(f"page: {evaluate.offline_path(WORKDIR.value, FINAL.value)}")
        return 0
    with console.bars() as bar:
        if grid.is_sweep(config):
            swept = sweep.evaluate(config, WORKDIR.value, bar)
            console.sweep_table(swept)
            rate = swept["groups"][0]["success_rate"]
        else:
            where = (WORKDIR.value, POLICY.value)
            found = evaluate.run(config, *where, bar("evaluate"), NAME.value)
            console.text(words.tell_evaluate(found))
            console.text(f"report: {evaluate.report_path(*where, NAME.value)}")
            rate = found[0]["success_rate"]
    reasons = gate.success_reasons(config, rate)
    console.gate(reasons)
    return cli.GATE_NOT_PASSED if reasons else 0


def _check_flags(is_sweep: bool) -> None:
    """Raises InputError where a flag would be without effect."""
    offline = OFFLINE.value or bool(FINAL.value)
    others = {"--policy": POLICY.value != "jax", "--name": bool(NAME.value)}
    given = [flag for flag, is_given in others.items() if is_given]
    if offline and given:
        raise InputError(f"{given[0]} is for success in closed loop: leave --offline out")
    if is_sweep and (offline or given):
        given = given or ["--offline"]
        raise InputError(
            f"{WORKDIR.value} is a sweep, and {given[0]} is for one run: give one of its runs, "
            f"e.g. --workdir={WORKDIR.value}/best"
        )


if __name__ == "__main__":
    cli.run(main)

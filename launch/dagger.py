"""DAgger: an expert labels what the policy runs into, and the policy is trained again.

Collects demonstrations, trains on them (round 0), and then, config.dagger.rounds times: drives the
newest policy, records at every step what the expert would have done, and trains on everything so
far. Each round is judged on starts of its own; the best is <workdir>/best, a run directory:

  python -m launch.dagger --config=configs/dagger.py:lift --workdir=runs/dagger_lift
  python -m launch.evaluate --workdir=runs/dagger_lift/best
  python -m launch.export --workdir=runs/dagger_lift/best

With several seeds each is run in a directory of its own, on the same demonstrations, and
their successes before and after are pooled; a grid compares settings:

  python -m launch.dagger ... --config.seeds=3
  python -m launch.dagger ... --config.grid="dagger.schedule=first,exponential"

A run that was killed continues with the round it was in; with a larger config.dagger.rounds a
finished one goes on. A person in the expert's place: docs/dagger.md.

Keys: dagger.rounds, dagger.episodes_per_round, dagger.schedule, dagger.beta, collect.n_episodes,
loop.steps, min_success.
"""

from . import cli

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()


def main() -> int:
    """Runs all rounds; exit code 3 where the best round's success is below min_success."""
    from jaxpolicy.pipeline import console, dagger

    config = cli.config_from(CONFIG)
    with console.bars() as bar:
        found = dagger.run(config, WORKDIR.value, bar)
    rows = [(stage, f"{seconds:.1f}", told) for stage, seconds, told in found.rows]
    rows.append(("total", f"{sum(seconds for _, seconds, _ in found.rows):.1f}", ""))
    console.table(config.name, ("stage", "seconds", "found"), rows)
    for run in found.runs:
        console.rounds_table(run)
    console.gains_table(found.groups)
    console.gate(found.reasons)
    console.paths(found.paths)
    return cli.GATE_NOT_PASSED if found.reasons else 0


if __name__ == "__main__":
    cli.run(main)

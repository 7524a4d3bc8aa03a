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
"""

from collections.abc import Mapping
from typing import Any

from jaxpolicy.pipeline import dagger, words
from launch import cli, show

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()


def main() -> int:
    """Runs all rounds; exit code 3 where the best round's success is below min_success."""
    config = cli.config_from(CONFIG)
    with show.bars() as bar:
        found = dagger.run(config, WORKDIR.value, bar)
    rows = [(stage, f"{seconds:.1f}", told) for stage, seconds, told in found.rows]
    rows.append(("total", f"{sum(seconds for _, seconds, _ in found.rows):.1f}", ""))
    show.table(config.name, ("stage", "seconds", "found"), rows)
    for run in found.runs:
        _rounds_table(run)
    _groups_table(found.groups)
    for reason in found.reasons:
        show.text(f"gate not passed: {reason}")
    show.paths(found.paths)
    return cli.GATE_NOT_PASSED if found.reasons else 0


def _rounds_table(run: Mapping[str, Any]) -> None:
    header = ("round", "beta", "episodes", "success", "by expert", "steps labelled", "validation")
    title = f"{run['name']}: rounds, of which {run['best']} is the best"
    show.table(title, header, [words.tell_round(told) for told in run["rounds"]])


def _groups_table(groups: tuple[Mapping[str, Any], ...]) -> None:
    header = ("settings", "seeds", "before", "after", "points")
    rows = [
        (
            ", ".join(f"{k}={v}" for k, v in g["values"].items()) or "as configured",
            str(g["n_seeds"]),
            words.tell_success(g["before"]),
            words.tell_success(g["after"]),
            f"{100 * g['gain']:+.1f}",
        )
        for g in groups
    ]
    show.table("success on held-out starts, demonstrations alone and after DAgger", header, rows)


if __name__ == "__main__":
    cli.run(main)

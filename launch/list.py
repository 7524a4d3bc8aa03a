"""Lists what there is to choose from: configurations, tasks, robots, algorithms, formats.

Examples:
  python -m launch.list
  python -m launch.list --what=tasks
"""

from absl import flags

from . import cli, configurations

KINDS = (
    "all",
    "configurations",
    "tasks",
    "robots",
    "algorithms",
    "backbones",
    "heads",
    "formats",
    "runtimes",
)
WHAT = flags.DEFINE_enum("what", "all", KINDS, "Which list.")


def main() -> int:
    """Prints the lists."""
    from jaxpolicy.pipeline import choices, console

    rows = [(c.name, f"{c.summary} {'  '.join(c.variants)}") for c in configurations.listing()]
    lists = {"configurations": rows, **choices.everything()}
    for kind, found in lists.items():
        if WHAT.value in ("all", kind):
            console.table(kind, ("name", "what it is"), found)
    return 0


if __name__ == "__main__":
    cli.run(main)

"""Records demonstrations of the scripted expert into <workdir>/dataset (RLDS, TFRecord).

With --preview nothing is recorded: <workdir>/preview gets pictures and videos of every
task, robot, object and randomisation instead, to look at before recording.

Example:
  python -m launch.collect --config=configs/lift_demo.py --workdir=runs/lift_demo
"""

from absl import flags

from jaxpolicy.pipeline import collect, words
from jaxpolicy.pipeline.experiment import ExperimentConfig
from launch import cli, show

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()
PREVIEW = flags.DEFINE_bool(
    "preview", False, "Draw all tasks, robots and variations instead of recording (minutes)."
)


def main() -> int:
    """Collects and says what there is now."""
    config = cli.config_from(CONFIG)
    if PREVIEW.value:
        return preview(config)
    with show.bars() as bar:
        ledger = collect.run(config, WORKDIR.value, bar("collect"))
    show.text(words.tell_collect(ledger) + f" in {ledger['seconds']:.1f} s")
    return 0


def preview(config: ExperimentConfig) -> int:
    """Draws the worlds and says where the pictures are."""
    with show.bars() as bar:
        made = collect.preview(config, WORKDIR.value, bar("preview"))
    show.paths(made.paths)
    for note in made.notes:
        show.text(note)
    return 0


if __name__ == "__main__":
    cli.run(main)

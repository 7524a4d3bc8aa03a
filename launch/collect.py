"""Records demonstrations of the scripted expert into <workdir>/dataset (RLDS, TFRecord).

With --preview nothing is recorded: <workdir>/preview gets pictures and videos of every
task, robot, object and randomisation instead, to look at before recording.

Example:
  python -m launch.collect --config=configs/lift_demo.py --workdir=runs/lift_demo

Keys: env.name, env.robot, env.cameras, env.image_size, env.randomization; collect.n_episodes,
collect.execution_noise, collect.bump_probability.
"""

from absl import flags

from . import cli

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()
PREVIEW = flags.DEFINE_bool(
    "preview", False, "Draw all tasks, robots and variations instead of recording (minutes)."
)


def main() -> int:
    """Collects, or draws the worlds, and says what there is now."""
    from jaxpolicy.pipeline import collect, console, words

    config = cli.config_from(CONFIG)
    if PREVIEW.value:
        with console.bars() as bar:
            made = collect.preview(config, WORKDIR.value, bar("preview"))
        console.paths(made.paths)
        for note in made.notes:
            console.text(note)
        return 0
    with console.bars() as bar:
        ledger = collect.run(config, WORKDIR.value, bar("collect"))
    console.text(words.tell_collect(ledger) + f" in {ledger['seconds']:.1f} s")
    return 0


if __name__ == "__main__":
    cli.run(main)

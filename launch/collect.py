"""Records demonstrations of the scripted expert into <workdir>/dataset (RLDS, TFRecord).

Example:
  python -m launch.collect --config=configs/lift_demo.py --workdir=runs/lift_demo
"""

from jaxpolicy import pipeline
from launch import cli, show

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()


def main() -> int:
    """Collects and says what there is now."""
    config = cli.config_from(CONFIG)
    with show.bars() as bar:
        ledger = pipeline.collect(config, WORKDIR.value, bar("collect"))
    show.text(pipeline.tell_collect(ledger) + f" in {ledger['seconds']:.1f} s")
    return 0


if __name__ == "__main__":
    cli.run(main)

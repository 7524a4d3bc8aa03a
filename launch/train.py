"""Trains a policy; continues where an earlier, killed run of the same workdir stopped.

Example:
  python -m launch.train --config=configs/bc_bridge.py \
      --config.dataset=tests/data/bridge_dataset/1.0.0 --workdir=runs/bc_bridge
"""

from jaxpolicy import pipeline
from launch import cli, show

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()


def main() -> int:
    """Trains, then prints the policy's errors beside two baselines."""
    with show.bars() as bar:
        trained = pipeline.train(cli.config_from(CONFIG), WORKDIR.value, bar("decode"))
    show.text(pipeline.tell_train(trained))
    if trained[1]:
        show.offline_table(trained[1])
    return 0


if __name__ == "__main__":
    cli.run(main)

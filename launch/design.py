"""Prints the network that a configuration would train: layers, parameters, FLOPs and memory.

Nothing is made or written. What the policy sees is taken from the dataset in --workdir or
--config.dataset; where there is none yet, from the world that would be recorded.

Example:
  python -m launch.design --config=configs/bc.py:lift --workdir=runs/bc_lift

Keys: network.backbone, network.size, network.fusion, horizon, n_obs_steps, loop.batch_size.
"""

from . import cli

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()


def main() -> int:
    """Describes the network."""
    from jaxpolicy.pipeline import console, design

    config = cli.config_from(CONFIG)
    console.network_table(config.name, design.run(config, WORKDIR.value))
    return 0


if __name__ == "__main__":
    cli.run(main)

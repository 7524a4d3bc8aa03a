r"""Trains a policy; continues where an earlier, killed run of the same workdir stopped.

Examples:
  python -m launch.train --config=configs/bc_bridge.py \
      --config.dataset=tests/data/bridge_dataset/1.0.0 --workdir=runs/bc_bridge
  python -m launch.train ... --describe
  python -m launch.train ... --config.seeds=3
  python -m launch.train ... --config.grid="optimizer.learning_rate=1e-4,3e-4;horizon=2,4"

Keys: algorithm, network.backbone, network.size, optimizer.learning_rate, loop.steps,
loop.batch_size, loop.eval_every, loop.rollouts, horizon, n_obs_steps, seed, seeds, grid.
"""

from absl import flags

from . import cli

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()
DESCRIBE = flags.DEFINE_bool(
    "describe", False, "Print layers, parameters, FLOPs and memory of the network, and stop."
)


def main() -> int:
    """Trains, then prints the policy's errors beside two baselines, or a table of all runs."""
    from jaxpolicy.pipeline import console, design, grid, sweep, train, words

    config = cli.config_from(CONFIG)
    if DESCRIBE.value:
        console.network_table(config.name, design.run(config, WORKDIR.value))
        return 0
    if grid.is_sweep(config):
        with console.bars() as bar:
            found = sweep.train(config, WORKDIR.value, bar)
        console.sweep_table(found)
        return 0
    with console.bars() as bar:
        trained = train.run(config, WORKDIR.value, bar("decode"))
    console.text(words.tell_train(trained))
    if trained[1]:
        console.offline_table(trained[1])
    return 0


if __name__ == "__main__":
    cli.run(main)

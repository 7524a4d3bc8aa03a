r"""Writes a dataset in another format: RLDS, LeRobot v3.0 or robomimic HDF5.

Reads whatever launch.process reads; every camera and episode goes along, failed ones too.
Episodes that cannot be read are left out and listed.

Example:
  python -m launch.convert --config=configs/bc_dataset.py \
      --config.dataset=tests/data/foreign/lerobot_v3_images --to=robomimic --output=runs/demo.hdf5

Keys: dataset, data.format, data.camera_keys, data.action_keys, data.proprio_keys.
"""

from pathlib import Path

from absl import flags

from . import cli

CONFIG = cli.define_config()
FORMATS = "Format: rlds, lerobot, robomimic, or one that a plug-in writes."
TO = flags.DEFINE_string("to", None, FORMATS, required=True)
OUTPUT = flags.DEFINE_string("output", None, "New folder, or file for robomimic.", required=True)


def main() -> int:
    """Converts and prints how many episodes were written."""
    from jaxpolicy.core.counting import counted
    from jaxpolicy.pipeline import console, convert

    config = cli.config_from(CONFIG)
    with console.bars() as bar:
        n, left_out = convert.run(config, TO.value, OUTPUT.value, bar("convert"))
    console.text(f"{counted(n, 'episode')} written, {len(left_out)} left out")
    for index, why in left_out.items():
        console.text(f"  {index}: {why}")
    console.paths([Path(OUTPUT.value)])
    return 0


if __name__ == "__main__":
    cli.run(main)

r"""Cleans, splits and measures a dataset: <workdir>/processed/{card.html,episodes.jsonl,...}.

First it prints which field of the files becomes which part of a step, and why; on a terminal
it asks whether that is right. What is wrong is mended with --config.data.camera_keys,
action_keys, proprio_keys, action_kind and so on.

Example:
  python -m launch.process --config=configs/bc_bridge.py \
      --config.dataset=tests/data/bridge_dataset/1.0.0 --workdir=runs/bc_bridge

Keys: dataset, data.format, data.cameras, data.camera_keys, data.action_keys, data.proprio_keys,
data.action_kind, data.cleaning, data.split.
"""

import sys
from pathlib import Path

from absl import flags

from jaxpolicy.core.schema import InputError

from . import cli

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print what each field would become, and stop; nothing is written."
)
YES = flags.DEFINE_bool("yes", False, "Do not ask whether the table is right.")


def main() -> int:
    """Shows the mapping, processes, and prints what is kept."""
    from jaxpolicy.data import card
    from jaxpolicy.pipeline import console, process, words

    config = cli.config_from(CONFIG)
    for overview in process.look(config, WORKDIR.value):
        console.overview_tables(overview)
    if DRY_RUN.value:
        return 0
    _confirm()
    with console.bars() as bar:
        processed = process.run(config, WORKDIR.value, bar("read"))
    console.text(words.tell_process(processed))
    console.paths([Path(p.directory) / card.CARD_HTML for p in processed])
    return 0


def _confirm() -> None:
    if YES.value or not sys.stdin.isatty():
        return
    try:
        answer = input("Is that right? [Y/n] ")
    except EOFError:
        answer = "no"
    if answer.strip().lower() not in ("", "y", "yes"):
        raise InputError(
            "nothing was written; state camera_keys, action_keys or proprio_keys in "
            "--config.data and look again with --dry_run"
        )


if __name__ == "__main__":
    cli.run(main)

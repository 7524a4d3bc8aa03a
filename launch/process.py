"""Cleans, splits and measures a dataset: <workdir>/processed/{card.html,episodes.jsonl,...}.

First it prints which field of the files becomes which part of a step, and why; on a terminal
it asks whether that is right. What is wrong is mended with --config.data.camera_keys,
action_keys, proprio_keys, action_kind and so on.

Example:
  python -m launch.process --config=configs/bc_bridge.py \
      --config.dataset=tests/data/bridge_dataset/1.0.0 --workdir=runs/bc_bridge
"""

import sys
from pathlib import Path

from absl import flags

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import card
from jaxpolicy.pipeline import process, words
from launch import cli, show

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print what each field would become, and stop; nothing is written."
)
YES = flags.DEFINE_bool("yes", False, "Do not ask whether the table is right.")


def main() -> int:
    """Shows the mapping, processes, and prints what is kept."""
    config = cli.config_from(CONFIG)
    for overview in process.look(config, WORKDIR.value):
        _show(overview)
    if DRY_RUN.value:
        return 0
    _confirm()
    with show.bars() as bar:
        processed = process.run(config, WORKDIR.value, bar("read"))
    show.text(words.tell_process(processed))
    show.paths([Path(p.directory) / card.CARD_HTML for p in processed])
    return 0


def _show(overview: process.Overview) -> None:
    title = f"{overview.path}: {overview.format}, {overview.n_episodes} episodes"
    if overview.layout:
        show.table(title, ("field", "of a step", "becomes", "because"), overview.layout.rows)
    show.table("What the policy sees", ("array", "shape", "dtype", "unit"), _rows(overview))
    if overview.guess:
        advice = "; say what they are with --config.data.action_kind"
        show.text(overview.guess.evidence + advice)


def _rows(overview: process.Overview) -> list[tuple[str, ...]]:
    spec = overview.spec
    rows = [(s.name, str(list(s.shape)), s.dtype, s.unit) for s in spec.observation]
    rate = f" at {spec.action.control_hz:g} Hz" if spec.action.control_hz else ""
    kind = f"action: {spec.action.kind}{rate}"
    return [*rows, (kind, f"[{spec.action.size}]", "float32", ", ".join(spec.action.units))]


def _confirm() -> None:
    if YES.value or not sys.stdin.isatty():
        return
    if input("Is that right? [Y/n] ").strip().lower() not in ("", "y", "yes"):
        raise InputError(
            "nothing was written; state camera_keys, action_keys or proprio_keys in "
            "--config.data and look again with --dry_run"
        )


if __name__ == "__main__":
    cli.run(main)

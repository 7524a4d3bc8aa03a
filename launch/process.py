"""Cleans, splits and measures a dataset: <workdir>/processed/{source,split,statistics}.json.

Example:
  python -m launch.process --config=configs/bc_bridge.py \
      --config.dataset=tests/data/bridge_dataset/1.0.0 --workdir=runs/bc_bridge
"""

from jaxpolicy import pipeline
from jaxpolicy.data.process import Processed
from launch import cli, show

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config()


def main() -> int:
    """Processes and prints what is kept and what a step holds."""
    processed = pipeline.process(cli.config_from(CONFIG), WORKDIR.value)
    show.text(pipeline.tell_process(processed))
    show.table("A step", ("array", "shape", "dtype", "unit"), _rows(processed))
    return 0


def _rows(processed: Processed) -> list[tuple[str, ...]]:
    rows = [(s.name, str(list(s.shape)), s.dtype, s.unit) for s in processed.spec.observation]
    action = processed.spec.action
    return [
        *rows,
        (f"action: {action.kind}", f"[{action.size}]", "float32", ", ".join(action.units)),
    ]


if __name__ == "__main__":
    cli.run(main)

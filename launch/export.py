"""Exports the best policy to ONNX and TF Lite and verifies both: <workdir>/export.

Example:
  python -m launch.export --workdir=runs/lift_demo
"""

from jaxpolicy.pipeline import export, words
from launch import cli, show

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config(required=False)


def main() -> int:
    """Exports; fails where an artefact differs from JAX."""
    config = cli.config_from(CONFIG, WORKDIR.value)
    exported = export.run(config, WORKDIR.value)
    for line in (words.tell_export(exported), *words.tell_manifest(exported[0])):
        show.text(line)
    return 0


if __name__ == "__main__":
    cli.run(main)

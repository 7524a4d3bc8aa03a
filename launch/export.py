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
    show.text(words.tell_export(export.run(config, WORKDIR.value)))
    return 0


if __name__ == "__main__":
    cli.run(main)

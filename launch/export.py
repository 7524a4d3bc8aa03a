"""Exports the best policy to ONNX and TF Lite and verifies both: <workdir>/export.

Example:
  python -m launch.export --workdir=runs/lift_demo --config.export.formats=onnx

Keys: export.formats, export.tolerance, export.n_golden.
"""
from jaxpolicy.core.schema import InputError

from . import cli

WORKDIR = cli.define_workdir()
CONFIG = cli.define_config(required=False)


def main() -> int:
    """Exports; fails where an artefact differs from JAX."""
    from jaxpolicy.pipeline import console, export, grid, words

    config = cli.config_from(CONFIG, WORKDIR.value)
    if grid.is_sweep(config):
        best = f"--workdir={WORKDIR.value}/best"
        raise InputError(f"{WORKDIR.value} is a sweep: give the run to export, e.g. {best}")
    exported = export.run(config, WORKDIR.value)
    for line in (words.tell_export(exported), *words.tell_manifest(exported[0])):
        console.text(line)
    return 0


if __name__ == "__main__":
    cli.run(main)

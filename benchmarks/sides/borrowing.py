"""Runs a module with packages of another environment where its own has none.

    python -m benchmarks.sides.borrowing DIRECTORY MODULE [ARGUMENT ...]

DIRECTORY is the other's site-packages. It comes last on the path (PYTHONPATH would come
first), so packages that both have are this environment's own. Standard library only.
"""

import runpy
import sys
from pathlib import Path


def run(directory: str, module: str) -> None:
    """See the top; the rest of sys.argv is the module's."""
    here = "python{}.{}".format(*sys.version_info)
    if Path(directory).parent.name != here:
        sys.exit(f"error: {directory} is not of {here}; make both environments from one Python")
    sys.path.append(directory)
    del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run(*sys.argv[1:3])

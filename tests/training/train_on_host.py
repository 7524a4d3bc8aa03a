"""One of several hosts that train together, as a process of its own.

    python -m tests.training.train_on_host WORKDIR PORT HOST N_HOSTS

Expects demonstrations in WORKDIR/dataset; writes WORKDIR/host_<HOST>.npz.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from jaxpolicy.training import loop
from tests.training import fixtures


def settings():
    """The tiny run on all devices of all hosts."""
    return fixtures.config(devices=0)


if __name__ == "__main__":
    workdir, port, host, n_hosts = sys.argv[1:]
    jax.distributed.initialize(f"localhost:{port}", int(n_hosts), int(host))
    params = loop.fit(settings(), workdir).params
    np.savez(Path(workdir) / f"host_{host}.npz", *fixtures.leaves(params))

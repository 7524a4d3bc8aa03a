"""Trains the tiny configuration in a process of its own, to be killed.

    python -m tests.training.train_tiny WORKDIR

A validation takes a moment, so that there is time to kill the run between two of them.
"""

import sys
import time
from pathlib import Path

from tests.training import fixtures

STEPS = 48


def settings():
    """As `fixtures.config`, with more events."""
    return fixtures.config(steps=STEPS, eval_every=4, checkpoint_every=3, max_to_keep=2)


def pause(algorithm, policy_spec, params, step):
    """In-loop evaluation that only takes time."""
    time.sleep(0.2)
    return {}


if __name__ == "__main__":
    fixtures.train(settings(), Path(sys.argv[1]), evaluate=pause)

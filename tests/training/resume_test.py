"""A run killed at any moment (kill -9) ends with the bits of an unbroken one."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jaxpolicy.training import metrics
from tests.training import fixtures, train_tiny

TIMEOUT_S = 300


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return fixtures.train(train_tiny.settings(), tmp_path_factory.mktemp("unbroken"))


def start(workdir):
    command = [sys.executable, "-m", "tests.training.train_tiny", str(workdir)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.getcwd()})


def kill_when(workdir, is_time):
    """Starts the run and kills it as soon as `is_time()`; False when it finished first."""
    process = start(workdir)
    deadline = time.monotonic() + TIMEOUT_S
    while process.poll() is None and not is_time():
        assert time.monotonic() < deadline, "the run did not get to the moment of its death"
        time.sleep(0.002)
    killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return killed


def newest_row(workdir):
    rows = metrics.read(workdir)
    return rows[-1]["step"] if rows else 0


def is_saving(workdir):
    return any("tmp" in p.name for p in (workdir / "checkpoints").glob("*"))


def test_killed_twice_and_resumed(tmp_path, unbroken):
    # In the middle of a dispatch or validation, then in the middle of a save.
    assert kill_when(tmp_path, lambda: newest_row(tmp_path) >= 10)
    after_first = newest_row(tmp_path)
    assert kill_when(
        tmp_path, lambda: newest_row(tmp_path) > after_first + 4 and is_saving(tmp_path)
    )
    result = fixtures.train(train_tiny.settings(), tmp_path)
    assert 0 < result.resumed_from < train_tiny.STEPS
    fixtures.assert_same_bits(result.state, unbroken.state)
    fixtures.assert_same_bits(result.params, unbroken.params)
    assert result.best_step == unbroken.best_step
    steps = [r["step"] for r in metrics.read(tmp_path) if "train/loss" in r]
    assert steps == sorted(set(steps))
    assert steps[-1] == train_tiny.STEPS

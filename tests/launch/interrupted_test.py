"""A few of the moments that interrupting.py tries by the hundred."""

import shlex
import signal
import subprocess
import sys
import time

from tests.launch import interrupting
from tests.launch.cli_test import BRIDGE, ROOT, environment, launch, one_line, zygote
from tests.launch.interrupting import CODES, Forks, Stage

TRAIN = Stage("train", ("--config=configs/bc_bridge.py:debug", f"--config.dataset={BRIDGE}"))


def test_training_that_is_interrupted_goes_on(tmp_path):
    forks = Forks(zygote())
    for moment, signum in ((0.2, signal.SIGTERM), (1.5, signal.SIGINT)):
        done = forks.run(TRAIN, tmp_path, moment, signum)
        assert not interrupting.problem(done, tmp_path)
        if done.code:
            (line,) = done.error.splitlines()[-1:]
            assert line.startswith("interrupted by SIG")
            command = shlex.split(line.partition("to go on: ")[2])
            assert command == ["python", "-m", "launch.train", *TRAIN.arguments, command[-1]]
    assert forks.run(TRAIN, tmp_path).code == 0


def test_a_signal_during_the_imports(tmp_path):
    command = [sys.executable, "-m", "launch.train", *TRAIN.arguments, f"--workdir={tmp_path}"]
    options = {"cwd": ROOT, "env": environment(), "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **options)
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]
    assert process.returncode == CODES[signal.SIGINT]
    assert error == f"interrupted by SIGINT; to go on: {shlex.join(command)}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_refused_start_leaves_no_folders(tmp_path):
    config = ("--config=configs/bc_bridge.py:debug", f"--workdir={tmp_path / 'a' / 'run'}")
    for module in ("train", "pipeline", "process"):
        done = launch(module, *config, f"--config.dataset={tmp_path / 'none'}")
        assert "none" in one_line(done, 1)
        assert list(tmp_path.iterdir()) == []

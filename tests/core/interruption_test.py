"""Each case is a process of its own, which runs a few lines of Python and gets real signals."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

import pytest

from jaxpolicy.core import interruption
from jaxpolicy.core.interruption import Interrupted

HEAD = """
import os, pathlib, signal, sys, threading, time
from jaxpolicy.core import atomic, interruption
def ready():
    print("ready", flush=True)
"""


def run(body, *signals, arguments=(), wait_s=0.0, before=None):
    """Runs `body`, and sends the signals once it is ready; (exit code, stdout, stderr)."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(HEAD + textwrap.dedent(body))
        script.flush()
        process = subprocess.Popen(
            [sys.executable, script.name, *arguments],
            env=os.environ | {"PYTHONPATH": os.getcwd()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,
        )
        assert process.stdout.readline() == "ready\n"
        for signum in signals:
            process.send_signal(signum)
            time.sleep(wait_s)
        # Not communicate(), which loses what readline() has read ahead.
        with process:
            out, err = process.stdout.read(), process.stderr.read()
        return process.returncode, out, err


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_work_stops_where_it_asks_and_is_closed(signum, code):
    body = """
    with interruption.handled():
        try:
            ready()
            while True:
                time.sleep(0.01)
                interruption.check()
        finally:
            print("closed")
    """
    found, out, err = run(body, signum)
    assert (found, out) == (code, "closed\n")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"interrupted by {signum.name}; to go on: ")


def test_a_signal_while_the_main_thread_is_elsewhere_leaves_nothing_half_written(tmp_path):
    body = """
    interruption.GRANTED_S = 0.2
    root = pathlib.Path(sys.argv[1])
    with interruption.handled():
        atomic.make_directory(root / "empty")
        new = atomic.new_directory(root / "folder"), atomic.new_file(root / "file")
        with new[0] as folder, new[1] as file:
            file.write_text("half")
            (folder / "part").write_text("half")
            ready()
            while True:
                time.sleep(1)  # Never asks.
    """
    code, _, err = run(body, signal.SIGINT, arguments=[str(tmp_path)])
    assert code == 130
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_does_not_wait():
    body = """
    interruption.GRANTED_S = 50.0
    with interruption.handled():
        ready()
        while True:
            time.sleep(1)
    """
    code, _, err = run(body, signal.SIGINT, signal.SIGTERM, wait_s=0.8)
    assert code == 130
    assert len(err.splitlines()) == 1


def test_patience_is_for_a_block():
    body = """
    interruption.GRANTED_S = 0.1
    with interruption.handled():
        with interruption.patience() as grant:
            grant(30.0)
            ready()
            time.sleep(1.0)
            print("saved")
        interruption.check()
    """
    code, out, _ = run(body, signal.SIGTERM)
    assert (code, out) == (143, "saved\n")


def test_before_the_work_begins_a_signal_ends_the_process_at_once():
    body = """
    interruption.watch()
    ready()
    time.sleep(30)  # Imports.
    """
    code, _, err = run(body, signal.SIGINT)
    assert code == 130
    assert len(err.splitlines()) == 1


def test_finished_work_is_not_interrupted():
    body = """
    with interruption.handled():
        pass
    ready()
    time.sleep(0.3)
    sys.exit(3)
    """
    assert run(body, signal.SIGINT, signal.SIGTERM)[::2] == (3, "")


def test_other_failures_are_as_they_were():
    body = """
    interruption.watch()
    ready()
    with interruption.handled():
        raise ValueError("mine")
    """
    code, _, err = run(body)
    assert code == 1
    assert err.rstrip().endswith("ValueError: mine")


def test_forked_children_ignore_the_terminal():
    # Python 3.12 warns of forks beside threads; here one is what is looked at.
    body = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    with interruption.handled():
        child = os.fork()
        if child == 0:
            time.sleep(0.5)
            os._exit(7)
        time.sleep(0.1)
        os.kill(child, signal.SIGINT)
        ready()
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(body)[::2] == (7, "")


def test_processes_started_in_a_shield_do_not_get_sigint():
    body = """
    import subprocess
    with interruption.shielded():
        sleeper = "import time; time.sleep(0.5)"
        child = subprocess.Popen([sys.executable, "-c", sleeper], stderr=subprocess.DEVNULL)
    child.send_signal(signal.SIGINT)
    ready()
    sys.exit(child.wait())
    """
    assert run(body)[0] == 0


def test_what_was_ignored_from_the_start_stays_ignored():
    body = """
    with interruption.handled():
        ready()
        time.sleep(0.3)
        interruption.check()
    """

    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    assert run(body, signal.SIGINT, before=ignore)[::2] == (0, "")


def test_the_command_is_quoted_for_a_shell():
    body = """
    ready()
    print(interruption.command())
    """
    _, out, _ = run(body, arguments=["--config.grid=a=1,2;b=3", "--workdir=my runs"])
    assert out.endswith("'--config.grid=a=1,2;b=3' '--workdir=my runs'\n")


def test_without_a_launcher_nothing_is_ever_requested(monkeypatch):
    assert interruption.requested() == 0
    interruption.check()
    monkeypatch.setattr("jaxpolicy.core.interruption._STATE.signum", signal.SIGTERM)
    with pytest.raises(Interrupted) as found:
        interruption.check()
    assert found.value.signum == signal.SIGTERM
    monkeypatch.setattr("jaxpolicy.core.interruption._STATE.asked", False)

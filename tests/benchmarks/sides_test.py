"""Processes that answer when they are asked."""

import subprocess
import sys
import sysconfig

import pytest

from benchmarks.sides import serving
from benchmarks.sides.process import Side
from tests import layers


def test_a_side_answers_once_a_call():
    side = Side(sys.executable, "tests.benchmarks.counting", ["5"])
    assert side.ready >= 0.0
    # Two calls to warm up, which nobody asked for.
    assert [side.call(), side.call()] == [{"count": 8}, {"count": 9}]
    side.close()
    assert side.process.returncode == 0


def test_a_side_that_fails_ends_the_benchmark():
    with pytest.raises(SystemExit, match="a side ended with code 1"):
        Side(sys.executable, "tests.benchmarks.counting", ["no number"])


def test_cpu_time_is_in_milliseconds():
    assert 0.0 <= serving.cpu_ms(lambda: None) < 100.0


def _borrow(directory, *arguments):
    command = [sys.executable, "-m", "benchmarks.sides.borrowing", str(directory), *arguments]
    return subprocess.run(
        command, cwd=layers.ROOT, capture_output=True, text=True, check=False, input=""
    )


def test_borrowed_packages_come_last(tmp_path):
    # The folder of packages is named like that of this Python.
    packages = tmp_path / f"python{sysconfig.get_python_version()}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "json.py").write_text("raise ImportError('the wrong json')")
    (packages / "borrowed.py").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))")
    done = _borrow(packages, "borrowed", "--flag")
    assert done.stdout.strip() == '["--flag"]', done.stderr


def test_packages_of_another_python_are_refused(tmp_path):
    done = _borrow(tmp_path / "python2.7" / "site-packages", "borrowed")
    assert done.returncode == 1
    assert "make both environments from one Python" in done.stderr

"""Flags, errors and exit codes, as a user meets them: each case is a process of its own."""

import ast
import atexit
import dataclasses
import functools
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jaxpolicy.pipeline import overrides
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training import run_directory

ROOT = Path(__file__).parents[2]
BRIDGE = ROOT / "tests/data/bridge_dataset/1.0.0"


def launch(module: str, *args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """What `python -m launch.<module>` does, without the seconds that its imports take."""
    return fork(f"launch.{module}", *args, cwd=cwd)


def fork(name: str, *args: str, cwd: Path) -> subprocess.CompletedProcess:
    """A module, or a script of `cwd` ("name.py"), as a program."""
    server = zygote()
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "stdout"), Path(folder, "stderr")
        request = {"module": name, "args": args, "stdout": str(out), "cwd": str(cwd)}
        server.stdin.write(json.dumps({**request, "stderr": str(err)}) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(args, code, out.read_text(), err.read_text())


@functools.cache
def zygote() -> subprocess.Popen:
    """The process that launchers are forked from, one for each test process."""
    return start_zygote()


def start_zygote(**variables: str) -> subprocess.Popen:
    """A process that launchers are forked from, with more environment variables."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "tests.launch.zygote"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment() | variables, **pipes)
    atexit.register(server.communicate)
    return server


def environment() -> dict[str, str]:
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    return {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}


def one_line(done: subprocess.CompletedProcess, code: int) -> str:
    """The single error line of a run that ended with `code` and no traceback."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def test_unknown_config_key_names_the_nearest(tmp_path):
    done = launch(
        "train",
        "--config=configs/lift_demo.py",
        "--config.optimizer.learning_rat=1",
        f"--workdir={tmp_path / 'run'}",
    )
    message = one_line(done, 1)
    assert "optimizer.learning_rat'" in message
    assert "did you mean 'optimizer.learning_rate'" in message
    assert not (tmp_path / "run").exists()


def test_wrong_type_of_a_config_value(tmp_path):
    done = launch(
        "train",
        "--config=configs/lift_demo.py",
        "--config.loop.steps=many",
        f"--workdir={tmp_path}",
    )
    assert "config.loop.steps" in one_line(done, 1)


def test_unknown_variant_and_missing_file(tmp_path):
    done = launch("train", "--config=configs/lift_demo.py:fast", f"--workdir={tmp_path}")
    assert "no variant ':fast'" in one_line(done, 1)
    done = launch("train", "--config=configs/none.py", f"--workdir={tmp_path}")
    assert "configs/none.py" in one_line(done, 1)


def test_unknown_flag_is_a_usage_error(tmp_path):
    done = launch("train", "--config=configs/lift_demo.py", "--lr=1", f"--workdir={tmp_path}")
    assert "lr" in one_line(done, 2)


def test_missing_workdir_is_a_usage_error():
    assert "workdir" in one_line(launch("train", "--config=configs/lift_demo.py"), 2)


def test_unwritable_workdir_is_named():
    done = launch("train", "--config=configs/lift_demo.py", "--workdir=/proc/run")
    assert "--workdir=/proc/run" in one_line(done, 1)


def test_missing_dataset_is_named(tmp_path):
    done = launch(
        "train",
        "--config=configs/bc_bridge.py:debug",
        f"--config.dataset={tmp_path / 'nothing'}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert "nothing" in one_line(done, 1)


def test_missing_camera_is_named_with_those_there_are(tmp_path):
    done = launch(
        "process",
        "--config=configs/bc_bridge.py:debug",
        f"--config.dataset={BRIDGE}",
        "--config.data.cameras=('overhead',)",
        f"--workdir={tmp_path / 'run'}",
    )
    message = one_line(done, 1)
    assert "overhead" in message
    assert "image_0" in message


def test_describing_writes_nothing(tmp_path):
    done = launch(
        "train",
        "--config=configs/bc_bridge.py:debug",
        f"--config.dataset={BRIDGE}",
        f"--workdir={tmp_path / 'run'}",
        "--describe",
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"total +│ +[\d,]+ +│", done.stdout)
    assert "memory: parameters" in done.stdout
    assert re.search(r"^inputs: image/\w+ uint8 \[", done.stdout, re.MULTILINE)
    assert not (tmp_path / "run").exists()


def test_a_grid_is_checked_before_anything_is_done(tmp_path):
    done = launch(
        "train",
        "--config=configs/bc_bridge.py:debug",
        f"--config.dataset={BRIDGE}",
        "--config.grid=optimizer.learning_rate=1e-4,fast",
        f"--workdir={tmp_path / 'run'}",
    )
    assert "config.optimizer.learning_rate must be float, got str 'fast'" in one_line(done, 1)
    assert not (tmp_path / "run").exists()


def test_evaluating_an_empty_directory(tmp_path):
    assert "config.json" in one_line(launch("evaluate", f"--workdir={tmp_path}"), 1)


@pytest.mark.parametrize(
    "module",
    ["collect", "dagger", "design", "process", "train", "evaluate", "export", "pipeline"],
)
def test_help_explains_the_flags(module):
    done = launch(module, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert re.search(r"^Keys: [a-z_.]+, ", done.stdout, re.MULTILINE)
    assert "  ppo.py          Reinforcement learning" in done.stdout
    assert ":TASK:finetune" in done.stdout
    assert "--workdir" in done.stdout
    assert "--config" in done.stdout
    assert f"python -m launch.{module}" in done.stdout


def test_keys_that_help_names_exist():
    known = [k for k, _ in overrides.keys(ExperimentConfig())]
    for path in (ROOT / "launch").glob("*.py"):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        if "\nKeys: " in text:
            told = text.partition("\nKeys: ")[2].partition("; see")[0]
            named = re.findall(r"[a-z_.]+(?=[,;.])", told)
            missing = [k for k in named if not any(f"{x}.".startswith(f"{k}.") for x in known)]
            assert not missing, (path.name, missing)


def test_help_imports_nothing_that_takes_time():
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        "try: runpy.run_module('launch.train', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as e: assert e.code == 0\n"
        "heavy = {'jax', 'numpy', 'flax', 'brax', 'mujoco', 'ml_collections'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.stdout.endswith("\n[]\n"), done.stderr


def test_misspelt_and_missing_flags_are_told_in_a_line():
    done = launch("train", "--config=bc.py:lift", "--workdri=x")
    assert one_line(done, 2) == "error: unknown flag --workdri; did you mean --workdir?"
    done = launch("train", "--config=bc.py:lift")
    assert one_line(done, 2).startswith("error: --workdir is missing. Run directory: ")
    done = launch("train", "--workdir=x")
    assert one_line(done, 2).startswith("error: --config is missing. Experiment: ")
    done = launch("train", "--config=bc.py:lift", "--workdir=x", "more")
    assert one_line(done, 2) == "error: unexpected argument 'more'; flags start with --"


def test_the_configuration_is_printed_as_flags_that_can_be_pasted(tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    first = launch("train", "--config=ppo:lift:pixels", workdir, "--print_config")
    assert first.returncode == 0, first.stderr
    flags = shlex.split(first.stdout)
    assert "--config.env.cameras=('wrist',)" in flags
    again = launch("train", "--config=bc_dataset", workdir, "--print_config", *flags)
    assert again.stdout == first.stdout
    assert not (tmp_path / "run").exists()


def test_a_trained_run_is_evaluated_with_other_values(tmp_path):
    config = dataclasses.replace(ExperimentConfig(), name="trained")
    run_directory.write_config(config, tmp_path)
    workdir = f"--workdir={tmp_path}"
    done = launch("evaluate", workdir, "--config.evaluation.n_episodes=7", "--print_config")
    assert "--config.evaluation.n_episodes=7\n" in done.stdout
    assert "--config.name=trained\n" in done.stdout
    done = launch("export", workdir, "--config.network.hidden", "7")
    assert one_line(done, 1).startswith(
        "error: --config.network.hidden: the policy was trained with 256, and 7 needs another "
        "one; train anew in another --workdir. What may change after training: evaluation, "
    )
    # The same value is no change.
    hidden = config.network.hidden
    done = launch("export", workdir, f"--config.network.hidden={hidden}", "--print_config")
    assert done.returncode == 0, done.stderr


def test_flags_without_effect_are_refused(tmp_path):
    run_directory.write_config(ExperimentConfig(seeds=2), tmp_path)
    workdir = f"--workdir={tmp_path}"
    told = f"{tmp_path} is a sweep, and --policy is for one run: give one of its runs"
    assert told in one_line(launch("evaluate", workdir, "--policy=onnx"), 1)
    assert "--offline is for one run" in one_line(launch("evaluate", workdir, "--offline"), 1)
    assert "give the run to export" in one_line(launch("export", workdir), 1)
    run_directory.write_config(ExperimentConfig(), tmp_path)
    done = launch("evaluate", workdir, "--offline", "--name=a")
    assert "--name is for success in closed loop" in one_line(done, 1)
    assert "--workdir" in one_line(launch("evaluate", "--workdir="), 2)


def test_forked_launchers_are_like_those_started_by_hand():
    command = [sys.executable, "-m", "launch.pipeline", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    forked = launch("pipeline", "--help")
    assert (done.returncode, done.stdout) == (forked.returncode, forked.stdout)
    assert done.stderr == forked.stderr


def test_a_dry_run_shows_what_fields_become_and_writes_nothing(tmp_path):
    done = launch(
        "process",
        "--config=configs/bc_bridge.py:debug",
        f"--config.dataset={BRIDGE}",
        f"--workdir={tmp_path / 'run'}",
        "--dry_run",
    )
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if "observation/state" in line)
    assert "proprio[0:7]" in row
    assert "named state" in row
    assert "rlds, 50 episodes" in done.stdout
    assert not (tmp_path / "run").exists()


def test_processing_shows_the_table_and_does_not_ask_where_nobody_can_answer(tmp_path):
    for extra in ((), ("--yes",)):
        workdir = tmp_path / f"run{len(extra)}"
        done = launch(
            "process",
            "--config=configs/bc_bridge.py:debug",
            f"--config.dataset={BRIDGE}",
            f"--workdir={workdir}",
            *extra,
        )
        assert done.returncode == 0, done.stderr
        assert "proprio[0:7]" in done.stdout
        assert "card.html" in done.stdout
        assert (workdir / "processed" / "card.html").is_file()

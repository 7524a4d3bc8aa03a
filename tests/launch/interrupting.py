"""Interrupts every stage at random moments, and looks at what is left and what comes of it.

    python -m tests.launch.interrupting [--moments=20] [--stages=collect,train] [--seed=0]

Each stage of two debug runs is stopped by SIGINT or SIGTERM at moments drawn uniformly from the
time that it takes. Every stop must exit with 130 or 143 and one line on standard error, and
leave nothing half written. After some stops in the same directory the stage is left alone, and
must end with the bits of one that was never stopped. Takes an hour; `make test-interrupt`.

Launchers are forked from processes that have their imports behind them (zygote.py); one of
these has no compiled programs, so that compilers are interrupted too. Python's start and the
imports are interrupted in processes of their own.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from tests import conftest  # noqa: F401  the environment that tests run in
from tests.launch.cli_test import ROOT, environment, start_zygote

# Several batches, so that some are finished and some not.
LIFT = ("--config=configs/lift_demo.py:debug", "--config.collect.batch=3")
PPO = ("--config=configs/ppo.py:lift:debug",)
DAGGER = ("--config=configs/dagger.py:lift:debug",)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
# Interruptions of one directory before the stage is left alone.
PER_DIRECTORY = 5
CHANGING = {"seconds", "latency_ms", "verdict", "not_measured", "steps_per_s", "data_wait_share"}


class Stage(NamedTuple):
    """A launcher, and the stages that must be behind it."""

    module: str
    arguments: tuple[str, ...]
    before: str = ""


STAGES = {
    "collect": Stage("collect", LIFT),
    "process": Stage("process", LIFT, "collect"),
    "train": Stage("train", LIFT, "process"),
    "evaluate": Stage("evaluate", (), "train"),
    "export": Stage("export", (), "train"),
    "convert": Stage("convert", (*LIFT, "--to=rlds"), "collect"),
    "pipeline": Stage("pipeline", LIFT),
    "dagger": Stage("dagger", DAGGER),
    "sweep": Stage("train", (*LIFT, "--config.seeds=2"), "process"),
    "ppo": Stage("train", PPO),
}


class Done(NamedTuple):
    """How a launcher ended."""

    code: int
    seconds: float
    error: str
    signum: int


class Forks:
    """A process that launchers are forked from."""

    def __init__(self, server: subprocess.Popen):
        """Takes what `cli_test.start_zygote` starts."""
        self._server = server

    def run(
        self, stage: Stage, workdir: pathlib.Path, moment: float = 0.0, signum: int = 0
    ) -> Done:
        """Runs a stage, and sends it a signal after `moment` seconds."""
        with tempfile.TemporaryDirectory() as folder:
            paths = {k: f"{folder}/{k}" for k in ("stdout", "stderr", "pid")}
            request = {"module": f"launch.{stage.module}", "args": arguments(stage, workdir)}
            self._server.stdin.write(json.dumps(request | paths) + "\n")
            self._server.stdin.flush()
            began = time.monotonic()
            if signum:
                deliver(pathlib.Path(paths["pid"]), moment, signum)
            code = int(self._server.stdout.readline())
            error = pathlib.Path(paths["stderr"]).read_text()
            return Done(code, time.monotonic() - began, error, signum)


def deliver(pid: pathlib.Path, moment: float, signum: int) -> None:
    """Sends a signal `moment` seconds after the process began, if it is still there."""
    while not (pid.exists() and pid.read_text().endswith("\n")):
        time.sleep(0.005)
    time.sleep(moment)
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(pid.read_text()), signum)


def arguments(stage: Stage, workdir: pathlib.Path) -> list[str]:
    """Flags of a stage in a directory."""
    if stage.module != "convert":
        return [*stage.arguments, f"--workdir={workdir}"]
    dataset = f"--config.dataset={workdir / 'dataset'}"
    return [*stage.arguments, dataset, f"--output={workdir / 'converted'}"]


def problem(done: Done, workdir: pathlib.Path) -> str:
    """What is wrong with an interrupted run, "" where nothing is; one that had finished is fine."""
    lines = [x for x in done.error.splitlines() if x.startswith(("interrupted", "error"))]
    if "Traceback" in done.error or "Fatal" in done.error:
        return f"traceback: {done.error[-2000:]}"
    if done.code in (0, 3):
        return ""
    if done.code != CODES[done.signum] or len(lines) != 1:
        return f"exit code {done.code}, {len(lines)} lines: {done.error[-2000:]}"
    return half_written(workdir)


def half_written(workdir: pathlib.Path) -> str:
    """Hidden files that no later call would go on with."""
    hidden = {p.name for p in workdir.rglob(".*") if not p.name.endswith(".part")}
    return f"left behind: {sorted(hidden)}" if hidden else ""


def bits(workdir: pathlib.Path) -> dict[str, str]:
    """Hash of everything that must not depend on whether a run was interrupted."""
    found = {}
    for path in sorted(p for p in workdir.rglob("*") if p.is_file() and not hidden(p, workdir)):
        name = str(path.relative_to(workdir))
        if ".tfrecord" in name or path.name in ("statistics.json", "episodes.jsonl"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.name in ("report.json", "sweep.json", "dagger.json", "collection.json"):
            found[name] = json.dumps(constant(json.loads(path.read_text())), sort_keys=True)
        if path.name == "metrics.jsonl":
            found[name] = json.dumps(constant(list(map(json.loads, path.open()))))
    for path in sorted(workdir.rglob("checkpoints")):
        if not path.parent.is_symlink():
            found[str(path.relative_to(workdir))] = parameters(path.parent)
    return found


def hidden(path: pathlib.Path, workdir: pathlib.Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(workdir).parts)


def constant(value: Any) -> Any:
    """JSON without times."""
    if isinstance(value, dict):
        return {k: constant(v) for k, v in value.items() if k not in CHANGING}
    return [constant(v) for v in value] if isinstance(value, list) else value


def parameters(workdir: pathlib.Path) -> str:
    """Steps of the best and newest checkpoint, and a hash of their parameters."""
    import jax
    import numpy as np

    from jaxpolicy.training import checkpoint, factory

    told = []
    for which in ("best", "latest"):
        loaded = factory.load_policy(workdir, checkpoint.resolve_step(workdir, which))
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(loaded.params):
            digest.update(np.asarray(leaf).tobytes())
        told.append(f"{which} {loaded.step} {digest.hexdigest()}")
    return "; ".join(told)


class Trial:
    """All of one stage."""

    def __init__(self, name: str, root: pathlib.Path, warm: Forks, cold: Forks):
        """Runs the stage unbroken, after those before it."""
        self.name, self.stage, self.root = name, STAGES[name], root
        self.forks = (warm, warm, cold)
        self.before = self._before(warm)
        whole = self._copy("unbroken")
        warm.run(self.stage, whole)  # Compiles.
        whole = self._copy("unbroken")
        self.done = warm.run(self.stage, whole)
        assert self.done.code in (0, 3), self.done.error
        self.bits = bits(whole)

    def _before(self, forks: Forks) -> pathlib.Path | None:
        names, name = [], self.stage.before
        while name:
            names, name = [name, *names], STAGES[name].before
        last = None
        for each in names:
            place = self.root / f"after_{each}"
            if not place.exists():
                if last is not None:
                    shutil.copytree(last, place, symlinks=True)
                done = forks.run(STAGES[each], place)
                assert done.code in (0, 3), done.error
            last = place
        return last

    def _copy(self, name: str) -> pathlib.Path:
        place = self.root / self.name / name
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(exist_ok=True)
        if self.before:
            shutil.copytree(self.before, place, symlinks=True)
        return place

    def run(self, moments: int, rng: random.Random) -> tuple[collections.Counter, list[str]]:
        """Exit codes of the interrupted calls, and what was wrong."""
        codes: collections.Counter = collections.Counter()
        wrong: list[str] = []
        place, n, seconds = self._copy("0"), 0, self.done.seconds
        for i in range(2 * moments):
            if codes[130] + codes[143] == moments:
                break
            signum = rng.choice((signal.SIGINT, signal.SIGTERM))
            moment = rng.uniform(0.05, seconds)
            done = self.forks[i % len(self.forks)].run(self.stage, place, moment, signum)
            codes[done.code] += 1
            n += 1
            found = problem(done, place)
            wrong += [f"{self.name} after {moment:.2f} s by {signum}: {found}"] if found else []
            if done.code in (0, 3):  # It was faster than the one that was timed.
                seconds = min(seconds, done.seconds)
            if done.code in (0, 3) or n == PER_DIRECTORY or codes[130] + codes[143] == moments:
                wrong += self._finished(place, done)
                place, n = self._copy(str(i + 1)), 0
        return codes, wrong

    def _finished(self, place: pathlib.Path, done: Done) -> list[str]:
        """The stage is left alone; what is wrong with what it makes."""
        if done.code not in (0, 3):
            last = self.forks[0].run(self.stage, place)
            if last.code != self.done.code or "Traceback" in last.error:
                return [f"{self.name} does not go on: {last.code} {last.error[-2000:]}"]
        found, left = bits(place), half_written(place)
        names = sorted(set(found) | set(self.bits))
        other = [k for k in names if found.get(k) != self.bits.get(k)]
        told = [f"{self.name} in {place}: other bits: {other}"] if other else []
        if not told:
            shutil.rmtree(place)
        return told + ([f"{self.name}: {left}"] if left else [])


def start_up(moments: int, rng: random.Random, root: pathlib.Path) -> list[str]:
    """Interrupts whole processes while Python starts and imports."""
    wrong = []
    for _ in range(moments):
        command = [sys.executable, "-m", "launch.train", *LIFT, f"--workdir={root / 'none'}"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
        )
        moment, signum = rng.uniform(0.1, 3.0), rng.choice((signal.SIGINT, signal.SIGTERM))
        time.sleep(moment)
        process.send_signal(signum)
        error = process.communicate()[1]
        code = process.returncode
        finished = code == 1 and "no such dataset" in error
        if not finished and (code != CODES[signum] or len(error.splitlines()) != 1):
            wrong.append(f"start after {moment:.3f} s by {signum}: {code} {error[-500:]}")
    return wrong


def main() -> int:
    """Exit code 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, wrong = random.Random(options.seed), []
    root = pathlib.Path(tempfile.mkdtemp(prefix="interrupting-"))
    warm = Forks(start_zygote())
    cold = Forks(start_zygote(JAX_ENABLE_COMPILATION_CACHE="false"))
    wrong += start_up(options.moments, rng, root)
    say(f"start-up: {options.moments} interruptions, {len(wrong)} wrong")
    for line in wrong:
        say(f"  WRONG {line}")
    for name in options.stages.split(","):
        trial = Trial(name, root, warm, cold)
        codes, found = trial.run(options.moments, rng)
        say(f"{name}: {trial.done.seconds:.1f} s unbroken; exit codes {dict(codes)}")
        wrong += found
        for line in found:
            say(f"  WRONG {line}")
    say(f"{len(wrong)} wrong")
    if not wrong:
        shutil.rmtree(root)
    return bool(wrong)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

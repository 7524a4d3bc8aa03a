"""Control steps and pictures per second of every task's worlds, per engine.

    python benchmarks/worlds.py                                  # every task, C engine
    python benchmarks/worlds.py --task=lift --seconds=20
    python benchmarks/worlds.py --backend=mjx --worlds=2048 --pixels   # on an accelerator

One control step at 20 Hz is ten physics steps; the expert acts. Pictures are 64 x 64 with
shadows, from the camera that sees the whole scene, of states along the expert's episode.
Prints a Markdown table; medians over repetitions. CPU seconds are of the whole process, so
that other load on the machine matters less. `--pixels` also steps with the picture in the
loop, as reinforcement learning from pixels does.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxpolicy import sim
from jaxpolicy.sim import robots, wrappers
from jaxpolicy.sim.config import BACKENDS
from jaxpolicy.sim.tasks.base import ManipulationEnv, State

CAMERA, SIZE = "front", 64


class Rate(NamedTuple):
    """Things per second of the wall clock and of CPU time."""

    wall: float
    cpu: float


def play(env: Any, length: int, keys: jax.Array) -> tuple[State, Any]:
    """One expert episode of `length` steps in every world, keys [E]: last states, and rewards."""

    def advance(states: State, _: None) -> tuple[State, Any]:
        actions = jax.vmap(env.expert)(states.obs["privileged"])
        after = jax.vmap(env.step)(states, actions)
        return after, after.reward

    return jax.lax.scan(advance, jax.vmap(env.reset)(keys), None, length)


def rate(work: Callable[[], Any], things: int, seconds: float) -> Rate:
    """Runs `work` for `seconds` after a first call that compiles."""
    jax.block_until_ready(work())
    walls, cpus = [], []
    end = time.perf_counter() + seconds
    while len(walls) < 3 or time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(work())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Rate(things / statistics.median(walls), things / statistics.median(cpus))


def steps(env: Any, worlds: int, length: int, seconds: float) -> tuple[Rate, float, float]:
    """Rate of control steps, seconds of compilation, and the expert's success."""
    keys = jax.random.split(jax.random.key(0), worlds)
    start = time.perf_counter()
    program = jax.jit(functools.partial(play, env, length)).lower(keys).compile()
    compiled = time.perf_counter() - start
    found = rate(lambda: program(keys), worlds * length, seconds)
    return found, compiled, float(program(keys)[0].metrics["success"].mean())


def pictures(env: ManipulationEnv, batch: int, seconds: float) -> Rate:
    """Rate of pictures of `batch` worlds in the middle of their episodes."""
    pixels = wrappers.Pixels(env, (CAMERA,), SIZE, shadows=True)
    keys = jax.random.split(jax.random.key(0), batch)
    program = jax.jit(functools.partial(play, env, env.default_length // 4))
    states = program(keys)[0].pipeline_state
    return rate(lambda: wrappers.draw(pixels, states), batch, seconds)


def row(task: str, robot: str, flags: argparse.Namespace) -> str:
    """The table's row of one task and robot."""
    env = sim.make(task, robot=robot, backend=flags.backend, workers=flags.workers)
    length = flags.length or env.default_length
    found, compiled, success = steps(env, flags.worlds, length, flags.seconds)
    drawn = pictures(env, flags.pictures, flags.seconds)
    cells = [task, robot, f"{found.wall:,.0f}", f"{found.cpu:,.0f}", f"{success:.0%}",
             f"{compiled:.0f}", f"{drawn.wall:,.0f}", f"{drawn.cpu:,.0f}"]  # fmt: skip
    if flags.pixels:
        seeing = wrappers.Pixels(env, (CAMERA,), SIZE, shadows=True)
        cells.append(f"{steps(seeing, flags.worlds, length, flags.seconds)[0].wall:,.0f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Reads the flags and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="", help="one task; default: all")
    parser.add_argument("--robot", default="panda", help="one robot; '' for all")
    parser.add_argument("--backend", default="mujoco", choices=BACKENDS)
    parser.add_argument("--worlds", type=int, default=256)
    parser.add_argument("--length", type=int, default=0, help="steps, 0 for the task's own")
    parser.add_argument("--pictures", type=int, default=64, help="pictures per call")
    parser.add_argument("--pixels", action="store_true", help="also step with pictures")
    parser.add_argument("--workers", type=int, default=0, help="threads, 0 for one per core")
    parser.add_argument("--seconds", type=float, default=5.0, help="per figure")
    flags = parser.parse_args()
    print(f"{flags.backend}, {flags.worlds} worlds, on {jax.devices()[0].device_kind}\n")
    heads = ["task", "robot", "steps/s", "steps/CPU-s", "expert", "compile s",
             "pictures/s", "pictures/CPU-s"]  # fmt: skip
    heads += ["steps/s with pictures"] if flags.pixels else []
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for robot in [flags.robot] if flags.robot else list(robots.ROBOTS):
        for task in [flags.task] if flags.task else list(sim.ENVIRONMENTS):
            print(row(task, robot, flags), flush=True)


if __name__ == "__main__":
    main()

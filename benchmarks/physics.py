"""Control steps per second of a task's worlds, with the expert acting, per engine.

    python benchmarks/physics.py --backend=mujoco --worlds=256 --seconds=10
    python benchmarks/physics.py --backend=mjx --worlds=2048   # on an accelerator

One control step at 20 Hz is ten physics steps. Prints one JSON line: steps per second of
wall-clock time and of CPU time, seconds of compilation, and the expert's success.
"""

import argparse
import functools
import json
import statistics
import time

import jax

from jaxpolicy import sim
from jaxpolicy.sim.tasks.base import ManipulationEnv, State


def play(env: ManipulationEnv, length: int, key: jax.Array) -> State:
    """One expert episode of `length` steps in every world, keys [E] -> the last states."""

    def advance(states: State, _: None) -> tuple[State, None]:
        actions = jax.vmap(env.expert)(states.obs["privileged"])
        return jax.vmap(env.step)(states, actions), None

    return jax.lax.scan(advance, jax.vmap(env.reset)(key), None, length)[0]


def measure(env: ManipulationEnv, worlds: int, length: int, seconds: float) -> dict[str, float]:
    """Repeats episodes for `seconds`; medians over the repetitions."""
    keys = jax.random.split(jax.random.key(0), worlds)
    start = time.perf_counter()
    program = jax.jit(functools.partial(play, env, length)).lower(keys).compile()
    compiled = time.perf_counter() - start
    states = jax.block_until_ready(program(keys))
    wall, cpu = _repeat(program, keys, seconds)
    steps = worlds * length
    return {
        "steps_per_wall_second": round(steps / wall),
        "steps_per_cpu_second": round(steps / cpu),
        "compile_seconds": round(compiled, 1),
        "expert_success": float(states.metrics["success"].mean()),
    }


def _repeat(program: jax.stages.Compiled, keys: jax.Array, seconds: float) -> tuple[float, float]:
    """Median wall-clock and CPU seconds of one call."""
    walls, cpus = [], []
    end = time.perf_counter() + seconds
    while not walls or time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(program(keys))
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def main() -> None:
    """Reads the flags and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="lift", choices=sorted(sim.ENVIRONMENTS))
    parser.add_argument("--backend", default="mujoco", choices=("mujoco", "mjx"))
    parser.add_argument("--worlds", type=int, default=256)
    parser.add_argument("--length", type=int, default=60)
    parser.add_argument("--workers", type=int, default=0, help="threads, 0 for one per core")
    parser.add_argument("--seconds", type=float, default=10.0)
    flags = parser.parse_args()
    env = sim.make(flags.task, backend=flags.backend, workers=flags.workers)
    figures = measure(env, flags.worlds, flags.length, flags.seconds)
    print(json.dumps(vars(flags) | {"device": jax.default_backend()} | figures))


if __name__ == "__main__":
    main()

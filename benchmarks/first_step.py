"""Seconds from the start of Python to the end of the first training step: import and compile.

COMMAND   python benchmarks/first_step.py

Behavioural cloning as configs/lift_demo.py trains it, on made-up data, in new processes: first
with an empty cache of compiled programs, then with the one that this left.
"""

import os
import subprocess
import sys
import tempfile
import time

RUNS = 4

# What the new process runs; its argument is the directory of the cache.
FIRST_STEP = """
import sys
import jax
from configs import lift_demo
from jaxpolicy.specs import ActionSpec, ArraySpec
from jaxpolicy.training import factory
from jaxpolicy.training.loop import enable_compilation_cache
from jaxpolicy.types import PolicySpec

enable_compilation_cache(sys.argv[1])
names = ("dx", "dy", "dz", "dyaw", "gripper")
bounds = (-1.0,) * 5, (1.0,) * 5
action = ActionSpec("cartesian_delta", names, ("m", "m", "m", "rad", "1"), *bounds, 20.0)
observation = ArraySpec("image/wrist", (64, 64, 3), "uint8"), ArraySpec("proprio", (20,))
config = lift_demo.FULL
spec = PolicySpec(observation, action, config.n_obs_steps, config.horizon, config.horizon)
algorithm = factory.make_algorithm(config, spec, factory.blank_norm(spec))
batch = factory.example_batch(spec, config.loop.batch_size)
state = jax.jit(algorithm.init)(jax.random.key(0), batch)
jax.block_until_ready(jax.jit(algorithm.train_step, donate_argnums=0)(state, batch))
"""


def main() -> None:
    """Prints seconds of the wall clock and of the processor."""
    print("| cache | seconds | CPU-seconds |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="first-step-") as cache:
        for run in range(RUNS):
            start, before = time.perf_counter(), os.times()
            subprocess.run([sys.executable, "-c", FIRST_STEP, cache], check=True)
            after = os.times()
            cpu = sum(after[2:4]) - sum(before[2:4])
            name = "warm" if run else "empty"
            print(f"| {name} | {time.perf_counter() - start:.1f} | {cpu:.1f} |", flush=True)


if __name__ == "__main__":
    main()

"""Success of the scripted experts, by task and robot, on seeds of the COLLECTION stream.

    python benchmarks/experts.py                       # every task, both robots, 500 seeds
    python benchmarks/experts.py --task=push --objects=novel --robot=ur5e

An episode succeeds if the goal holds at the end and has held for 14 steps or more, which is
what a demonstration ends with. Prints one row per task and robot as a Markdown table, with
the Wilson interval and what went wrong on the way.
"""

import argparse
import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxpolicy import sim
from jaxpolicy.evaluation import metrics
from jaxpolicy.sim import robots, streams
from jaxpolicy.sim.config import BACKENDS, MODERATE, STRONG, RandomizationConfig
from jaxpolicy.sim.tasks.base import ManipulationEnv, State

TAIL = 14
PRESETS = {"none": RandomizationConfig(), "moderate": MODERATE, "strong": STRONG}
BATCH = 100


class Log(NamedTuple):
    """E episodes, time first."""

    success: jax.Array  # [T, E]
    collided: jax.Array  # [T, E]
    joint_limit: jax.Array  # [T, E]


@functools.partial(jax.jit, static_argnums=0)
def play(env: ManipulationEnv, keys: jax.Array) -> Log:
    """One expert episode for each key [E]."""

    def advance(states: State, _: None) -> tuple[State, Log]:
        actions = jax.vmap(env.expert)(states.obs["privileged"])
        after = jax.vmap(env.step)(states, actions)
        facts = after.info["facts"]
        return after, Log(after.metrics["success"], facts["collided"], facts["joint_limit"])

    return jax.lax.scan(advance, jax.vmap(env.reset)(keys), None, env.default_length)[1]


def row(env: ManipulationEnv, seeds: int) -> str:
    """The table's row of one world."""
    batches = [np.arange(i, min(i + BATCH, seeds)) for i in range(0, seeds, BATCH)]
    logs = [play(env, streams.episode_keys(streams.COLLECTION, batch)) for batch in batches]
    log = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *logs)
    held = _held_at_end(log.success > 0)
    done = int((held >= TAIL).sum())
    low, high = metrics.wilson(done, seeds)
    length = len(log.success)
    first = np.where(held > 0, length - held, length)
    cells = (
        env.task,
        env.robot,
        f"{done}/{seeds}",
        f"[{low:.1%}, {high:.1%}]",
        f"{np.median(first):.0f}, {np.percentile(first, 99):.0f} of {length}",
        f"{log.collided[-1].mean():.1%}",
        f"{(log.joint_limit.max(axis=0) > 0).mean():.1%}",
    )
    return "| " + " | ".join(cells) + " |"


def _held_at_end(success: np.ndarray) -> np.ndarray:
    """Steps without interruption until the end in which it held, [T, E] -> [E]."""
    failed = ~success[::-1]
    return np.where(failed.any(axis=0), failed.argmax(axis=0), len(success))


def main() -> None:
    """Reads the flags and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="", help="one task; default: all")
    parser.add_argument("--robot", default="", help="one robot; default: all")
    parser.add_argument("--backend", default="mujoco", choices=BACKENDS)
    parser.add_argument("--objects", default="", help="a set of shapes, for tasks with an object")
    parser.add_argument("--action_kind", default="cartesian_delta")
    parser.add_argument("--control_hz", type=float, default=20.0)
    parser.add_argument("--randomization", default="none", choices=sorted(PRESETS))
    parser.add_argument("--seeds", type=int, default=500)
    flags = parser.parse_args()
    settings = {k: getattr(flags, k) for k in ("backend", "objects", "action_kind", "control_hz")}
    settings["randomization"] = PRESETS[flags.randomization]
    print(f"<!-- {vars(flags)} -->")
    print("| task | robot | success | 95 % interval | held from step (median, 99 %) "
          "| hit something | at a joint limit |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for robot in [flags.robot] if flags.robot else list(robots.ROBOTS):
        for task in [flags.task] if flags.task else list(sim.ENVIRONMENTS):
            print(row(sim.make(task, robot=robot, **settings), flags.seeds), flush=True)


if __name__ == "__main__":
    main()

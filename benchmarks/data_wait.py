"""Share of a training run that is spent waiting for data, by mode of the loader.

COMMAND   python benchmarks/data_wait.py [--steps 300] [--modes device host stream]

Behavioural cloning of configs/bc.py:lift_front with history 2 and chunk 16 on one 96 x 96 camera.
`share of run` is what training itself reports, of all its seconds, compiling included;
`share of steps` sets the same wait against the steps alone, at their steady rate.
"""

import argparse
import dataclasses
import os
import tempfile

from benchmarks.loader_sides import writing
from benchmarks.loader_sides.measuring import HORIZON, N_OBS_STEPS
from configs import bc, tasks
from jaxpolicy.data import CleaningConfig, DataConfig
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.training import loop
from jaxpolicy.training.config import LoopConfig

EPISODE_STEPS, SIZE, BATCH = 60, 96, 64


def train(dataset: str, workdir: str, mode: str, steps: int) -> loop.FitResult:
    """One run in mode `mode`."""
    config = dataclasses.replace(
        bc.full(tasks.TASKS["lift_front"]),
        dataset=dataset,
        data=DataConfig(
            loader=mode, split=(1.0, 0.0, 0.0), cleaning=CleaningConfig(duplicates=False)
        ),
        n_obs_steps=N_OBS_STEPS,
        horizon=HORIZON,
        loop=LoopConfig(
            steps=steps,
            batch_size=BATCH,
            steps_per_dispatch=10,
            checkpoint_every=steps,
            progress=False,
            tensorboard=False,
        ),
    )
    return loop.fit(config, workdir)


def describe(mode: str, found: loop.FitResult) -> str:
    """A row of the table."""
    share = found.shares["data"]
    waited = share * found.seconds
    in_steps = waited * found.steps_per_second / found.step
    return (
        f"| {mode} | {share:.2%} | {in_steps:.2%} | "
        f"{1000 * waited / found.step:.2f} | {found.steps_per_second:.1f} | "
        f"{found.steps_per_second * BATCH:,.0f} | {found.seconds:.0f} |"
    )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--modes", nargs="+", default=["device", "host", "stream"])
    args = parser.parse_args()
    print(
        f"{SIZE} x {SIZE}, {args.episodes} episodes of {EPISODE_STEPS} steps, batch {BATCH}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    columns = ("mode", "share of run", "share of steps", "ms a step", "steps/s", "samples/s")
    print(f"| {' | '.join(columns)} | seconds |\n|{'---|' * (len(columns) + 1)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="data-wait-") as directory:
        dataset = f"{directory}/dataset"
        episodes = writing.make_episodes(args.episodes, EPISODE_STEPS, SIZE)
        rlds_writer.write(dataset, episodes, writing.make_spec(SIZE), "bench")
        for mode in args.modes:
            found = train(dataset, f"{directory}/{mode}", mode, args.steps)
            print(describe(mode, found), flush=True)


if __name__ == "__main__":
    main()

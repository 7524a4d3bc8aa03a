"""What domain randomisation is worth: success under shifts that no demonstration showed.

COMMAND   python benchmarks/randomization.py --workdir=runs/randomization --seeds=3

Three policies lift from a wrist camera, alike but for their demonstrations: those of one world,
of worlds whose physics and light are drawn from `sim.config.STRONG`, and of worlds in which
everything is, cameras, colours, textures and sensors too. All are evaluated on the same held-out
starts in the world as it is, and with physics, light or both drawn from STRONG with another
seed: other models than any that was seen. Training and evaluations that are there already are
not done again.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from configs import bc, tasks
from jaxpolicy.evaluation import metrics, rollout
from jaxpolicy.pipeline import grid, stages, sweep
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.sim.config import STRONG, RandomizationConfig
from jaxpolicy.sim.physics.randomized_models import PHYSICS
from jaxpolicy.training import factory

LIGHT = ("light_position", "light_intensity", "ambient", "exposure", "white_balance")
HELD_OUT_SEED = 1


def strong(names: tuple[str, ...], seed: int) -> RandomizationConfig:
    """STRONG in these quantities alone, with the models of `seed`."""
    values = {name: getattr(STRONG, name) for name in names}
    return RandomizationConfig(**values, seed=seed)


SHIFTS = {
    "none": RandomizationConfig(),
    "physics": strong(tuple(PHYSICS), HELD_OUT_SEED),
    "light": strong(LIGHT, HELD_OUT_SEED),
    "physics and light": strong((*PHYSICS, *LIGHT), HELD_OUT_SEED),
}


def policies(seeds: int) -> dict[str, ExperimentConfig]:
    """The experiments."""
    plain = dataclasses.replace(bc.full(tasks.TASKS["lift"]), seeds=seeds, min_success=0.0)
    quiet = dataclasses.replace(plain, loop=dataclasses.replace(plain.loop, progress=False))
    both = randomized(quiet, "bc_lift_physics_light", strong((*PHYSICS, *LIGHT), 0))
    everything = randomized(quiet, "bc_lift_randomized", STRONG)
    return {
        "one world": quiet,
        "worlds of any physics and light": both,
        "worlds that differ in everything": everything,
    }


def randomized(
    plain: ExperimentConfig, name: str, randomization: RandomizationConfig
) -> ExperimentConfig:
    """`plain` in other worlds, with more demonstrations and updates, as these need."""
    env = dataclasses.replace(plain.env, randomization=randomization)
    collect = dataclasses.replace(plain.collect, n_episodes=1200)
    loop = dataclasses.replace(plain.loop, steps=6000)
    return dataclasses.replace(plain, name=name, env=env, collect=collect, loop=loop)


def successes(config: ExperimentConfig, workdir: Path, shift: str, episodes: int) -> list[int]:
    """Successes of every seed under a shift."""
    path = workdir / f"shift_{shift.replace(' ', '_')}_{episodes}.json"
    if path.exists():
        return json.loads(path.read_text())
    env = stages.make_world(dataclasses.replace(config.env, randomization=SHIFTS[shift]))
    settings = dataclasses.replace(config.evaluation, n_episodes=episodes, n_recorded=0)
    found = []
    for cell in grid.cells(config):
        policy = factory.load_policy(workdir / cell.name)
        spec, seed = policy.policy_spec, cell.config.seed
        act = rollout.PolicyController(policy.algorithm.act, policy.params, spec, seed)
        found.append(rollout.evaluate(env, act, settings, None, 0).n_success)
    path.write_text(json.dumps(found))
    return found


def cell(found: list[int], episodes: int) -> str:
    """Success of all seeds together, with its interval, and of each."""
    low, high = metrics.wilson(sum(found), episodes * len(found))
    rate = sum(found) / (episodes * len(found))
    each = ", ".join(str(n) for n in found)
    return f"{rate:.1%} [{low:.1%}, {high:.1%}] ({each})"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/randomization"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=200)
    args = parser.parse_args()
    print(f"| demonstrations of | {' | '.join(SHIFTS)} |\n|---{'|---' * len(SHIFTS)}|", flush=True)
    for name, config in policies(args.seeds).items():
        workdir = args.workdir / config.name
        if not (workdir / sweep.SWEEP).exists():
            sweep.run(config, workdir)
        row = [cell(successes(config, workdir, s, args.episodes), args.episodes) for s in SHIFTS]
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()

"""Our side of benchmarks/reinforcement.py: `... ours SETTING`.

Rollout and learning are two programs here, so that each can be timed. Training makes one
program of them.
"""

import dataclasses
import functools
import sys
from typing import Any

import jax

from benchmarks.reinforcement_sides.measuring import Update
from benchmarks.reinforcement_sides.settings import SETTINGS
from benchmarks.sides.serving import cpu_ms, serve
from jaxpolicy import sim
from jaxpolicy.training import factory, online, rollouts
from jaxpolicy.training.config import TrainConfig


class Learner:
    """Worlds and what learns in them."""

    def __init__(self, config: TrainConfig) -> None:
        data = online.prepare(config, sim.make_world(config.env))
        algorithm = factory.make_algorithm(config, data.policy_spec, data.norm)
        drive = functools.partial(rollouts.collect, data.arena, algorithm.explore)
        drive = functools.partial(drive, steps=config.ppo.steps)
        self._drive = jax.jit(drive, donate_argnums=1)
        self._learn = jax.jit(algorithm.train_step, donate_argnums=0)
        self._state = jax.jit(algorithm.init)(jax.random.key(0), None)
        self._worlds = jax.jit(functools.partial(rollouts.init, data.arena))(jax.random.key(1))
        self._rollout: Any = None
        network = jax.tree.leaves(self._state.params["network"])
        self._parameters = sum(x.size for x in network)
        self._steps = config.ppo.n_worlds * config.ppo.steps

    def update(self) -> dict[str, float]:
        """One Update."""
        rollout, learning = cpu_ms(self._collect), cpu_ms(self._improve)
        return dataclasses.asdict(Update(self._steps, self._parameters, rollout, learning))

    def _collect(self) -> None:
        found = self._drive(self._state.params, self._worlds)
        self._worlds, self._rollout, _ = jax.block_until_ready(found)

    def _improve(self) -> None:
        self._state, _ = jax.block_until_ready(self._learn(self._state, self._rollout))


if __name__ == "__main__":
    serve(lambda: Learner(SETTINGS[sys.argv[1]]()).update)

"""A world of two numbers: go to the origin. Solved by an action that points there."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from brax.envs.base import Env, State

from jaxpolicy.core.specs import ActionSpec, ArraySpec
from jaxpolicy.data.config import DataConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.sim import wrappers
from jaxpolicy.training.config import LoopConfig, OptimizerConfig, TrainConfig

ACTION = ActionSpec("cartesian_delta", ("dx", "dy"), ("m", "m"), (-0.2,) * 2, (0.2,) * 2, 10.0)
LENGTH = 8


class Point(Env):
    """Observes where it is; the episode succeeds near the origin, and ends beyond `wall`."""

    task, robot, control_hz = "point", "none", 10.0
    action_spec = ACTION
    observation_specs = (ArraySpec("privileged", (2,)), ArraySpec("proprio", (2,)))

    def __init__(self, wall: float = 3.0):
        self.wall = wall

    def reset(self, rng: jax.Array) -> State:
        where = jax.random.uniform(rng, (2,), minval=-1.0, maxval=1.0)
        zero = jnp.zeros(())
        # As worlds without mocap bodies, it holds an array without elements.
        state = {"where": where, "nothing": jnp.zeros((0, 3))}
        return State(state, _observed(where), zero, zero, {"success": zero}, {})

    def step(self, state: State, action: jax.Array) -> State:
        where = state.pipeline_state["where"] + action
        distance = jnp.linalg.norm(where)
        success = jnp.float32(distance < 0.15)
        return state.replace(
            pipeline_state={**state.pipeline_state, "where": where},
            obs=_observed(where),
            reward=-distance,
            done=jnp.float32(distance > self.wall),
            metrics={**state.metrics, "success": success},
        )

    @property
    def observation_size(self) -> Any:
        return {"privileged": (2,), "proprio": (2,)}

    @property
    def action_size(self) -> int:
        return 2

    @property
    def backend(self) -> str:
        return "none"


def _observed(where: jax.Array) -> dict[str, jax.Array]:
    return {"privileged": where, "proprio": where}


def world(length: int = LENGTH, wall: float = 3.0) -> Env:
    return wrappers.EpisodeLimit(Point(wall), length)


def config(algorithm: str = "ppo", loop: dict[str, Any] | None = None, **ppo: Any) -> TrainConfig:
    """Learns to go to the origin in some twenty updates of 16 worlds."""
    values = {"steps": 20, "steps_per_dispatch": 2, "progress": False, "tensorboard": False}
    values |= {"devices": 1, "eval_every": 0, "batch_size": 8, "checkpoint_every": 2}
    plain = TrainConfig(
        name="point",
        algorithm=algorithm,
        network=NetworkConfig(hidden=32, layers=1, activation="tanh"),
        optimizer=OptimizerConfig(
            name="adam", learning_rate=3e-3, schedule="constant", warmup_steps=0
        ),
        loop=LoopConfig(**(values | (loop or {}))),
        data=DataConfig(proprio=True),
    )
    small = {"n_worlds": 16, "steps": 16, "epochs": 4, "minibatches": 4, "discount": 0.9}
    settings = dataclasses.replace(getattr(plain, algorithm), **(small | ppo))
    return dataclasses.replace(plain, **{algorithm: settings})

"""Stable-Baselines3's side of benchmarks/reinforcement.py: `... stable_baselines SETTING VECTOR`.

VECTOR is "vectorized", GymVectorEnv in an adapter, or "dummy", a GymEnv per world in
DummyVecEnv. Both show it the simulator's state alone, so that it handles no dictionaries, and
take actions in [-1, 1]. It does not normalise observations, which would cost it more.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces, wrappers
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks.reinforcement_sides.measuring import Update
from benchmarks.reinforcement_sides.settings import SETTINGS
from benchmarks.sides.serving import serve
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.sim.gymnasium.environments import GymEnv, GymVectorEnv
from jaxpolicy.training.config import TrainConfig

STATE = "privileged"
THREADS = 1


class Vectorized(VecEnv):
    """GymVectorEnv as Stable-Baselines3 wants it: a new episode in the step that ends one.

    GymVectorEnv starts episodes in the step after, so they are all started anew here. That
    is right where they end together, which those without an end of their own do.
    """

    def __init__(self, worlds: GymVectorEnv) -> None:
        self._worlds = worlds
        action = worlds.single_action_space
        self._low, self._range = action.low, action.high - action.low
        unit = spaces.Box(-1.0, 1.0, action.shape, np.float32)
        super().__init__(worlds.num_envs, worlds.single_observation_space[STATE], unit)

    def reset(self) -> np.ndarray:
        """Observations [E, ...] of new episodes."""
        seed = self._seeds[0]
        self._reset_seeds()
        return self._worlds.reset(seed=seed)[0][STATE]

    def step_async(self, actions: np.ndarray) -> None:
        """Takes actions [E, A] in [-1, 1]."""
        self._actions = self._low + 0.5 * (actions + 1.0) * self._range

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations, rewards, ends and infos."""
        observation, reward, terminated, truncated, _ = self._worlds.step(self._actions)
        state, done = observation[STATE], terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in done]
        if done.any():
            if not done.all():
                raise NotImplementedError("episodes that end at different times")
            infos = [
                {"terminal_observation": s, "TimeLimit.truncated": bool(t)}
                for s, t in zip(state, truncated, strict=True)
            ]
            state = self.reset()
        return state, reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Gives the worlds back."""
        self._worlds.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same for all worlds."""
        return [getattr(self._worlds, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """There are none."""
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, **options: Any) -> list[Any]:
        """There are none."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """They are not."""
        return [False] * self.num_envs


def one_world(config: EnvConfig) -> gymnasium.Env:
    """A GymEnv in Gymnasium's own wrappers."""
    env = GymEnv(config, privileged=True)
    space = env.observation_space[STATE]
    env = wrappers.TransformObservation(env, lambda observation: observation[STATE], space)
    return wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))


def dummy(config: EnvConfig, n: int) -> VecEnv:
    """The usual way."""
    return DummyVecEnv([functools.partial(one_world, config)] * n)


def vectorized(config: EnvConfig, n: int) -> VecEnv:
    """One compiled step for all worlds."""
    return Vectorized(GymVectorEnv(config, n, privileged=True))


VECTORS = {"vectorized": vectorized, "dummy": dummy}


def make_model(config: TrainConfig, worlds: VecEnv) -> PPO:
    """Their PPO with the values of `config`."""
    ppo, hidden = config.ppo, [config.network.hidden] * config.network.layers
    return PPO(
        "MlpPolicy",
        worlds,
        learning_rate=config.optimizer.learning_rate,
        n_steps=ppo.steps,
        batch_size=ppo.n_worlds * ppo.steps // ppo.minibatches,
        n_epochs=ppo.epochs,
        gamma=ppo.discount,
        gae_lambda=ppo.trace_decay,
        clip_range=ppo.clip,
        ent_coef=ppo.entropy_weight,
        # Theirs is of the squared error, ours of half of it.
        vf_coef=0.5 * ppo.value_weight,
        max_grad_norm=config.optimizer.clip_norm,
        policy_kwargs={
            "net_arch": {"pi": hidden, "vf": hidden},
            "activation_fn": torch.nn.Tanh,
            "log_std_init": float(np.log(ppo.initial_std)),
        },
        seed=0,
        device="cpu",
    )


class Middle(BaseCallback):
    """Remembers the CPU time at which the last rollout ended."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.time = time.process_time()


def update(model: PPO, steps: int) -> dict[str, float]:
    """One Update."""
    middle, start = Middle(), time.process_time()
    model.learn(steps, middle, reset_num_timesteps=False)
    end = time.process_time()
    parameters = sum(p.numel() for p in model.policy.parameters())
    found = Update(steps, parameters, 1e3 * (middle.time - start), 1e3 * (end - middle.time))
    return dataclasses.asdict(found)


def make(arguments: Sequence[str]) -> Callable[[], dict[str, float]]:
    """An update of SETTING and VECTOR."""
    torch.set_num_threads(THREADS)
    config = SETTINGS[arguments[0]]()
    worlds = VECTORS[arguments[1]](config.env, config.ppo.n_worlds)
    model = make_model(config, worlds)
    return functools.partial(update, model, config.ppo.n_worlds * config.ppo.steps)


if __name__ == "__main__":
    serve(functools.partial(make, sys.argv[1:]))

"""What every manipulation task shares: the robot, its actions, observations and metrics.

A task says what is in the scene, how an episode starts, which facts matter, what they
are worth and when they count as success. Everything else is here.
"""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from jaxpolicy.sim import control, physics, robots, scene
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.specs import ActionSpec, ArraySpec, InputError

__all__ = ["HELD_STEPS", "Facts", "ManipulationEnv", "State"]

Facts = dict[str, jax.Array]

HELD_STEPS = 5  # consecutive control steps a goal must hold to count as success
TOUCH_FORCE = 0.05  # N on a pad that counts as touching


class ManipulationEnv(Env):
    """One world of one task, as a Brax environment; `vmap` it for many.

    Actions and observations are in physical units. `state.obs` holds `proprio` and
    `privileged`; `state.metrics` holds `success` (the goal has held for HELD_STEPS
    control steps up to now) and every reward term as `reward/<term>`, scaled. Episodes
    do not end by themselves.

    Attributes:
      config: how the world was made.
      scene: compiled scene.
      physics: engine that steps it.
      action_spec: the action vector [A].
      observation_specs: one per key of `state.obs`, sorted by name.
      reward_scales: weight of each reward term (class attribute).
      instruction: what the task is, in words (class attribute).
    """

    reward_scales: ClassVar[Mapping[str, float]] = {}
    instruction: ClassVar[str] = ""

    def __init__(self, config: EnvConfig) -> None:
        """Compiles the scene and starts the engine."""
        self.config = config
        self.limits = control.Limits()
        self.arm = robots.get(config.robot)
        self.scene = self.build_scene(self.arm)
        self.physics = physics.make_physics(
            self.scene.model, config.backend, _substeps(config.control_hz), config.workers
        )
        self.action_spec: ActionSpec = control.action_spec(
            config.action_kind, self.arm, self.limits, config.control_hz
        )

    # What a task defines.

    @abc.abstractmethod
    def build_scene(self, robot: robots.Robot) -> scene.Scene:
        """The scene with everything the task needs."""

    @abc.abstractmethod
    def start(self, key: jax.Array) -> physics.PhysicsState:
        """The first state of an episode, drawn with `key`."""

    @abc.abstractmethod
    def task_facts(self, state: physics.PhysicsState, robot: Facts) -> Facts:
        """Named quantities of the task (see `facts`), given those of the robot."""

    @abc.abstractmethod
    def reward_terms(self, facts: Facts, action: jax.Array) -> dict[str, jax.Array]:
        """Unscaled reward terms [], keys as in `reward_scales`."""

    @abc.abstractmethod
    def goal(self, facts: Facts) -> jax.Array:
        """Whether the goal is reached right now, bool []."""

    @abc.abstractmethod
    def expert(self, privileged: jax.Array) -> jax.Array:
        """The scripted expert: `privileged` [K] -> action [A]; stateless."""

    @property
    @abc.abstractmethod
    def privileged_layout(self) -> Mapping[str, tuple[int, str]]:
        """Fact -> (size, unit) in the order of the `privileged` observation."""

    # The Brax interface.

    def reset(self, rng: jax.Array) -> State:
        """A new episode."""
        state = self.start(rng)
        targets = control.initial_targets(self.arm, state.qpos)
        held = jnp.zeros((), jnp.float32)
        state = state.replace(memory={"targets": targets, "held": held})
        facts = self.facts(state)
        zero = jnp.zeros((), jnp.float32)
        names = [f"reward/{name}" for name in self.reward_scales]
        metrics = {"success": zero} | dict.fromkeys(names, zero)
        return State(state, self.observe(facts), zero, zero, metrics, {})

    def step(self, state: State, action: jax.Array) -> State:
        """One control step."""
        before = state.pipeline_state
        joints = before.qpos[: self.arm.n_joints]
        targets = control.update(
            self.action_spec, self.arm, self.limits, before.memory["targets"], joints, action
        )
        after = self.physics.step(before, control.controls(self.arm, targets))
        facts = self.facts(after)
        held = jnp.where(self.goal(facts), before.memory["held"] + 1.0, 0.0)
        after = after.replace(memory={"targets": targets, "held": held})
        success = (held >= HELD_STEPS).astype(jnp.float32)
        terms = self.reward_terms(facts, action) | {"success": success}
        scaled = {f"reward/{k}": s * terms[k] for k, s in self.reward_scales.items()}
        metrics = {**state.metrics, "success": success, **scaled}
        reward = jnp.sum(jnp.stack(list(scaled.values())))
        return state.replace(
            pipeline_state=after, obs=self.observe(facts), reward=reward, metrics=metrics
        )

    @property
    def observation_specs(self) -> tuple[ArraySpec, ...]:
        """One per key of `state.obs`, sorted by name."""
        layout = self.privileged_layout.values()
        units = ",".join(u for n, u in layout for _ in range(n))
        privileged = ArraySpec("privileged", (sum(n for n, _ in layout),), unit=units)
        return (privileged, self._proprio_spec())

    @property
    def observation_size(self) -> Mapping[str, Any]:
        """Shape of every observation."""
        return {s.name: s.shape for s in self.observation_specs}

    @property
    def action_size(self) -> int:
        """A."""
        return self.action_spec.size

    @property
    def backend(self) -> str:
        """Physics backend."""
        return self.config.backend

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.config.name

    @property
    def robot(self) -> str:
        """Name of the robot."""
        return self.config.robot

    @property
    def control_hz(self) -> float:
        """Actions per second."""
        return self.config.control_hz

    # Shared facts and observations.

    def facts(self, state: physics.PhysicsState) -> Facts:
        """Everything rewards, goals and observations are made of, by name."""
        robot = self._robot_facts(state)
        return robot | self.task_facts(state, robot)

    def observe(self, facts: Facts) -> dict[str, jax.Array]:
        """`proprio` [P] and `privileged` [K]."""
        names = ("joints", "joint_velocities", "width", "tool", "tool_direction")
        privileged = [facts[name] for name in self.privileged_layout]
        return {
            "privileged": jnp.concatenate(privileged).astype(jnp.float32),
            "proprio": jnp.concatenate([facts[name] for name in names]).astype(jnp.float32),
        }

    def split_privileged(self, privileged: jax.Array) -> Facts:
        """Inverse of `observe` for the privileged vector [K]."""
        result, at = {}, 0
        for name, (size, _) in self.privileged_layout.items():
            result[name] = privileged[at : at + size]
            at += size
        return result

    def effort(self, action: jax.Array) -> jax.Array:
        """Mean square of the arm's part of an action, each element over its bound."""
        bound = np.array(self.action_spec.maximum[:-1], np.float32)
        return jnp.mean(jnp.square(jnp.clip(action[:-1] / bound, -1.0, 1.0)))

    def encode_action(self, facts: Facts, cartesian: jax.Array) -> jax.Array:
        """A Cartesian action [5] as one of this environment's kind [A]."""
        return control.encode(self.action_spec, self.arm, facts["joints"], cartesian)

    def _robot_facts(self, state: physics.PhysicsState) -> Facts:
        n = self.arm.n_joints
        position, rotation = robots.forward(self.arm, state.qpos[:n])
        yaw = robots.yaw_of(rotation)
        return {
            "joints": state.qpos[:n],
            "joint_velocities": state.qvel[:n],
            "width": (state.qpos[n] + state.qpos[n + 1])[None],
            "tool": position,
            "tool_direction": jnp.stack([jnp.sin(yaw), jnp.cos(yaw)]),
            "touch": (state.sensors[:2] > TOUCH_FORCE).astype(jnp.float32),
        }

    def _proprio_spec(self) -> ArraySpec:
        n = self.arm.n_joints
        units = ["rad"] * n + ["rad/s"] * n + ["m"] + ["m"] * 3 + ["1"] * 2
        return ArraySpec("proprio", (len(units),), unit=",".join(units))


def _substeps(control_hz: float) -> int:
    """Physics steps per control step; raises InputError unless they fit exactly."""
    steps = 1.0 / (control_hz * scene.TIMESTEP)
    if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
        rate = 1.0 / scene.TIMESTEP
        raise InputError(f"env.control_hz must divide {rate:g} Hz evenly, got {control_hz:g}")
    return round(steps)

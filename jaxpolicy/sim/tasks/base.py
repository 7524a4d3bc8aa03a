"""What every manipulation task shares: the robot, its actions, observations and metrics.

A task says what is in the scene, how an episode starts, which facts matter, what they
are worth and when they count as success. Everything else is here.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from brax.envs.base import Env, State

from jaxpolicy.core import text
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError
from jaxpolicy.sim import robots
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.sim.physics import engines, objects, scene
from jaxpolicy.sim.physics.things import Thing
from jaxpolicy.sim.robots import control
from jaxpolicy.sim.tasks import incidents
from jaxpolicy.sim.tasks.randomizer import Randomizer

__all__ = ["HELD_STEPS", "Facts", "ManipulationEnv", "Range", "State", "held_steps"]

Facts = dict[str, jax.Array]
Range = tuple[tuple[float, ...], tuple[float, ...]]

HELD_STEPS = 5  # fewest consecutive control steps a goal must hold to count as success
HELD_SECONDS = 0.25
# What follows the joints and their velocities in `proprio`.
_TOOL_AND_GRIPPER = (
    "gripper_width",
    "tool_x",
    "tool_y",
    "tool_z",
    "tool_yaw_sin",
    "tool_yaw_cos",
)
TOUCH_FORCE = 0.05  # N on a pad that counts as touching
SLOWEST_HZ, FASTEST_HZ = 10.0, 50.0


class ManipulationEnv(Env):
    """One world of one task, as a Brax environment; `vmap` it for many.

    Actions and observations are in physical units. `state.obs` holds `proprio` and
    `privileged`; `state.metrics` holds `success` (the goal has held for `held_steps`
    control steps up to now) and every reward term as `reward/<term>`, scaled.
    `state.info["facts"]` says what went wrong (see incidents.py), and
    `state.info["instruction"]` (int32 []) which of `instructions` is asked for; where there
    are several, or a text encoder is configured, `state.obs` holds it as `language` [L].
    `state.info["variation"]` says what is randomised in this episode (name -> float32 []).
    Episodes do not end by themselves.

    Attributes:
      config: how the world was made.
      scene: compiled scene.
      randomizer: what differs between its episodes besides the start.
      physics: engine that steps it, with the models of `randomizer`.
      shapes: the shapes that the object may have, one per model of `scene`.
      action_spec: the action vector [A].
      observation_specs: one per key of `state.obs`, sorted by name.
      reward_scales: weight of each reward term (class attribute).
      instructions: what may be asked for, in words (class attribute).
      default_seconds: length of an episode that is long enough (class attribute).
      start_ranges: facts that are drawn anew for each episode -> their lowest and highest
        values, element by element (class attribute).
      tool_box: `lower` and `upper` of control.Limits where they differ (class attribute).
      layout: fact -> (size, unit) in the order of the `privileged` observation, without the
        joints, which come first (class attribute).
      default_shapes: shapes of the object where the configuration names none; () where
        the task has none to choose (class attribute).
    """

    reward_scales: ClassVar[Mapping[str, float]] = {}
    instructions: ClassVar[tuple[str, ...]] = ("",)
    default_seconds: ClassVar[float] = 3.0
    start_ranges: ClassVar[Mapping[str, Range]] = {}
    tool_box: ClassVar[Mapping[str, tuple[float, float, float]]] = {}
    layout: ClassVar[Mapping[str, tuple[int, str]]] = {}
    default_shapes: ClassVar[tuple[objects.Shape, ...]] = ()

    def __init__(self, config: EnvConfig) -> None:
        """Compiles the scene and starts the engine."""
        self.config = config
        self.limits = control.Limits.at(config.control_hz, **self.tool_box)
        self.arm = robots.get(config.robot)
        self.shapes = self._chosen_shapes()
        self.held_steps = held_steps(config.control_hz)
        self._language = self._encoded_instructions()
        substeps, timestep = _timing(config.control_hz)
        self.scene = scene.build(self.arm, *self.things(), timestep=timestep)
        self.action_spec: ActionSpec = control.action_spec(
            config.action_kind, self.arm, self.limits, config.control_hz
        )
        self.randomizer = Randomizer(
            config.randomization, self.scene, self.action_spec, self._proprio_spec()
        )
        self.physics = engines.make_physics(
            self.randomizer.models, config.backend, substeps, config.workers
        )

    # What a task defines.

    @abc.abstractmethod
    def things(self) -> Sequence[Sequence[Thing]]:
        """What stands on the table: the things of each model, see `scene.build`."""

    @abc.abstractmethod
    def start(self, key: jax.Array, variant: jax.Array) -> engines.PhysicsState:
        """The first state of an episode, drawn with `key`.

        Args:
          key: PRNG key.
          variant: which model it is a state of, int32 [].

        Returns:
          A state whose `memory` may hold what the task must remember.
        """

    @abc.abstractmethod
    def task_facts(self, state: engines.PhysicsState, robot: Facts) -> Facts:
        """Named quantities of the task (see `facts`), given those of the robot."""

    @abc.abstractmethod
    def reward_terms(self, facts: Facts, action: jax.Array) -> dict[str, jax.Array]:
        """Unscaled reward terms [], keys as in `reward_scales`."""

    @abc.abstractmethod
    def goal(self, facts: Facts) -> jax.Array:
        """Whether the goal is reached right now, bool []."""

    @abc.abstractmethod
    def script(self, facts: Facts) -> jax.Array:
        """The scripted expert: privileged facts -> Cartesian action [5]; stateless."""

    # What a task may define.

    def objects_of(self, facts: Facts) -> jax.Array:
        """Positions of all objects, [N, 3] m."""
        return facts["object"][None] if "object" in facts else jnp.zeros((0, 3))

    def wanted(self, state: engines.PhysicsState) -> jax.Array:
        """Index of the object that is meant, []; -1 for none."""
        return jnp.full((), 0.0 if self.default_shapes else incidents.NOTHING)

    def instruction_of(self, state: engines.PhysicsState) -> jax.Array:
        """Which of `instructions` is asked for, int32 []."""
        return jnp.zeros((), jnp.int32)

    # The Brax interface.

    def reset(self, rng: jax.Array) -> State:
        """A new episode, with all the randomisation that is configured."""
        return self.reset_at(rng, 1.0)

    def reset_at(self, rng: jax.Array, level: float | jax.Array) -> State:
        """A new episode with less randomisation.

        Args:
          rng: PRNG key.
          level: [] in [0, 1]. What is drawn for an episode is drawn from ranges that are as
            much narrower (see randomization.py), and its model is among the share of the pool
            that is nearest to what is not randomised. Level 1 is `reset`.
        """
        state = self._start(rng, jnp.clip(jnp.asarray(level, jnp.float32), 0.0, 1.0))
        targets = control.initial_targets(self.arm, state.qpos)
        return self.begin(state.replace(memory={**state.memory, "targets": targets}))

    def begin(self, state: engines.PhysicsState) -> State:
        """The first state of an episode that begins in a physics state, whatever led there.

        Nothing has been earned and nothing has gone wrong yet. What the robot is doing, what is
        asked for and what is randomised stay as the physics state has them.
        """
        facts = self.facts(state)
        zero = jnp.zeros((), jnp.float32)
        memory = {
            "held": zero,
            "incidents": incidents.initial(self.objects_of(facts), self.wanted(state)),
        }
        state = state.replace(memory={**state.memory, **memory})
        names = [f"reward/{name}" for name in self.reward_scales]
        metrics = {"success": zero} | dict.fromkeys(names, zero)
        info = self._info(state) | {"variation": self.randomizer.describe(state)}
        return State(state, self.observe(facts, state), zero, zero, metrics, info)

    def step(self, state: State, action: jax.Array) -> State:
        """One control step."""
        before = state.pipeline_state
        joints = before.qpos[: self.arm.n_joints]
        late, executed = self.randomizer.act(before.memory, action)
        targets = control.update(
            self.action_spec, self.arm, self.limits, before.memory["targets"], joints, executed
        )
        after = self.physics.step(before, control.controls(self.arm, targets))
        facts = self.facts(after)
        happened = incidents.update(
            before.memory["incidents"], self.arm, facts, self.objects_of(facts), executed[-1]
        )
        goal = self.goal(facts | {"collided": happened["collided"]})
        held = jnp.where(goal, before.memory["held"] + 1.0, 0.0)
        memory = {"targets": targets, "held": held, "incidents": happened, **late}
        after = after.replace(memory={**before.memory, **memory})
        success = (held >= self.held_steps).astype(jnp.float32)
        terms = self.reward_terms(facts, action) | {"success": success}
        scaled = {f"reward/{k}": s * terms[k] for k, s in self.reward_scales.items()}
        return state.replace(
            pipeline_state=after,
            obs=self.observe(facts, after),
            reward=jnp.sum(jnp.stack(list(scaled.values()))),
            metrics={**state.metrics, "success": success, **scaled},
            info={**state.info, **self._info(after)},
        )

    @property
    def observation_specs(self) -> tuple[ArraySpec, ...]:
        """One per key of `state.obs`, sorted by name."""
        layout = self.privileged_layout
        units = ",".join(u for n, u in layout.values() for _ in range(n))
        names = tuple(f"{fact}_{i}" for fact, (n, _) in layout.items() for i in range(n))
        privileged = ArraySpec("privileged", (len(names),), unit=units, names=names)
        specs = (privileged, self._proprio_spec())
        if self._language is None:
            return specs
        return (ArraySpec("language", self._language.shape[1:]), *specs)

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

    @property
    def instruction(self) -> str:
        """What the task is, in words; the first of several."""
        return self.instructions[0]

    @property
    def default_length(self) -> int:
        """Control steps of an episode that is long enough."""
        return round(self.default_seconds * self.control_hz)

    # Shared facts and observations.

    @property
    def privileged_layout(self) -> Mapping[str, tuple[int, str]]:
        """Fact -> (size, unit) in the order of the `privileged` observation."""
        return {"joints": (self.arm.n_joints, "rad"), **self.layout}

    def expert(self, privileged: jax.Array) -> jax.Array:
        """The scripted expert: `privileged` [K] -> action [A]; stateless."""
        facts = self.split_privileged(privileged)
        return control.encode(self.action_spec, self.arm, facts["joints"], self.script(facts))

    def facts(self, state: engines.PhysicsState) -> Facts:
        """Everything rewards, goals and observations are made of, by name."""
        robot = self._robot_facts(state)
        return robot | self.task_facts(state, robot)

    def observe(self, facts: Facts, state: engines.PhysicsState) -> dict[str, jax.Array]:
        """`proprio` [P], `privileged` [K] and, where there is a choice, `language` [L]."""
        names = ("joints", "joint_velocities", "width", "tool", "tool_direction")
        privileged = [facts[name] for name in self.privileged_layout]
        proprio = jnp.concatenate([facts[name] for name in names]).astype(jnp.float32)
        observation = {
            "privileged": jnp.concatenate(privileged).astype(jnp.float32),
            "proprio": self.randomizer.observe(state.memory, proprio),
        }
        if self._language is None:
            return observation
        language = jnp.asarray(self._language)[self.instruction_of(state)]
        return observation | {"language": language}

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

    def robot_at_home(self) -> jax.Array:
        """Generalised positions [J + 2] of the robot at rest, gripper open."""
        return jnp.asarray(self.scene.home[: self.arm.n_joints + 2])

    def shape_values(self, values: Sequence[float], variant: jax.Array) -> jax.Array:
        """The value [] of a model's shape, given one per shape.

        A randomised pool of models goes through the shapes again and again.
        """
        return jnp.asarray(values, jnp.float32)[variant % len(values)]

    def resting_height(self, variant: jax.Array) -> jax.Array:
        """Height [] (m) at which the object of a model lies on the table."""
        rest = self.shape_values([s.rest for s in self.shapes], variant)
        return rest * self.randomizer.object_scale(variant)

    def _chosen_shapes(self) -> tuple[objects.Shape, ...]:
        """Shapes by the configuration, or by the task."""
        if not self.config.objects:
            return self.default_shapes
        if not self.default_shapes:
            raise InputError(
                f"the task '{self.task}' has no object to choose: leave env.objects ''"
            )
        return objects.get(self.config.objects)

    def _encoded_instructions(self) -> np.ndarray | None:
        """Embeddings [N, L] of the instructions, None where nobody asks for them."""
        name = self.config.text_encoder or ("hash" if len(self.instructions) > 1 else "")
        return text.get(name).encode(self.instructions) if name else None

    def _start(self, rng: jax.Array, level: jax.Array) -> engines.PhysicsState:
        """Draws the model where there are several, the start, and what else varies."""
        n = len(self.randomizer.models)
        if self.randomizer.is_on:
            rng, key = jax.random.split(rng)
        variant = jnp.zeros((), jnp.int32)
        if n > 1:
            rng, key_variant = jax.random.split(rng)
            variant = self.randomizer.draw_model(key_variant, level)
        state = self._on_the_table(self.start(rng, variant))
        if not self.randomizer.is_on:
            return state
        memory = self.randomizer.begin(key, self._idle(state), level)
        return state.replace(memory={**state.memory, **memory})

    def _on_the_table(self, state: engines.PhysicsState) -> engines.PhysicsState:
        """Where a task puts down objects of one size, lifts them to the size they have."""
        if self.default_shapes or len(self.randomizer.models) == 1:
            return state
        model, scale = self.scene.model, self.randomizer.object_scale(state.variant)
        heights = model.jnt_qposadr[model.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE)] + 2
        return state.replace(qpos=state.qpos.at[heights].multiply(scale))

    def _idle(self, state: engines.PhysicsState) -> jax.Array:
        """The action [A] with which the robot stays as it is."""
        n = self.arm.n_joints
        opening = state.qpos[n : n + 1] / self.arm.finger_travel
        still = jnp.concatenate([jnp.zeros(4), opening])
        return control.encode(self.action_spec, self.arm, state.qpos[:n], still)

    def _info(self, state: engines.PhysicsState) -> dict[str, Any]:
        return {
            "facts": state.memory["incidents"],
            "instruction": self.instruction_of(state),
        }

    def _robot_facts(self, state: engines.PhysicsState) -> Facts:
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
            "collision": jnp.sum(state.sensors[2:])[None],
        }

    def _proprio_spec(self) -> ArraySpec:
        n = self.arm.n_joints
        units = ["rad"] * n + ["rad/s"] * n + ["m"] + ["m"] * 3 + ["1"] * 2
        joints = [f"joint{i}" for i in range(1, n + 1)]
        names = (*joints, *(f"{j}_velocity" for j in joints), *_TOOL_AND_GRIPPER)
        return ArraySpec("proprio", (len(units),), unit=",".join(units), names=names)


def held_steps(control_hz: float) -> int:
    """Consecutive control steps that a goal must hold to count as success."""
    return max(HELD_STEPS, round(HELD_SECONDS * control_hz))


def _timing(control_hz: float) -> tuple[int, float]:
    """Physics steps per control step and their length (s), at most scene.TIMESTEP."""
    if not SLOWEST_HZ <= control_hz <= FASTEST_HZ:
        raise InputError(
            f"env.control_hz must lie in [{SLOWEST_HZ:g}, {FASTEST_HZ:g}] Hz, got {control_hz:g}"
        )
    steps = int(np.ceil(1.0 / (control_hz * scene.TIMESTEP) - 1e-9))
    return steps, 1.0 / (control_hz * steps)

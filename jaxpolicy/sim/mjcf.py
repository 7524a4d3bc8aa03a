"""A user's own MuJoCo model as a functional world, on both physics engines.

Actions are the controls of its actuators, within their ctrlrange; `proprio` is all
generalised positions and velocities. What is rewarded and what counts as a success are
functions of the physics state that the user gives, in JAX:

    world = MjcfWorld("pendulum.xml", success=lambda state: abs(state.qpos[0]) < 0.1)

Axis letters: A action.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from brax.envs.base import Env, State

from jaxpolicy.core.specs import FROM_ROBOT, ActionSpec, ArraySpec, InputError
from jaxpolicy.sim.physics import engines
from jaxpolicy.sim.render import raycaster

__all__ = ["MjcfScene", "MjcfWorld", "load"]

_JOINT = mujoco.mjtJoint
# Units of the positions and velocities of each kind of joint.
_QPOS_UNITS = {
    _JOINT.mjJNT_FREE: ("m", "m", "m", "1", "1", "1", "1"),
    _JOINT.mjJNT_BALL: ("1", "1", "1", "1"),
    _JOINT.mjJNT_SLIDE: ("m",),
    _JOINT.mjJNT_HINGE: ("rad",),
}
_QVEL_UNITS = {
    _JOINT.mjJNT_FREE: ("m/s", "m/s", "m/s", "rad/s", "rad/s", "rad/s"),
    _JOINT.mjJNT_BALL: ("rad/s", "rad/s", "rad/s"),
    _JOINT.mjJNT_SLIDE: ("m/s",),
    _JOINT.mjJNT_HINGE: ("rad/s",),
}


@dataclasses.dataclass(frozen=True)
class MjcfScene:
    """What cameras need; see scene.Scene.

    Attributes:
      model: the compiled file.
      cameras: names of its cameras.
    """

    model: mujoco.MjModel
    cameras: tuple[str, ...]

    @property
    def models(self) -> tuple[mujoco.MjModel, ...]:
        """The model, as the only one of a pool."""
        return (self.model,)


class MjcfWorld(Env):
    """One world of an MJCF file; without a time limit (wrappers.EpisodeLimit) or pixels.

    An episode starts in the file's first keyframe, or in its zero position where it has
    none. Cameras of the file are drawn by `wrappers.Pixels`, which draws primitives only.

    Attributes:
      task: the file's name without its ending.
      robot: "mjcf".
      control_hz, observation_specs, action_spec: see worlds.World. Units of actions are
        unknown (they depend on the actuators) and therefore empty.
      scene: model and cameras; absent where the file has no camera or the renderer
        cannot draw it, which `not_drawn` then says.
    """

    robot = "mjcf"

    def __init__(
        self,
        path: str | os.PathLike[str],
        control_hz: float = 20.0,
        backend: str = "mujoco",
        workers: int = 0,
        noise: float = 0.0,
        reward: Callable[[engines.PhysicsState], jax.Array] | None = None,
        success: Callable[[engines.PhysicsState], jax.Array] | None = None,
    ):
        """Compiles the file and starts the engine.

        Args:
          path: an MJCF file.
          control_hz: actions per second; the file's timestep must fit evenly.
          backend: "mujoco" or "mjx".
          workers: threads of the C engine, 0 for one per core.
          noise: each hinge and slide joint starts within +-noise (rad or m) of its place,
            uniformly, within its range.
          reward: state after a step -> float []; works under `jit` and `vmap`.
          success: state after a step -> bool []; the same.

        Raises:
          InputError: no such file, a broken one, one without actuators, with an actuator
            without ctrlrange or with a state of its own, or one that MJX cannot run.
        """
        model = load(path)
        _check_actuators(model, str(path))
        substeps = _substeps(model, control_hz, str(path))
        self.physics = _physics(model, backend, substeps, workers, str(path))
        self.task = Path(path).stem
        self.control_hz = float(control_hz)
        self.action_spec = _action_spec(model, control_hz)
        self.not_drawn = self._draw(model)
        self._backend = backend
        self._noise = noise
        self._reward = reward
        self._success = success

    @property
    def observation_specs(self) -> tuple[ArraySpec, ...]:
        """`proprio`: qpos, then qvel."""
        model = self.physics.model
        kinds = [_JOINT(kind) for kind in model.jnt_type]
        units = [u for k in kinds for u in _QPOS_UNITS[k]]
        units += [u for k in kinds for u in _QVEL_UNITS[k]]
        shape = (model.nq + model.nv,)
        return (ArraySpec("proprio", shape, unit=",".join(units), names=_state_names(model)),)

    @property
    def has_reward(self) -> bool:
        """Whether anybody said what is rewarded; without it, every reward is zero."""
        return self._reward is not None

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
        return self._backend

    def reset(self, rng: jax.Array) -> State:
        """A new episode."""
        model = self.physics.model
        qpos, qvel, mocap = _start(model)
        low, high = _room(model, qpos, self._noise)
        qpos = qpos + jax.random.uniform(rng, (model.nq,), minval=low, maxval=high)
        zero = jnp.zeros((), jnp.float32)
        state = self.physics.init(qpos, qvel, mocap)
        metrics = {} if self._success is None else {"success": zero}
        return State(state, _observe(state), zero, zero, metrics, {})

    def step(self, state: State, action: jax.Array) -> State:
        """One control step with the actuators' controls [A], clipped to their ranges."""
        spec = self.action_spec
        low, high = np.asarray(spec.minimum, np.float32), np.asarray(spec.maximum, np.float32)
        after = self.physics.step(state.pipeline_state, jnp.clip(action, low, high))
        metrics, reward = dict(state.metrics), state.reward
        if self._success is not None:
            metrics["success"] = jnp.asarray(self._success(after), jnp.float32)
        if self._reward is not None:
            reward = jnp.asarray(self._reward(after), jnp.float32)
        return state.replace(
            pipeline_state=after, obs=_observe(after), reward=reward, metrics=metrics
        )

    def _draw(self, model: mujoco.MjModel) -> str:
        """Sets `scene`, or says why there is none."""
        if model.ncam == 0:
            return "the file has no camera"
        try:
            raycaster.RenderScene.from_model(model)
        except InputError as e:
            return str(e)
        self.scene = MjcfScene(model, tuple(model.camera(i).name for i in range(model.ncam)))
        return ""


def load(path: str | os.PathLike[str]) -> mujoco.MjModel:
    """The compiled model of an MJCF file.

    Raises:
      InputError: no such file, or MuJoCo refuses it.
    """
    if not Path(path).is_file():
        raise InputError(f"no MJCF file at {path}")
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as e:
        raise InputError(f"{path} is not a valid MJCF file: {' '.join(str(e).split())}") from e


def _check_actuators(model: mujoco.MjModel, path: str) -> None:
    if model.nu == 0:
        raise InputError(f"{path} has no actuators, so there is nothing to control")
    names = _actuator_names(model)
    endless = np.flatnonzero(model.actuator_ctrllimited == 0)
    if len(endless):
        raise InputError(
            f"{path}: actuator '{names[endless[0]]}' is unbounded; give it a ctrlrange"
        )
    if model.na:
        slow = names[int(np.flatnonzero(model.actuator_actadr >= 0)[0])]
        raise InputError(
            f"{path}: actuator '{slow}' has a state of its own (dyntype), which is not "
            "supported; use one without"
        )


def _actuator_names(model: mujoco.MjModel) -> tuple[str, ...]:
    return tuple(model.actuator(i).name or f"actuator{i}" for i in range(model.nu))


def _state_names(model: mujoco.MjModel) -> tuple[str, ...]:
    """Of qpos, then of qvel: the joint's, with a number where it has several elements."""
    kinds = [_JOINT(kind) for kind in model.jnt_type]
    names = [model.joint(i).name or f"joint{i}" for i in range(model.njnt)]
    qpos = [e for n, k in zip(names, kinds, strict=True) for e in _numbered(n, _QPOS_UNITS[k])]
    qvel = [
        e
        for n, k in zip(names, kinds, strict=True)
        for e in _numbered(f"{n}_velocity", _QVEL_UNITS[k])
    ]
    return (*qpos, *qvel)


def _numbered(name: str, units: tuple[str, ...]) -> list[str]:
    return [name] if len(units) == 1 else [f"{name}_{i}" for i in range(len(units))]


def _substeps(model: mujoco.MjModel, control_hz: float, path: str) -> int:
    steps = 1.0 / (control_hz * model.opt.timestep)
    if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
        raise InputError(
            f"{path}: its timestep {model.opt.timestep:g} s does not fit evenly into a control "
            f"step of {control_hz:g} Hz ({1 / control_hz:g} s)"
        )
    return round(steps)


def _physics(
    model: mujoco.MjModel, backend: str, substeps: int, workers: int, path: str
) -> engines.Physics:
    try:
        return engines.make_physics(model, backend, substeps, workers)
    except NotImplementedError as e:
        raise InputError(f"{path}: MJX cannot run it ({e}); use the backend 'mujoco'") from e


def _action_spec(model: mujoco.MjModel, control_hz: float) -> ActionSpec:
    low, high = model.actuator_ctrlrange.T.tolist()
    units = ("",) * model.nu
    names, bounds = _actuator_names(model), (tuple(low), tuple(high))
    return ActionSpec("unknown", names, units, *bounds, float(control_hz), limits_from=FROM_ROBOT)


def _start(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Positions, velocities and mocap positions of the first keyframe, or of the model."""
    if model.nkey == 0:
        return model.qpos0.astype(np.float32), np.zeros(model.nv, np.float32), None
    qpos, qvel = model.key_qpos[0].astype(np.float32), model.key_qvel[0].astype(np.float32)
    return qpos, qvel, model.key_mpos[0].astype(np.float32)


def _room(model: mujoco.MjModel, qpos: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest displacement at the start, [nq] each; 0 for what must not move."""
    low, high = np.zeros(model.nq, np.float32), np.zeros(model.nq, np.float32)
    for joint in range(model.njnt):
        if model.jnt_type[joint] in (_JOINT.mjJNT_HINGE, _JOINT.mjJNT_SLIDE):
            at = model.jnt_qposadr[joint]
            endless = (-np.inf, np.inf)
            first, last = model.jnt_range[joint] if model.jnt_limited[joint] else endless
            low[at] = min(0.0, max(-noise, first - qpos[at]))
            high[at] = max(0.0, min(noise, last - qpos[at]))
    return low, high


def _observe(state: engines.PhysicsState) -> dict[str, jax.Array]:
    return {"proprio": jnp.concatenate([state.qpos, state.qvel])}

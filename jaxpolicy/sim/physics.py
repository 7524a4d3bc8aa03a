"""One physics interface, two engines: C MuJoCo on CPU threads and MJX on accelerators.

Both advance the same MjModel by one control step (several physics steps with constant
controls), both work under `jit` and `vmap`, and both carry only what is needed:
positions, velocities, the solver's warm start and the touch sensors.

The C engine is reached by `jax.pure_callback`; under `vmap` the whole batch arrives in
one call and is spread over a persistent thread pool. Nothing in that call uses JAX:
doing so from within a callback can deadlock.
"""

import abc
import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from mujoco import mjx, rollout
from mujoco.mjx._src import math as mjx_math

from jaxpolicy.specs import InputError

__all__ = [
    "BACKENDS",
    "Kinematics",
    "MjxPhysics",
    "MujocoPhysics",
    "Physics",
    "PhysicsState",
    "make_physics",
    "mjx_cpu_barriers",
]

_HIGHEST = jax.lax.Precision.HIGHEST


class PhysicsState(struct.PyTreeNode):
    """State of one simulated world; everything is float32 unless said otherwise.

    Attributes:
      qpos: generalised positions [nq].
      qvel: generalised velocities [nv].
      warmstart: accelerations the solver starts from [nv].
      sensors: sensor readings of the last physics step [nsensordata].
      mocap_pos: positions of mocap bodies [nmocap, 3], m; never changed by a step.
      variant: which of the models it is a state of, int32 [].
      memory: arrays an environment carries along (nominal targets, counters); never
        looked at here.
    """

    qpos: jax.Array
    qvel: jax.Array
    warmstart: jax.Array
    sensors: jax.Array
    mocap_pos: jax.Array
    variant: jax.Array
    memory: Any = struct.field(default_factory=dict)


class Kinematics(NamedTuple):
    """Poses in the world's frame, as a renderer wants them.

    Attributes:
      geom_xpos, geom_xmat: [ngeom, 3] m and [ngeom, 3, 3].
      cam_xpos, cam_xmat: [ncam, 3] m and [ncam, 3, 3]; cameras look along -z.
    """

    geom_xpos: jax.Array
    geom_xmat: jax.Array
    cam_xpos: jax.Array
    cam_xmat: jax.Array


class Physics(abc.ABC):
    """Steps one model; every method is pure and works under `jit` and `vmap`."""

    def __init__(self, model: mujoco.MjModel, substeps: int) -> None:
        """Keeps the model; `substeps` physics steps make one control step."""
        self.model = model
        self.substeps = substeps

    def init(
        self,
        qpos: jax.typing.ArrayLike,
        qvel: jax.typing.ArrayLike | None = None,
        mocap_pos: jax.typing.ArrayLike | None = None,
        variant: jax.typing.ArrayLike = 0,
    ) -> PhysicsState:
        """A state of model `variant` at `qpos` [nq], `qvel` [nv] (default rest), untouched."""
        model = self.model
        if mocap_pos is None:
            mocap_pos = model.body_pos[model.body_mocapid >= 0].astype(np.float32)
        rest = jnp.zeros(model.nv, jnp.float32)
        return PhysicsState(
            qpos=jnp.asarray(qpos, jnp.float32),
            qvel=rest if qvel is None else jnp.asarray(qvel, jnp.float32),
            warmstart=rest,
            sensors=jnp.zeros(model.nsensordata, jnp.float32),
            mocap_pos=jnp.asarray(mocap_pos, jnp.float32).reshape(model.nmocap, 3),
            variant=jnp.asarray(variant, jnp.int32),
        )

    @abc.abstractmethod
    def step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        """One control step with constant actuator controls `ctrl` [nu]."""

    def kinematics(self, state: PhysicsState) -> Kinematics:
        """Poses of all geoms and cameras, from positions alone."""
        return _kinematics(self.model, state.qpos, state.mocap_pos)


class MujocoPhysics(Physics):
    """C MuJoCo on a pool of threads."""

    def __init__(self, model: mujoco.MjModel, substeps: int, workers: int = 0) -> None:
        """Builds the pool; `workers` threads, 0 for one per available core."""
        super().__init__(model, substeps)
        n = workers or len(os.sched_getaffinity(0))
        self._pool = rollout.Rollout(nthread=n if n > 1 else 0)
        self._data = [mujoco.MjData(model) for _ in range(n)]
        moved = mujoco.mjtState.mjSTATE_MOCAP_POS if model.nmocap else 0
        self._control_spec = int(mujoco.mjtState.mjSTATE_CTRL | moved)
        self._lock = threading.Lock()
        weakref.finalize(self, self._pool.close)

    def step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        """See Physics; one host call for the whole batch under `vmap`."""
        model = self.model
        controls = jnp.concatenate([ctrl, state.mocap_pos.reshape(-1)])
        packed = jnp.concatenate([state.qpos, state.qvel, state.warmstart, controls])
        size = model.nq + 2 * model.nv + model.nsensordata
        result = jax.ShapeDtypeStruct((size,), jnp.float32)
        out = jax.pure_callback(self._advance, result, packed, vmap_method="broadcast_all")
        ends = np.cumsum([model.nq, model.nv, model.nv])
        qpos, qvel, warmstart, sensors = jnp.split(out, ends)
        return state.replace(qpos=qpos, qvel=qvel, warmstart=warmstart, sensors=sensors)

    def _advance(self, packed: Any) -> np.ndarray:
        """Host side of `step`: [..., nq + 2 nv + nu + 3 nmocap] -> [..., nq + 2 nv + nsensordata].

        Mocap positions are controls to the engine, so that mocap bodies can be hit.
        """
        model, values = self.model, np.asarray(packed)
        flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
        ends = np.cumsum([model.nq, model.nv, model.nv])
        qpos, qvel, warmstart, ctrl = np.split(flat, ends, axis=1)
        start = np.concatenate([np.zeros((len(flat), 1)), qpos, qvel], axis=1)
        states, sensors = self._rollout(start, warmstart, ctrl)
        end = states[:, -1, 1:]
        velocities = states[:, :, 1 + model.nq :]
        before = velocities[:, -2] if self.substeps > 1 else qvel
        acceleration = (velocities[:, -1] - before) / model.opt.timestep
        out = np.concatenate([end, acceleration, sensors[:, -1]], axis=1)
        return out.astype(np.float32).reshape(*values.shape[:-1], -1)

    def _rollout(
        self, start: np.ndarray, warmstart: np.ndarray, ctrl: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """States [E, substeps, 1 + nq + nv] and sensors [E, substeps, nsensordata]."""
        controls = np.repeat(ctrl[:, None], self.substeps, axis=1)
        with self._lock:
            return self._pool.rollout(
                self.model,
                self._data,
                start,
                controls,
                control_spec=self._control_spec,
                initial_warmstart=warmstart,
            )


class MjxPhysics(Physics):
    """MJX: the same model as one JAX program."""

    def __init__(self, model: mujoco.MjModel, substeps: int) -> None:
        """Puts the model on the default device."""
        super().__init__(model, substeps)
        self._model = mjx.put_model(model)
        self._compiled = jax.jit(self._advance)  # MJX is too large to run op by op.

    def step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        """See Physics."""
        changed = self._compiled(state.qpos, state.qvel, state.warmstart, state.mocap_pos, ctrl)
        return state.replace(**changed)

    def _advance(
        self,
        qpos: jax.Array,
        qvel: jax.Array,
        warmstart: jax.Array,
        mocap_pos: jax.Array,
        ctrl: jax.Array,
    ) -> dict[str, jax.Array]:
        """What a step changes in a PhysicsState; compiled once whatever else that carries."""
        data = mjx.make_data(self._model).replace(
            qpos=qpos, qvel=qvel, ctrl=ctrl, qacc_warmstart=warmstart, mocap_pos=mocap_pos
        )
        with mjx_cpu_barriers():
            data = jax.lax.scan(self._substep, data, None, self.substeps)[0]
        return {
            "qpos": data.qpos,
            "qvel": data.qvel,
            "warmstart": data.qacc_warmstart,
            "sensors": data.sensordata,
        }

    def _substep(self, data: Any, _: None) -> tuple[Any, None]:
        return mjx.step(self._model, data), None


@contextlib.contextmanager
def mjx_cpu_barriers() -> Iterator[None]:
    """Makes MJX usable on CPU while it is traced inside this context.

    XLA's CPU compiler fuses MJX's kinematic chain so that every body recomputes all of
    its ancestors, which costs four orders of magnitude. Optimisation barriers behind
    quaternion products and rotations stop that. On other platforms, and outside this
    context, MJX is as shipped.
    """
    if jax.default_backend() != "cpu":
        yield
        return
    product, rotate = mjx_math.quat_mul, mjx_math.rotate
    with (
        mock.patch.object(mjx_math, "quat_mul", _Barrier(product)),
        mock.patch.object(mjx_math, "rotate", _Barrier(rotate)),
    ):
        yield


class _Barrier:
    """A function whose result the compiler may not fuse into its consumers."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return jax.lax.optimization_barrier(self.function(*args))


BACKENDS = ("mujoco", "mjx")


def make_physics(
    model: mujoco.MjModel, backend: str = "mujoco", substeps: int = 10, workers: int = 0
) -> Physics:
    """Physics of `model`.

    Args:
      model: what to simulate.
      backend: "mujoco" or "mjx".
      substeps: physics steps per control step.
      workers: threads of the C engine, 0 for one per core.
    """
    if backend == "mujoco":
        return MujocoPhysics(model, substeps, workers)
    if backend == "mjx":
        return MjxPhysics(model, substeps)
    raise InputError(f"physics backend must be one of {BACKENDS}, got '{backend}'")


# --- kinematics of any model with hinge, slide and free joints --------------------------


class _Pose(NamedTuple):
    position: Any  # [3]
    rotation: Any  # [3, 3]


def _compose(parent: _Pose, position: Any, rotation: Any) -> _Pose:
    """The pose of a child given in its parent's frame."""
    moved = jnp.matmul(parent.rotation, position, precision=_HIGHEST) + parent.position
    return _Pose(moved, jnp.matmul(parent.rotation, rotation, precision=_HIGHEST))


def _kinematics(model: mujoco.MjModel, qpos: jax.Array, mocap_pos: jax.Array) -> Kinematics:
    bodies = _body_poses(model, qpos, mocap_pos)
    position = jnp.stack([b.position for b in bodies])
    rotation = jnp.stack([b.rotation for b in bodies])
    geoms = _attached(position, rotation, model.geom_bodyid, model.geom_pos, model.geom_quat)
    cams = _attached(position, rotation, model.cam_bodyid, model.cam_pos, model.cam_quat)
    return Kinematics(*geoms, *cams)


def _attached(
    position: jax.Array, rotation: jax.Array, body: np.ndarray, pos: np.ndarray, quat: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    """World poses of N things fixed to bodies, [N, 3] and [N, 3, 3]."""
    local = np.stack([_matrix(q) for q in quat]) if len(quat) else np.zeros((0, 3, 3))
    parents = rotation[body]
    moved = jnp.einsum("nij,nj->ni", parents, pos.astype(np.float32), precision=_HIGHEST)
    turned = jnp.matmul(parents, local.astype(np.float32), precision=_HIGHEST)
    return position[body] + moved, turned


def _body_poses(model: mujoco.MjModel, qpos: jax.Array, mocap_pos: jax.Array) -> list[_Pose]:
    """World pose of every body, the world first."""
    poses = [_Pose(jnp.zeros(3), jnp.eye(3))]
    for i in range(1, model.nbody):
        mocap = model.body_mocapid[i]
        if mocap >= 0:
            poses.append(_Pose(mocap_pos[mocap], jnp.asarray(_matrix(model.body_quat[i]))))
        else:
            parent = poses[model.body_parentid[i]]
            poses.append(_move(model, i, parent, qpos))
    return poses


def _move(model: mujoco.MjModel, body: int, parent: _Pose, qpos: jax.Array) -> _Pose:
    """World pose of `body` after its joint, if it has one."""
    position = model.body_pos[body].astype(np.float32)
    rotation = _matrix(model.body_quat[body])
    if not model.body_jntnum[body]:
        return _compose(parent, position, rotation)
    joint = model.body_jntadr[body]
    address, kind = model.jnt_qposadr[joint], model.jnt_type[joint]
    if kind == mujoco.mjtJoint.mjJNT_FREE:
        return _Pose(qpos[address : address + 3], _rotation(qpos[address + 3 : address + 7]))
    axis, value = model.jnt_axis[joint].astype(np.float32), qpos[address]
    if kind == mujoco.mjtJoint.mjJNT_SLIDE:
        return _compose(parent, position + rotation @ axis * value, rotation)
    turn = jnp.concatenate([jnp.cos(value / 2)[None], jnp.sin(value / 2) * axis])
    turned = jnp.matmul(rotation, _rotation(turn), precision=_HIGHEST)
    return _compose(parent, position, turned)


def _rotation(quat: jax.Array) -> jax.Array:
    """Unit quaternion [4] (w first) -> rotation matrix [3, 3]."""
    w, x, y, z = quat
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(r) for r in rows])


def _matrix(quat: np.ndarray) -> np.ndarray:
    """Unit quaternion [4] -> rotation matrix [3, 3], on the host."""
    result = np.zeros(9)
    mujoco.mju_quat2Mat(result, quat)
    return result.reshape(3, 3).astype(np.float32)

"""One physics interface, two engines: C MuJoCo on CPU threads and MJX on accelerators.

Both advance the same MjModel by one control step (several physics steps with constant
controls), both work under `jit` and `vmap`, and both carry only what is needed:
positions, velocities, the solver's warm start and the touch sensors.

Worlds may differ: an engine takes a pool of K models of one structure, and each state
says by `variant` which of them it belongs to. That index is data, so a batch may mix
variants and nothing is compiled anew.

The C engine is reached by a callback, which on CPU works in XLA's own buffers:
`jax.pure_callback` makes JAX arrays of them, which takes as long as the physics of a
world. Under `vmap` the whole batch arrives in one call and is spread over a persistent
thread pool. Nothing in that call uses JAX: doing so from within a callback can deadlock.
"""

import abc
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jax.experimental.buffer_callback import buffer_callback
from mujoco import mjx, rollout
from mujoco.mjx._src import math as mjx_math

from jaxpolicy.core.specs import InputError
from jaxpolicy.sim.physics.kinematics import Kinematics, Tree

__all__ = [
    "BACKENDS",
    "MjxPhysics",
    "MujocoPhysics",
    "Physics",
    "PhysicsState",
    "make_physics",
    "mjx_cpu_barriers",
]


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


class Physics(abc.ABC):
    """Steps one model or a pool; every method is pure and works under `jit` and `vmap`.

    Attributes:
      models: the K models of the pool.
      model: the first of them; all have its structure.
      substeps: physics steps that make one control step.
    """

    def __init__(self, models: Sequence[mujoco.MjModel], substeps: int) -> None:
        """Keeps the models.

        Raises:
          InputError: they are not of one structure.
        """
        self.models = tuple(models)
        self.model = self.models[0]
        self.substeps = substeps
        _check_structure(self.models)
        self._tree = Tree(self.models)

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
        return self._tree.poses(state.qpos, state.mocap_pos, state.variant)


class MujocoPhysics(Physics):
    """C MuJoCo on a pool of threads."""

    def __init__(self, models: Sequence[mujoco.MjModel], substeps: int, workers: int = 0) -> None:
        """Starts `workers` threads, 0 for one per available core."""
        super().__init__(models, substeps)
        model = self.model
        n = workers or len(os.sched_getaffinity(0))
        self._threads = rollout.Rollout(nthread=n if n > 1 else 0)
        self._data = [mujoco.MjData(model) for _ in range(n)]
        moved = mujoco.mjtState.mjSTATE_MOCAP_POS if model.nmocap else 0
        # Where qpos, qvel and the warm start end in a row of what goes in or comes out.
        self._ends = (model.nq, model.nq + model.nv, model.nq + 2 * model.nv)
        self._n_results = model.nq + 2 * model.nv + model.nsensordata
        self._control_spec = int(mujoco.mjtState.mjSTATE_CTRL | moved)
        self._lock = threading.Lock()
        self._compiled = jax.jit(self._call)  # Else every call of `step` would compile it.
        weakref.finalize(self, self._threads.close)

    def step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        """See Physics; one host call for the whole batch under `vmap`."""
        controls = jnp.concatenate([ctrl, state.mocap_pos.reshape(-1)])
        variant = state.variant.astype(jnp.float32)[None]
        packed = jnp.concatenate([state.qpos, state.qvel, state.warmstart, controls, variant])
        qpos, qvel, warmstart, sensors = jnp.split(self._compiled(packed), self._ends)
        return state.replace(qpos=qpos, qvel=qvel, warmstart=warmstart, sensors=sensors)

    def _call(self, packed: jax.Array) -> jax.Array:
        """`_advance`, from JAX.

        In a program that is split over several CPU devices, each of them steps all worlds.
        """
        result = jax.ShapeDtypeStruct((self._n_results,), jnp.float32)
        method: Any = {"vmap_method": "broadcast_all"}
        in_place = buffer_callback(self._in_place, result, **method)
        by_value = functools.partial(jax.pure_callback, self._by_value, result, **method)
        return jax.lax.platform_dependent(packed, cpu=in_place, default=by_value)

    def _in_place(self, context: Any, out: Any, packed: Any) -> None:
        """`_advance` on XLA's buffers, which are in this process's memory on CPU alone."""
        del context
        self._advance(np.asarray(packed), np.asarray(out))

    def _by_value(self, packed: Any) -> np.ndarray:
        """`_advance` on copies."""
        values = np.asarray(packed)
        out = np.empty((*values.shape[:-1], self._n_results), np.float32)
        self._advance(values, out)
        return out

    def _advance(self, packed: np.ndarray, out: np.ndarray) -> None:
        """Host side of `step`: a row of all it needs to a row of all that it changes.

        Mocap positions are controls to the engine, so that mocap bodies can be hit.

        Args:
          packed: [..., nq + 2 nv + nu + 3 nmocap + 1].
          out: is written, [..., nq + 2 nv + nsensordata].
        """
        values, results = packed.reshape(-1, packed.shape[-1]), out.reshape(-1, out.shape[-1])
        n, (nq, moving, solved) = len(values), self._ends
        start = np.zeros((n, 1 + moving))
        start[:, 1:] = values[:, :moving]
        warmstart = values[:, moving:solved].astype(np.float64)
        controls = np.empty((n, self.substeps, values.shape[1] - solved - 1))
        controls[:] = values[:, None, solved:-1]
        states, sensors = self._rollout(self._models_of(values), start, warmstart, controls)
        before = states[:, -2] if self.substeps > 1 else start
        gained = states[:, -1, 1 + nq :] - before[:, 1 + nq :]
        results[:, :moving] = states[:, -1, 1:]
        results[:, moving:solved] = gained / self.model.opt.timestep
        results[:, solved:] = sensors[:, -1]

    def _models_of(self, values: np.ndarray) -> list[mujoco.MjModel]:
        """Each row's model [E]; an index off the end counts as the last, as in JAX."""
        if len(self.models) == 1:
            return [self.model] * len(values)
        indices = np.clip(values[:, -1].astype(int), 0, len(self.models) - 1)
        return [self.models[i] for i in indices]

    def _rollout(
        self,
        models: list[mujoco.MjModel],
        start: np.ndarray,
        warmstart: np.ndarray,
        controls: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """States [E, substeps, 1 + nq + nv] and sensors [E, substeps, nsensordata].

        Shapes are right by construction, and looking at them takes as long as a physics step.
        """
        states = np.empty((len(start), self.substeps, start.shape[1]))
        sensors = np.empty((len(start), self.substeps, self.model.nsensordata))
        with self._lock:
            self._threads.rollout(
                models,
                self._data,
                start,
                controls,
                control_spec=self._control_spec,
                skip_checks=True,
                nstep=self.substeps,
                initial_warmstart=warmstart,
                state=states,
                sensordata=sensors,
            )
        return states, sensors


class MjxPhysics(Physics):
    """MJX: the same models as one JAX program."""

    def __init__(self, models: Sequence[mujoco.MjModel], substeps: int) -> None:
        """Puts the models on the default device."""
        super().__init__(models, substeps)
        self._pool = _Pool(self.models)
        self._compiled = jax.jit(self._advance)  # MJX is too large to run op by op.

    def step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        """See Physics."""
        changed = self._compiled(state.replace(memory={}), ctrl)
        return state.replace(**changed)

    def _advance(self, state: PhysicsState, ctrl: jax.Array) -> dict[str, jax.Array]:
        """What a step changes in a PhysicsState; compiled once whatever else that carries."""
        model = _with_mocap(self.model, self._pool.pick(state.variant), state.mocap_pos)
        data = mjx.make_data(self._pool.first).replace(
            qpos=state.qpos,
            qvel=state.qvel,
            ctrl=ctrl,
            qacc_warmstart=state.warmstart,
            mocap_pos=state.mocap_pos,
        )
        step = functools.partial(_substep, model)
        with mjx_cpu_barriers():
            data = jax.lax.scan(step, data, None, self.substeps)[0]
        return {
            "qpos": data.qpos,
            "qvel": data.qvel,
            "warmstart": data.qacc_warmstart,
            "sensors": data.sensordata,
        }


def _with_mocap(model: mujoco.MjModel, mjx_model: Any, mocap_pos: jax.Array) -> Any:
    """The MJX model with its mocap bodies at mocap_pos [nmocap, 3].

    MJX moves mocap bodies after it has placed what hangs on them, which would stay behind:
    the drawer of a cabinet. Here the bodies' own places move.
    """
    if not model.nmocap:
        return mjx_model
    bodies = np.flatnonzero(model.body_mocapid >= 0)
    moved = mjx_model.body_pos.at[bodies].set(mocap_pos[model.body_mocapid[bodies]])
    return mjx_model.replace(body_pos=moved)


def _substep(model: Any, data: Any, _: None) -> tuple[Any, None]:
    return mjx.step(model, data), None


class _Pool:
    """MJX models of one structure; the leaves that differ are stacked, [K, ...]."""

    def __init__(self, models: Sequence[mujoco.MjModel]) -> None:
        self.first = mjx.put_model(models[0])
        leaves, self._structure = jax.tree.flatten(self.first)
        rows = [[np.asarray(x) for x in jax.tree.leaves(mjx.put_model(m))] for m in models]
        columns = list(zip(*rows, strict=True))
        self._varies = [any((x != c[0]).any() for x in c[1:]) for c in columns]
        self._leaves = [
            jnp.asarray(np.stack(column)) if varies else leaf
            for leaf, column, varies in zip(leaves, columns, self._varies, strict=True)
        ]

    def pick(self, variant: jax.Array) -> Any:
        """The model of a variant, int32 []."""
        pairs = zip(self._leaves, self._varies, strict=True)
        leaves = [x[variant] if varies else x for x, varies in pairs]
        return jax.tree.unflatten(self._structure, leaves)


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
    models: mujoco.MjModel | Sequence[mujoco.MjModel],
    backend: str = "mujoco",
    substeps: int = 10,
    workers: int = 0,
) -> Physics:
    """Physics of a model, or of a pool of models.

    Args:
      models: what to simulate; several must differ in numbers alone.
      backend: "mujoco" or "mjx".
      substeps: physics steps per control step.
      workers: threads of the C engine, 0 for one per core.

    Raises:
      InputError: unknown backend, or the models are not of one structure.
    """
    pool = (models,) if isinstance(models, mujoco.MjModel) else tuple(models)
    if backend == "mujoco":
        return MujocoPhysics(pool, substeps, workers)
    if backend == "mjx":
        return MjxPhysics(pool, substeps)
    raise InputError(f"physics backend must be one of {BACKENDS}, got '{backend}'")


_STRUCTURE = (
    *("nq", "nv", "nu", "nbody", "njnt", "ngeom", "nsite", "ncam", "nmocap", "nsensordata"),
    *("body_parentid", "body_mocapid", "jnt_type", "jnt_bodyid", "geom_type", "geom_bodyid"),
    *("geom_contype", "geom_conaffinity", "geom_condim", "sensor_type", "actuator_trnid"),
)


def _check_structure(models: Sequence[mujoco.MjModel]) -> None:
    """Raises InputError where models of a pool differ in more than numbers."""
    for i, model in enumerate(models):
        for name in _STRUCTURE:
            expected, got = getattr(models[0], name), getattr(model, name)
            if not np.array_equal(expected, got):
                raise InputError(
                    f"models of one pool must differ in numbers alone: {name} of model {i} "
                    f"is {got}, of model 0 {expected}"
                )

"""Domain randomisation of physics: a pool of perturbed models.

Model i of a pool is a function of (configuration, seed, i) alone, and both engines take
the same pool. Which model an episode has is one index, so nothing is compiled anew.
"""

import copy
from collections.abc import Mapping, Sequence

import mujoco
import numpy as np

from jaxpolicy.sim.config import RandomizationConfig

__all__ = [
    "PHYSICS",
    "draw_physics",
    "is_on",
    "make_pool",
    "nearest_first",
    "perturb",
    "pool_values",
]

# Field of RandomizationConfig -> the value that changes nothing.
PHYSICS: Mapping[str, float] = {
    "mass": 1.0,
    "friction": 1.0,
    "damping": 1.0,
    "gains": 1.0,
    "object_size": 1.0,
    "gravity_compensation": 0.0,
}
_SMALLEST = 1e-4  # size of geoms that stand for nothing; they are not scaled, m


def is_on(config: RandomizationConfig) -> bool:
    """Whether any physical quantity is randomised."""
    return any(getattr(config, name) != (same, same) for name, same in PHYSICS.items())


def draw_physics(config: RandomizationConfig, i: int) -> dict[str, float]:
    """The value of every quantity in PHYSICS of model `i` of the pool."""
    rng = np.random.default_rng((config.seed, i))
    return {name: float(rng.uniform(*getattr(config, name))) for name in PHYSICS}


def pool_values(config: RandomizationConfig, size: int) -> dict[str, np.ndarray]:
    """The quantities that are randomised: name -> float32 [K] of a pool of `size` models."""
    rows = [draw_physics(config, i) for i in range(size)]
    names = [name for name, same in PHYSICS.items() if getattr(config, name) != (same, same)]
    return {name: np.asarray([row[name] for row in rows], np.float32) for name in names}


def nearest_first(config: RandomizationConfig, size: int, own: int = 1) -> np.ndarray:
    """The models of a pool in the order of their distance from what is not randomised.

    The distance is the mean of |value - value that changes nothing| / width of its range,
    over the quantities that are randomised. The world's own models take turns, so that each
    is as frequent in any first few rounds: entry j N + s is the j-th nearest variant of own
    model s.

    Args:
      config: ranges.
      size: K of the pool, a multiple of N.
      own: N, the number of the world's own models.

    Returns:
      Indices into the pool, int32 [K].
    """
    far = _distance(config, size).reshape(-1, own)
    rounds = np.arange(size, dtype=np.int32).reshape(-1, own)
    return np.take_along_axis(rounds, np.argsort(far, axis=0, kind="stable"), axis=0).reshape(-1)


def _distance(config: RandomizationConfig, size: int) -> np.ndarray:
    """How far each model is from what is not randomised, [K]."""
    far = [
        np.abs(values - PHYSICS[name]) / (high - low)
        for name, values in pool_values(config, size).items()
        for low, high in [getattr(config, name)]
        if high > low
    ]
    return np.mean(far, axis=0) if far else np.zeros(size)


def make_pool(
    models: Sequence[mujoco.MjModel], config: RandomizationConfig
) -> tuple[mujoco.MjModel, ...]:
    """The pool of K models of a world.

    Args:
      models: the world's own N models; model i of the pool is a variant of i modulo N.
      config: ranges, and K; rounded up to a multiple of N, so that each is as frequent.

    Returns:
      `models` where no physical quantity is randomised.
    """
    if not is_on(config):
        return tuple(models)
    size = -(-config.models // len(models)) * len(models)
    return tuple(perturb(models[i % len(models)], draw_physics(config, i)) for i in range(size))


def perturb(model: mujoco.MjModel, values: Mapping[str, float]) -> mujoco.MjModel:
    """A copy of `model` with other numbers, and what follows from them recomputed.

    Args:
      model: stays as it is.
      values: see PHYSICS; missing ones change nothing.
    """
    values = {**PHYSICS, **values}
    model = copy.copy(model)
    robot = _of_robot(model)
    _scale_size(model, values["object_size"])
    model.body_mass[~robot] *= values["mass"]
    model.body_inertia[~robot] *= values["mass"]
    model.geom_friction[:] *= values["friction"]
    model.dof_damping[:] *= values["damping"]
    model.actuator_gainprm[:, 0] *= values["gains"]
    model.actuator_biasprm[:, 1:3] *= values["gains"]
    model.body_gravcomp[robot & (model.body_gravcomp > 0)] += values["gravity_compensation"]
    extent, centre = model.stat.extent, model.stat.center.copy()
    mujoco.mj_setConst(model, mujoco.MjData(model))
    # These only set a camera's clipping planes, which are part of the scene's looks.
    model.stat.extent, model.stat.center[:] = extent, centre
    return model


def _of_robot(model: mujoco.MjModel) -> np.ndarray:
    """Whether each body belongs to a tree that an actuator moves, bool [nbody]."""
    joints = model.actuator_trnid[model.actuator_trntype == int(mujoco.mjtTrn.mjTRN_JOINT), 0]
    roots = model.body_rootid[model.jnt_bodyid[joints]]
    return np.isin(model.body_rootid, roots)


def _scale_size(model: mujoco.MjModel, factor: float) -> None:
    """Scales all free bodies, and what is fixed to them, about their origins."""
    free = model.jnt_bodyid[model.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE)]
    bodies = np.flatnonzero(np.isin(model.body_rootid, free) & ~_of_robot(model))
    children = np.setdiff1d(bodies, free)
    geoms = np.flatnonzero(np.isin(model.geom_bodyid, bodies))
    real = geoms[model.geom_size[geoms].max(axis=1) > _SMALLEST] if len(geoms) else geoms
    sites = np.flatnonzero(np.isin(model.site_bodyid, bodies))
    joints = np.flatnonzero(np.isin(model.jnt_bodyid, bodies))
    for array, rows in (
        *((model.geom_size, real), (model.geom_rbound, real), (model.geom_aabb, real)),
        *((model.geom_pos, geoms), (model.site_pos, sites), (model.jnt_pos, joints)),
        *((model.body_pos, children), (model.body_ipos, bodies)),
        (model.bvh_aabb, _bounding_boxes(model, bodies)),
    ):
        array[rows] *= factor
    model.body_mass[bodies] *= factor**3
    model.body_inertia[bodies] *= factor**5


def _bounding_boxes(model: mujoco.MjModel, bodies: np.ndarray) -> np.ndarray:
    """Rows of bvh_aabb that bound the geoms of `bodies`."""
    starts, counts = model.body_bvhadr[bodies], model.body_bvhnum[bodies]
    rows = [np.arange(s, s + n) for s, n in zip(starts, counts, strict=True)]
    return np.concatenate([np.zeros(0, int), *rows])

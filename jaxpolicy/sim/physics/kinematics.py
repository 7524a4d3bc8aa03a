"""Where geoms and cameras are, from generalised positions alone, for one model or a pool.

Any tree of bodies with hinge, slide, ball and free joints, several to a body if need be,
and mocap bodies. What does not differ between the models of a pool is a constant of the
program; what does is looked up by the index of the variant.

Axis letters: K models of a pool.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

__all__ = ["Kinematics", "Tree"]

_HIGHEST = jax.lax.Precision.HIGHEST
_JOINT = mujoco.mjtJoint

Array = Any  # NumPy where it is constant, JAX where it depends on the variant


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


class _Frames(NamedTuple):
    """Where everything is in its parent's frame, float32."""

    body_pos: Array
    body_mat: Array
    joint_pos: Array
    joint_axis: Array
    geom_pos: Array
    geom_mat: Array
    cam_pos: Array
    cam_mat: Array


class _Pose(NamedTuple):
    position: Array  # [3]
    rotation: Array  # [3, 3]


class Tree:
    """The bodies of K models of one structure."""

    def __init__(self, models: Sequence[mujoco.MjModel]) -> None:
        """Collects what kinematics needs; `models` differ in numbers alone."""
        self._model = models[0]
        columns = zip(*(_frames(m) for m in models), strict=True)
        stacks = [np.stack(column) for column in columns]
        self._varies = [bool((s != s[0]).any()) for s in stacks]
        self._stacks = [s if v else s[0] for s, v in zip(stacks, self._varies, strict=True)]

    def poses(self, qpos: jax.Array, mocap_pos: jax.Array, variant: jax.Array) -> Kinematics:
        """Poses of all geoms and cameras.

        Args:
          qpos: generalised positions [nq].
          mocap_pos: positions of mocap bodies [nmocap, 3], m.
          variant: which model, int32 [].
        """
        model, frames = self._model, self._pick(variant)
        bodies = _body_poses(model, frames, qpos, mocap_pos)
        position = jnp.stack([b.position for b in bodies])
        rotation = jnp.stack([b.rotation for b in bodies])
        geoms = _attached(position, rotation, model.geom_bodyid, frames.geom_pos, frames.geom_mat)
        cams = _attached(position, rotation, model.cam_bodyid, frames.cam_pos, frames.cam_mat)
        return Kinematics(*geoms, *cams)

    def _pick(self, variant: jax.Array) -> _Frames:
        pairs = zip(self._stacks, self._varies, strict=True)
        return _Frames(*(jnp.asarray(s)[variant] if v else s for s, v in pairs))


def _frames(model: mujoco.MjModel) -> _Frames:
    columns = (
        model.body_pos,
        _matrices(model.body_quat),
        model.jnt_pos,
        model.jnt_axis,
        model.geom_pos,
        _matrices(model.geom_quat),
        model.cam_pos,
        _matrices(model.cam_quat),
    )
    return _Frames(*(c.astype(np.float32) for c in columns))


def _matrices(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions [N, 4] -> rotation matrices [N, 3, 3]."""
    result = np.zeros((len(quats), 9))
    for row, quat in zip(result, quats, strict=True):
        mujoco.mju_quat2Mat(row, quat)
    return result.reshape(-1, 3, 3)


def _attached(
    position: jax.Array, rotation: jax.Array, body: np.ndarray, pos: Array, mat: Array
) -> tuple[jax.Array, jax.Array]:
    """World poses of N things fixed to bodies, [N, 3] and [N, 3, 3]."""
    parents = rotation[body]
    moved = jnp.einsum("nij,nj->ni", parents, pos, precision=_HIGHEST)
    return position[body] + moved, jnp.matmul(parents, mat, precision=_HIGHEST)


def _body_poses(
    model: mujoco.MjModel, frames: _Frames, qpos: jax.Array, mocap_pos: jax.Array
) -> list[_Pose]:
    """World pose of every body, the world first."""
    poses = [_Pose(jnp.zeros(3), jnp.eye(3))]
    for i in range(1, model.nbody):
        mocap = model.body_mocapid[i]
        if mocap >= 0:
            poses.append(_Pose(mocap_pos[mocap], jnp.asarray(frames.body_mat[i])))
            continue
        local = _Pose(frames.body_pos[i], frames.body_mat[i])
        first, is_free = model.body_jntadr[i], False
        for joint in range(first, first + model.body_jntnum[i]):
            is_free = model.jnt_type[joint] == _JOINT.mjJNT_FREE
            local = _MOVES[model.jnt_type[joint]](model, frames, joint, local, qpos)
        poses.append(local if is_free else _compose(poses[model.body_parentid[i]], local))
    return poses


def _compose(parent: _Pose, local: _Pose) -> _Pose:
    """The world's pose of a child given in its parent's frame."""
    moved = jnp.matmul(parent.rotation, local.position, precision=_HIGHEST) + parent.position
    return _Pose(moved, jnp.matmul(parent.rotation, local.rotation, precision=_HIGHEST))


# How each type of joint moves a body: (model, frames, joint, pose, qpos) -> pose.


def _move_free(
    model: mujoco.MjModel, frames: _Frames, joint: int, pose: _Pose, qpos: jax.Array
) -> _Pose:
    at = model.jnt_qposadr[joint]
    return _Pose(qpos[at : at + 3], _rotation(qpos[at + 3 : at + 7]))


def _move_slide(
    model: mujoco.MjModel, frames: _Frames, joint: int, pose: _Pose, qpos: jax.Array
) -> _Pose:
    value = _displacement(model, joint, qpos)
    axis = pose.rotation @ frames.joint_axis[joint]
    return _Pose(pose.position + axis * value, pose.rotation)


def _move_hinge(
    model: mujoco.MjModel, frames: _Frames, joint: int, pose: _Pose, qpos: jax.Array
) -> _Pose:
    half = _displacement(model, joint, qpos) / 2
    turn = jnp.concatenate([jnp.cos(half)[None], jnp.sin(half) * frames.joint_axis[joint]])
    return _turned(model, frames, joint, pose, turn)


def _move_ball(
    model: mujoco.MjModel, frames: _Frames, joint: int, pose: _Pose, qpos: jax.Array
) -> _Pose:
    at = model.jnt_qposadr[joint]
    return _turned(model, frames, joint, pose, qpos[at : at + 4])


_MOVES: dict[int, Callable[..., _Pose]] = {
    int(_JOINT.mjJNT_FREE): _move_free,
    int(_JOINT.mjJNT_SLIDE): _move_slide,
    int(_JOINT.mjJNT_HINGE): _move_hinge,
    int(_JOINT.mjJNT_BALL): _move_ball,
}


def _displacement(model: mujoco.MjModel, joint: int, qpos: jax.Array) -> jax.Array:
    """How far a joint is from where the model was drawn, m or rad."""
    at = model.jnt_qposadr[joint]
    rest = np.float32(model.qpos0[at])
    return qpos[at] - rest if rest else qpos[at]


def _turned(
    model: mujoco.MjModel, frames: _Frames, joint: int, pose: _Pose, turn: jax.Array
) -> _Pose:
    """A body turned by a unit quaternion [4] about the joint's anchor."""
    rotation = jnp.matmul(pose.rotation, _rotation(turn), precision=_HIGHEST)
    if not model.jnt_pos[joint].any():
        return _Pose(pose.position, rotation)
    anchor = frames.joint_pos[joint]
    shift = jnp.matmul(pose.rotation - rotation, anchor, precision=_HIGHEST)
    return _Pose(pose.position + shift, rotation)


def _rotation(quat: jax.Array) -> jax.Array:
    """Unit quaternion [4] (w first) -> rotation matrix [3, 3]."""
    w, x, y, z = quat
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(r) for r in rows])

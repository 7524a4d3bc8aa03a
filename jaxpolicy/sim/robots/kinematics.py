"""Where an arm's tool is, and the joint angles that bring it somewhere, in JAX.

Frames: the base stands at the world's origin, x forwards, z up. The tool frame lies
between the finger tips, z out of the hand; at tool yaw 0 the hand points down, its x
axis along the world's x, and the fingers open along y.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy.sim.robots.description import Robot

__all__ = ["chain", "down_rotation", "forward", "inverse", "jacobian", "rotation_error", "yaw_of"]

_HIGHEST = jax.lax.Precision.HIGHEST


def chain(robot: Robot, joints: jax.Array) -> jax.Array:
    """Frames of all joints and of the tool in the base frame, [J] -> [J + 1, 4, 4].

    Written with the columns of rotations in place of matrix products, of which batches of
    small ones are slow on CPU. The barriers keep XLA from computing each frame anew for
    every use of the frames after it.
    """
    columns, position = list(jnp.eye(3)), jnp.zeros(3)
    frames = []
    for joint, cosine, sine in zip(robot.joints, jnp.cos(joints), jnp.sin(joints), strict=True):
        position = position + sum(c * o for c, o in zip(columns, joint.origin, strict=True))
        columns = _rolled(columns, joint.roll)
        columns = _turned(columns, cosine, sine)
        *columns, position = jax.lax.optimization_barrier((*columns, position))
        frames.append(_frame(columns, position))
    position = position + columns[2] * (robot.hand_offset + robot.tool_offset)
    columns = _turned(columns, math.cos(robot.hand_yaw), math.sin(robot.hand_yaw))
    return jnp.stack([*frames, _frame(columns, position)])


def _rolled(columns: list[jax.Array], roll: float) -> list[jax.Array]:
    """Columns of R Rx(roll), given those of R."""
    x, y, z = columns
    c, s = math.cos(roll), math.sin(roll)
    return [x, c * y + s * z, c * z - s * y]


def _turned(columns: list[jax.Array], cosine: Any, sine: Any) -> list[jax.Array]:
    """Columns of R Rz(angle), given those of R."""
    x, y, z = columns
    return [cosine * x + sine * y, cosine * y - sine * x, z]


def _frame(columns: list[jax.Array], position: jax.Array) -> jax.Array:
    """Homogeneous transform [4, 4]."""
    upper = jnp.stack([*columns, position], axis=1)
    return jnp.concatenate([upper, jnp.array([[0.0, 0.0, 0.0, 1.0]])])


def forward(robot: Robot, joints: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pose of the tool: joints [J] (rad) -> position [3] (m), rotation [3, 3]."""
    tool = chain(robot, joints)[-1]
    return tool[:3, 3], tool[:3, :3]


def jacobian(robot: Robot, joints: jax.Array) -> jax.Array:
    """Geometric Jacobian of the tool in the base frame: linear over angular, [6, J]."""
    return _jacobian_of(chain(robot, joints))


def _jacobian_of(frames: jax.Array) -> jax.Array:
    axes, origins = frames[:-1, :3, 2], frames[:-1, :3, 3]
    linear = jnp.cross(axes, frames[-1, :3, 3] - origins)
    return jnp.concatenate([linear, axes], axis=1).T


def rotation_error(target: jax.Array, current: jax.Array) -> jax.Array:
    """Small rotation vector [3] (rad) that turns `current` [3, 3] towards `target`."""
    return 0.5 * jnp.sum(jnp.cross(current, target, axisa=0, axisb=0, axisc=0), axis=1)


def inverse(
    robot: Robot,
    joints: jax.Array,
    position: jax.Array,
    rotation: jax.Array,
    iterations: int = 3,
    damping: float = 0.02,
) -> jax.Array:
    """Joints near `joints` that bring the tool to a pose: damped least squares.

    dq = J^T (J J^T + damping^2 I)^-1 e, within the joint limits, `iterations` times.

    Args:
      robot: whose kinematics.
      joints: where to start, [J] rad.
      position, rotation: wanted pose of the tool, [3] m and [3, 3].
      iterations: number of Newton-like steps.
      damping: regularisation, larger is slower and calmer near singularities.
    """
    refine = functools.partial(_refine, robot, position, rotation, damping)
    return jax.lax.fori_loop(0, iterations, refine, jnp.asarray(joints, jnp.float32))


def _refine(
    robot: Robot,
    position: jax.Array,
    rotation: jax.Array,
    damping: float,
    _: jax.Array,
    joints: jax.Array,
) -> jax.Array:
    """One step of `inverse`."""
    frames = chain(robot, joints)
    jac = _jacobian_of(frames)
    turn = rotation_error(rotation, frames[-1, :3, :3])
    error = jnp.concatenate([position - frames[-1, :3, 3], turn])
    gram = jnp.matmul(jac, jac.T, precision=_HIGHEST) + damping**2 * jnp.eye(6)
    step = jnp.matmul(jac.T, jnp.linalg.solve(gram, error), precision=_HIGHEST)
    return jnp.clip(joints + step, robot.lower, robot.upper)


def down_rotation(yaw: jax.Array) -> jax.Array:
    """Rotation [3, 3] of a tool that points down with its x axis at `yaw` [] (rad)."""
    c, s, zero = jnp.cos(yaw), jnp.sin(yaw), jnp.zeros_like(yaw)
    rows = [[c, s, zero], [s, -c, zero], [zero, zero, -jnp.ones_like(yaw)]]
    return jnp.stack([jnp.stack(r) for r in rows])


def yaw_of(rotation: jax.Array) -> jax.Array:
    """Angle [] (rad) of a rotation's x axis about the world's z."""
    return jnp.arctan2(rotation[1, 0], rotation[0, 0])

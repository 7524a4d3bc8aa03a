"""What tasks with an object to grasp share: where it may lie, and facts about it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.sim.physics import engines, objects, things
from jaxpolicy.sim.tasks import base

__all__ = [
    "OBJECT_LAYOUT",
    "PLACING_SCALES",
    "ROBOT_LAYOUT",
    "is_grasped",
    "object_facts",
    "place",
    "placing",
    "pose",
    "reaching",
    "resting",
    "shape_facts",
    "solids",
    "within",
    "yaw_of",
]

GRASP_DISTANCE = 0.025  # largest distance between tool and object's centre in a grasp, m
GRASP_WIDTH = 0.01  # smallest opening of a gripper that holds something, m

# Parts of the privileged observation: fact -> (size, unit).
ROBOT_LAYOUT: dict[str, tuple[int, str]] = {
    "tool": (3, "m"),
    "tool_direction": (2, "1"),
    "width": (1, "m"),
    "touch": (2, "1"),
}
OBJECT_LAYOUT: dict[str, tuple[int, str]] = {
    "grasped": (1, "1"),
    "object": (3, "m"),
    "to_object": (3, "m"),
    "object_yaw": (2, "1"),
    "turn": (1, "rad"),
    "object_velocity": (3, "m/s"),
}
# Weights of the terms of `placing`, of success and of effort.
PLACING_SCALES: dict[str, float] = {
    "reach": 0.2,
    "grasp": 0.2,
    "carry": 0.6,
    "placed": 1.0,
    "success": 0.5,
    "action": -0.005,
}


def solids(name: str, shapes: Sequence[objects.Shape]) -> list[things.Solid]:
    """One object in each of several shapes, all of one structure."""
    filled = objects.slots(shapes)
    return [
        things.Solid(name, parts, height=shape.rest)
        for parts, shape in zip(filled, shapes, strict=True)
    ]


def is_grasped(touch: jax.Array, to_object: jax.Array, width: jax.Array) -> jax.Array:
    """Whether an object is in the gripper, bool [].

    Args:
      touch: 1 for each pad that presses on something, [2].
      to_object: from the tool to the object's centre, [3] m.
      width: opening of the gripper, [1] m.
    """
    near = jnp.linalg.norm(to_object) < GRASP_DISTANCE
    return jnp.all(touch > 0.5) & near & (width[0] > GRASP_WIDTH)


def within(key: jax.Array, lower: Sequence[float], upper: Sequence[float]) -> jax.Array:
    """A point [n] anywhere in a box of n sides."""
    low, high = np.array(lower, np.float32), np.array(upper, np.float32)
    return jax.random.uniform(key, low.shape, minval=low, maxval=high)


def place(
    key: jax.Array, lower: Sequence[float], upper: Sequence[float], height: jax.typing.ArrayLike
) -> jax.Array:
    """Pose [7] of an object on the table: anywhere in the box (m), at any yaw."""
    key_place, key_turn = jax.random.split(key)
    xy = within(key_place, lower, upper)
    yaw = jax.random.uniform(key_turn, (), minval=-jnp.pi, maxval=jnp.pi)
    return resting(xy, yaw, height)


def resting(xy: jax.Array, yaw: jax.Array, height: jax.typing.ArrayLike) -> jax.Array:
    """Pose [7] of an object whose origin is at xy [2] and height [] (m), turned by yaw []."""
    zero = jnp.zeros(2)
    quat = jnp.concatenate([jnp.cos(yaw / 2)[None], zero, jnp.sin(yaw / 2)[None]])
    return jnp.concatenate([xy, jnp.asarray(height, jnp.float32)[None], quat])


def pose(state: engines.PhysicsState, at: int) -> tuple[jax.Array, jax.Array]:
    """Position [3] and quaternion [4] of the free joint at qpos address `at`."""
    return state.qpos[at : at + 3], state.qpos[at + 3 : at + 7]


def yaw_of(quat: jax.Array) -> jax.Array:
    """Rotation about z [] (rad) of a unit quaternion [4]."""
    w, x, y, z = quat
    return jnp.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def object_facts(
    robot: base.Facts, position: jax.Array, quat: jax.Array, velocity: jax.Array, folds: jax.Array
) -> base.Facts:
    """Facts of the object to grasp, keys as in OBJECT_LAYOUT.

    `object_yaw` is sine and cosine of `folds` times the object's yaw relative to the
    tool's: equal for all ways to grasp it; `turn` is the rotation to the nearest of them.

    Args:
      robot: facts of the robot.
      position, quat, velocity: of the object, [3] m, [4], [3] m/s.
      folds: see `objects.Shape`, float32 [].
    """
    to_object = position - robot["tool"]
    angle = folds * (yaw_of(quat) - jnp.arctan2(*robot["tool_direction"]))
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    grasped = is_grasped(robot["touch"], to_object, robot["width"])
    return {
        "grasped": grasped.astype(jnp.float32)[None],
        "object": position,
        "to_object": to_object,
        "object_yaw": jnp.stack([sine, cosine]),
        "turn": (jnp.arctan2(sine, cosine) / jnp.maximum(folds, 1.0))[None],
        "object_velocity": velocity,
    }


def reaching(offset: jax.Array, has: jax.Array) -> jax.Array:
    """Reward [] for nearness: 1 - tanh(5 |offset [3] m|), and 1 while the gripper `has` it."""
    return jnp.where(has > 0.5, 1.0, 1.0 - jnp.tanh(5.0 * jnp.linalg.norm(offset)))


def placing(facts: base.Facts, to_place: jax.Array) -> dict[str, jax.Array]:
    """Reward terms of tasks that carry an object to a place.

    Args:
      facts: of the object, and `placed` [1].
      to_place: what is left of the way, [n] m.
    """
    placed = facts["placed"][0]
    has = jnp.maximum(facts["grasped"][0], placed)
    return {
        "reach": reaching(facts["to_object"], has),
        "grasp": has,
        "carry": has * (1.0 - jnp.tanh(5.0 * jnp.linalg.norm(to_place))),
        "placed": placed,
    }


def shape_facts(
    env: base.ManipulationEnv, state: engines.PhysicsState, robot: base.Facts
) -> base.Facts:
    """`object_facts` of the first object of a scene, and `rise` [1]: off the table by, m."""
    n = env.arm.n_joints + 2
    position, quat = pose(state, n)
    folds = env.shape_values([s.folds for s in env.shapes], state.variant)
    facts = object_facts(robot, position, quat, state.qvel[n : n + 3], folds)
    return facts | {"rise": (position[2] - env.resting_height(state.variant))[None]}

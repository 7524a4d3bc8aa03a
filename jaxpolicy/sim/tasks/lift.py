"""Lift: grasp a cube that lies anywhere at any angle, lift it and hold it.

Success asks for the cube to be in the gripper (both pads press on it, it is between
them), because height alone would also reward a cube that was thrown.
"""

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.sim import experts, physics, robots, scene
from jaxpolicy.sim.tasks import base

__all__ = ["Lift", "is_grasped"]

CUBE = scene.Cube("cube", side=0.04, mass=0.06)
LOWER, UPPER = (0.4, -0.1), (0.6, 0.1)  # where the cube appears, m
LIFT_HEIGHT = 0.05  # how far above its place on the table the cube must be, m
TARGET_HEIGHT = 0.12  # where the expert carries the cube's centre, m
GRASP_DISTANCE = 0.025  # largest distance between tool and cube centre in a grasp, m
GRASP_WIDTH = 0.01  # smallest opening of a gripper that holds something, m


def is_grasped(touch: jax.Array, to_object: jax.Array, width: jax.Array) -> jax.Array:
    """Whether an object is in the gripper, bool [].

    Args:
      touch: 1 for each pad that presses on something, [2].
      to_object: from the tool to the object's centre, [3] m.
      width: opening of the gripper, [1] m.
    """
    near = jnp.linalg.norm(to_object) < GRASP_DISTANCE
    return jnp.all(touch > 0.5) & near & (width[0] > GRASP_WIDTH)


class Lift(base.ManipulationEnv):
    """The cube in the gripper and 5 cm above the table, for five control steps."""

    instruction: ClassVar[str] = "pick up the red cube"
    reward_scales: ClassVar[Mapping[str, float]] = {
        "reach": 0.2,
        "grasp": 0.2,
        "lift": 1.0,
        "success": 0.2,
        "action": -0.005,
    }

    def build_scene(self, robot: robots.Robot) -> scene.Scene:
        """The robot and one cube."""
        return scene.build(robot, cubes=(CUBE,))

    def start(self, key: jax.Array) -> physics.PhysicsState:
        """The robot at rest, the cube on the table at any place and any yaw."""
        place, turn = jax.random.split(key)
        xy = jax.random.uniform(place, (2,), minval=np.array(LOWER), maxval=np.array(UPPER))
        yaw = jax.random.uniform(turn, (), minval=-jnp.pi, maxval=jnp.pi)
        height, zero = jnp.full(1, CUBE.side / 2), jnp.zeros(2)
        quat = jnp.concatenate([jnp.cos(yaw / 2)[None], zero, jnp.sin(yaw / 2)[None]])
        robot = jnp.asarray(self.scene.home[: self.arm.n_joints + 2])
        return self.physics.init(jnp.concatenate([robot, xy, height, quat]))

    def task_facts(self, state: physics.PhysicsState, robot: base.Facts) -> base.Facts:
        """`cube`, `to_cube`, `cube_velocity` [3], `cube_yaw` [2], `grasped` [1], `to_goal` [1].

        `cube_yaw` is sine and cosine of four times the cube's yaw relative to the
        tool's: equal for the four ways to grasp it.
        """
        n = self.arm.n_joints + 2
        cube, quat = state.qpos[n : n + 3], state.qpos[n + 3 : n + 7]
        to_cube = cube - robot["tool"]
        angle = 4.0 * (_yaw(quat) - jnp.arctan2(*robot["tool_direction"]))
        grasped = is_grasped(robot["touch"], to_cube, robot["width"])
        return {
            "cube": cube,
            "to_cube": to_cube,
            "cube_yaw": jnp.stack([jnp.sin(angle), jnp.cos(angle)]),
            "cube_velocity": state.qvel[n : n + 3],
            "grasped": grasped.astype(jnp.float32)[None],
            "to_goal": (TARGET_HEIGHT - cube[2])[None],
        }

    def reward_terms(self, facts: base.Facts, action: jax.Array) -> dict[str, jax.Array]:
        """Nearness, grasp, height while grasped (0 to 1) and effort."""
        grasped = facts["grasped"][0]
        distance = jnp.linalg.norm(facts["to_cube"])
        height = facts["cube"][2] - CUBE.side / 2
        return {
            "reach": jnp.where(grasped > 0.5, 1.0, 1.0 - jnp.tanh(5.0 * distance)),
            "grasp": grasped,
            "lift": grasped * jnp.clip(height / (TARGET_HEIGHT - CUBE.side / 2), 0.0, 1.0),
            "action": self.effort(action),
        }

    def goal(self, facts: base.Facts) -> jax.Array:
        """The cube is in the gripper and off the table."""
        lifted = facts["cube"][2] > CUBE.side / 2 + LIFT_HEIGHT
        return (facts["grasped"][0] > 0.5) & lifted

    def expert(self, privileged: jax.Array) -> jax.Array:
        """See `experts.lift`."""
        facts = self.split_privileged(privileged)
        return self.encode_action(facts, experts.lift(facts, self.limits))

    @property
    def privileged_layout(self) -> Mapping[str, tuple[int, str]]:
        """See ManipulationEnv."""
        return {
            "joints": (self.arm.n_joints, "rad"),
            "tool": (3, "m"),
            "tool_direction": (2, "1"),
            "width": (1, "m"),
            "touch": (2, "1"),
            "grasped": (1, "1"),
            "cube": (3, "m"),
            "to_cube": (3, "m"),
            "cube_yaw": (2, "1"),
            "cube_velocity": (3, "m/s"),
            "to_goal": (1, "m"),
        }


def _yaw(quat: jax.Array) -> jax.Array:
    """Rotation about z [] (rad) of a unit quaternion [4]."""
    w, x, y, z = quat
    return jnp.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))

"""Lift: grasp an object that lies anywhere at any angle, lift it and hold it.

Success asks for the object to be in the gripper (both pads press on it, it is between
them), because height alone would also reward one that was thrown.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxpolicy.sim import experts
from jaxpolicy.sim.physics import engines, objects
from jaxpolicy.sim.physics.things import Thing
from jaxpolicy.sim.tasks import base, grasping

__all__ = ["Lift"]

LOWER, UPPER = (0.4, -0.1), (0.6, 0.1)  # where the object appears, m
LIFT_HEIGHT = 0.05  # how far above its place on the table the object must be, m
TARGET_RISE = 0.1  # how far above it the expert carries the object, m


class Lift(base.ManipulationEnv):
    """The object in the gripper and 5 cm above the table, held."""

    instructions: ClassVar[tuple[str, ...]] = ("pick up the red cube",)
    default_shapes: ClassVar[tuple[objects.Shape, ...]] = (objects.CUBE,)
    start_ranges: ClassVar[Mapping[str, base.Range]] = {"object": (LOWER, UPPER)}
    layout: ClassVar[Mapping[str, tuple[int, str]]] = {
        **grasping.ROBOT_LAYOUT,
        **grasping.OBJECT_LAYOUT,
        "to_goal": (1, "m"),
    }
    reward_scales: ClassVar[Mapping[str, float]] = {
        "reach": 0.2,
        "grasp": 0.2,
        "lift": 1.0,
        "success": 0.2,
        "action": -0.005,
    }

    def things(self) -> Sequence[Sequence[Thing]]:
        """One object."""
        return [(solid,) for solid in grasping.solids("cube", self.shapes)]

    def start(self, key: jax.Array, variant: jax.Array) -> engines.PhysicsState:
        """The robot at rest, the object on the table at any place and any yaw."""
        height = self.resting_height(variant)
        pose = grasping.place(key, LOWER, UPPER, height)
        return self.physics.init(jnp.concatenate([self.robot_at_home(), pose]), variant=variant)

    def task_facts(self, state: engines.PhysicsState, robot: base.Facts) -> base.Facts:
        """Facts of the object, and `to_goal` [1]: how far it must still be lifted, m."""
        facts = grasping.shape_facts(self, state, robot)
        return facts | {"to_goal": TARGET_RISE - facts["rise"]}

    def reward_terms(self, facts: base.Facts, action: jax.Array) -> dict[str, jax.Array]:
        """Nearness, grasp, height while grasped (0 to 1) and effort."""
        grasped = facts["grasped"][0]
        return {
            "reach": grasping.reaching(facts["to_object"], grasped),
            "grasp": grasped,
            "lift": grasped * jnp.clip(1.0 - facts["to_goal"][0] / TARGET_RISE, 0.0, 1.0),
            "action": self.effort(action),
        }

    def goal(self, facts: base.Facts) -> jax.Array:
        """The object is in the gripper and off the table."""
        lifted = facts["to_goal"][0] < TARGET_RISE - LIFT_HEIGHT
        return (facts["grasped"][0] > 0.5) & lifted

    def script(self, facts: base.Facts) -> jax.Array:
        """See `experts.lift`."""
        return experts.lift(facts, self.limits)

"""Reach: bring the tool to a marker in the air and stay there."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxpolicy.sim import experts
from jaxpolicy.sim.physics import engines
from jaxpolicy.sim.physics.things import Marker, Thing
from jaxpolicy.sim.tasks import base, grasping

__all__ = ["Reach"]

LOWER, UPPER = (0.4, -0.15, 0.05), (0.6, 0.15, 0.3)  # where markers appear, m
TOLERANCE = 0.02  # m


class Reach(base.ManipulationEnv):
    """The tool within 2 cm of the marker, for five control steps."""

    instructions: ClassVar[tuple[str, ...]] = ("move the gripper to the green marker",)
    start_ranges: ClassVar[Mapping[str, base.Range]] = {"target": (LOWER, UPPER)}
    layout: ClassVar[Mapping[str, tuple[int, str]]] = {
        "tool": (3, "m"),
        "tool_direction": (2, "1"),
        "width": (1, "m"),
        "target": (3, "m"),
        "to_target": (3, "m"),
    }
    reward_scales: ClassVar[Mapping[str, float]] = {
        "distance": 1.0,
        "success": 1.0,
        "action": -0.005,
    }

    def things(self) -> Sequence[Sequence[Thing]]:
        """A marker."""
        return [(Marker("target"),)]

    def start(self, key: jax.Array, variant: jax.Array) -> engines.PhysicsState:
        """The robot at rest, the marker anywhere in its box."""
        target = grasping.within(key, LOWER, UPPER)[None]
        return self.physics.init(self.scene.home, mocap_pos=target, variant=variant)

    def task_facts(self, state: engines.PhysicsState, robot: base.Facts) -> base.Facts:
        """`target` and `to_target` [3] (m)."""
        target = state.mocap_pos[0]
        return {"target": target, "to_target": target - robot["tool"]}

    def reward_terms(self, facts: base.Facts, action: jax.Array) -> dict[str, jax.Array]:
        """Nearness in [0, 1] and the square of the clipped, scaled action."""
        distance = jnp.linalg.norm(facts["to_target"])
        return {
            "distance": 1.0 - jnp.tanh(5.0 * distance),
            "action": self.effort(action),
        }

    def goal(self, facts: base.Facts) -> jax.Array:
        """The tool is at the marker."""
        return jnp.linalg.norm(facts["to_target"]) < TOLERANCE

    def script(self, facts: base.Facts) -> jax.Array:
        """See `experts.reach`."""
        return experts.reach(facts, self.limits)

"""Push: slide an object over the table onto a marker."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.sim import experts
from jaxpolicy.sim.physics import engines, objects
from jaxpolicy.sim.physics.things import Marker, Thing
from jaxpolicy.sim.tasks import base, grasping

__all__ = ["Push"]

LOWER, UPPER = (0.42, -0.12), (0.58, 0.12)  # where the object appears, m
NEAREST, FARTHEST = 0.08, 0.16  # distance of the marker from it, m
TARGET_LOWER, TARGET_UPPER = (0.4, -0.16), (0.6, 0.16)  # where the marker may be, m
TOLERANCE = 0.025  # m
ON_TABLE = 0.01  # how far the object may rise and still be pushed, not carried, m


class Push(base.ManipulationEnv):
    """The object on the table within 2.5 cm of the marker, held."""

    instructions: ClassVar[tuple[str, ...]] = ("push the red cube onto the green marker",)
    default_shapes: ClassVar[tuple[objects.Shape, ...]] = (objects.CUBE,)
    default_seconds: ClassVar[float] = 5.0
    start_ranges: ClassVar[Mapping[str, base.Range]] = {"object": (LOWER, UPPER)}
    layout: ClassVar[Mapping[str, tuple[int, str]]] = {
        **grasping.ROBOT_LAYOUT,
        **grasping.OBJECT_LAYOUT,
        "to_target": (3, "m"),
    }
    # A tool that stays about the object moves it wherever it goes: the first thing to learn.
    reward_scales: ClassVar[Mapping[str, float]] = {
        "reach": 1.0,
        "distance": 1.0,
        "success": 1.0,
        "action": -0.005,
    }

    def things(self) -> Sequence[Sequence[Thing]]:
        """One object and a flat marker."""
        marker = Marker("target", "cylinder", (0.025, 0.0005))
        return [(solid, marker) for solid in grasping.solids("cube", self.shapes)]

    def start(self, key: jax.Array, variant: jax.Array) -> engines.PhysicsState:
        """The object anywhere at any yaw, the marker around it."""
        key_object, key_angle, key_distance = jax.random.split(key, 3)
        pose = grasping.place(key_object, LOWER, UPPER, self.resting_height(variant))
        angle = jax.random.uniform(key_angle, (), minval=-jnp.pi, maxval=jnp.pi)
        distance = jax.random.uniform(key_distance, (), minval=NEAREST, maxval=FARTHEST)
        target = _inside(pose[:2], distance, angle)
        return self.physics.init(
            jnp.concatenate([self.robot_at_home(), pose]),
            mocap_pos=jnp.append(target, 0.0005)[None],
            variant=variant,
        )

    def task_facts(self, state: engines.PhysicsState, robot: base.Facts) -> base.Facts:
        """Facts of the object, and `to_target` [3]: from it to the marker, m."""
        facts = grasping.shape_facts(self, state, robot)
        sideways = state.mocap_pos[0, :2] - facts["object"][:2]
        return facts | {"to_target": jnp.concatenate([sideways, -facts["rise"]])}

    def reward_terms(self, facts: base.Facts, action: jax.Array) -> dict[str, jax.Array]:
        """Nearness of tool to object and of object to marker in [0, 1], and effort."""
        reach = jnp.linalg.norm(facts["to_object"])
        distance = jnp.linalg.norm(facts["to_target"])
        return {
            "reach": 1.0 - jnp.tanh(5.0 * reach),
            "distance": 1.0 - jnp.tanh(10.0 * distance),
            "action": self.effort(action),
        }

    def goal(self, facts: base.Facts) -> jax.Array:
        """The object lies at the marker."""
        near = jnp.linalg.norm(facts["to_target"][:2]) < TOLERANCE
        return near & (-facts["to_target"][2] < ON_TABLE)

    def script(self, facts: base.Facts) -> jax.Array:
        """See `experts.push`."""
        return experts.push(facts, self.limits)


def _inside(start: jax.Array, distance: jax.Array, angle: jax.Array) -> jax.Array:
    """A point [2] at `distance` from `start`, at `angle` or the first turn that is inside."""
    angles = angle + np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False, dtype=np.float32)
    points = start + distance * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    low, high = np.array(TARGET_LOWER, np.float32), np.array(TARGET_UPPER, np.float32)
    inside = ((points >= low) & (points <= high)).all(axis=1)
    return points[jnp.argmax(inside)]

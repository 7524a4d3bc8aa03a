"""Pick and place: take an object from the table, put it into a bin and let go."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxpolicy.sim import experts
from jaxpolicy.sim.physics import engines, objects
from jaxpolicy.sim.physics.things import Fixture, Thing
from jaxpolicy.sim.tasks import base, grasping

__all__ = ["PickPlace"]

LOWER, UPPER = (0.42, -0.16), (0.6, 0.0)  # where the object appears, m
BIN_LOWER, BIN_UPPER = (0.44, 0.15), (0.56, 0.18)  # where the bin's middle is, m
INNER = 0.062  # half-width of the bin inside, m
WALL = 0.016  # radius of the round walls, m
LOW = 0.02  # how high above its rest the object may be in the bin, m
SLOW = 0.05  # m/s

_QUARTER = 0.7071067811865476
_WALLS = tuple(
    objects.Part(
        "capsule",
        (WALL, INNER + WALL),
        pos=(x * (INNER + WALL), y * (INNER + WALL), WALL),
        # A capsule's axis is z: turned about y it lies along x, about x along y.
        quat=(_QUARTER, 0.0, _QUARTER, 0.0) if y else (_QUARTER, _QUARTER, 0.0, 0.0),
    )
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))
)


class PickPlace(base.ManipulationEnv):
    """The object at rest in the bin, out of the gripper, held."""

    instructions: ClassVar[tuple[str, ...]] = ("put the red cube into the blue bin",)
    default_shapes: ClassVar[tuple[objects.Shape, ...]] = (objects.CUBE,)
    default_seconds: ClassVar[float] = 5.0
    start_ranges: ClassVar[Mapping[str, base.Range]] = {
        "object": (LOWER, UPPER),
        "bin": (BIN_LOWER, BIN_UPPER),
    }
    layout: ClassVar[Mapping[str, tuple[int, str]]] = {
        **grasping.ROBOT_LAYOUT,
        **grasping.OBJECT_LAYOUT,
        "bin": (3, "m"),
        "to_bin": (3, "m"),
        "rise": (1, "m"),
        "placed": (1, "1"),
    }
    reward_scales: ClassVar[Mapping[str, float]] = grasping.PLACING_SCALES

    def things(self) -> Sequence[Sequence[Thing]]:
        """One object, and a bin with round walls and the table as its floor."""
        box = Fixture("bin", _WALLS, "bin")
        return [(solid, box) for solid in grasping.solids("cube", self.shapes)]

    def start(self, key: jax.Array, variant: jax.Array) -> engines.PhysicsState:
        """The object on the right at any yaw, the bin on the left."""
        key_object, key_bin = jax.random.split(key)
        pose = grasping.place(key_object, LOWER, UPPER, self.resting_height(variant))
        middle = grasping.within(key_bin, BIN_LOWER, BIN_UPPER)
        return self.physics.init(
            jnp.concatenate([self.robot_at_home(), pose]),
            mocap_pos=jnp.append(middle, 0.0)[None],
            variant=variant,
        )

    def task_facts(self, state: engines.PhysicsState, robot: base.Facts) -> base.Facts:
        """Facts of the object, `bin`, `to_bin` [3] (m) and `placed` [1]: it is inside, low."""
        facts = grasping.shape_facts(self, state, robot)
        middle = state.mocap_pos[0]
        to_bin = middle - facts["object"]
        inside = jnp.max(jnp.abs(to_bin[:2])) < INNER
        # From the height at which it is let go on, it only has to fall.
        low = facts["rise"][0] < experts.RELEASE
        placed = inside & low & (jnp.max(robot["touch"]) < 0.5)
        return facts | {"bin": middle, "to_bin": to_bin, "placed": placed.astype(jnp.float32)[None]}

    def reward_terms(self, facts: base.Facts, action: jax.Array) -> dict[str, jax.Array]:
        """Nearness, grasp, nearness of the carried object to the bin, effort."""
        return grasping.placing(facts, facts["to_bin"][:2]) | {"action": self.effort(action)}

    def goal(self, facts: base.Facts) -> jax.Array:
        """The object lies in the bin, out of the gripper."""
        slow = jnp.linalg.norm(facts["object_velocity"]) < SLOW
        return (facts["placed"][0] > 0.5) & (facts["rise"][0] < LOW) & slow

    def script(self, facts: base.Facts) -> jax.Array:
        """See `experts.pick_place`."""
        return experts.pick_place(facts, self.limits)

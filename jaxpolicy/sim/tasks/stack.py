"""Stack: put the red cube onto the green one and let go."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxpolicy.sim import experts
from jaxpolicy.sim.physics import engines, objects
from jaxpolicy.sim.physics.things import Solid, Thing
from jaxpolicy.sim.tasks import base, grasping

__all__ = ["Stack"]

LOWER, UPPER = (0.42, -0.14), (0.58, 0.14)  # where cubes appear, m
APART = 0.1  # least distance between them: room for the fingers, m
SIDE = 2.0 * objects.CUBE.rest  # m
OFFSET, HEIGHT = 0.02, 0.006  # how far from its place above the other the cube may be, m
SLOW = 0.05  # m/s


class Stack(base.ManipulationEnv):
    """The red cube at rest on the green one, out of the gripper, held."""

    instructions: ClassVar[tuple[str, ...]] = ("stack the red cube on the green cube",)
    default_seconds: ClassVar[float] = 5.0
    start_ranges: ClassVar[Mapping[str, base.Range]] = {
        "object": (LOWER, UPPER),
        "support": (LOWER, UPPER),
    }
    layout: ClassVar[Mapping[str, tuple[int, str]]] = {
        **grasping.ROBOT_LAYOUT,
        **grasping.OBJECT_LAYOUT,
        "support": (3, "m"),
        "to_place": (3, "m"),
        "placed": (1, "1"),
    }
    reward_scales: ClassVar[Mapping[str, float]] = grasping.PLACING_SCALES

    def things(self) -> Sequence[Sequence[Thing]]:
        """Two cubes that meet each other."""
        red = Solid("cube", stackable=True)
        green = Solid("support", colour="green", stackable=True, place=(0.5, 0.12))
        return [(red, green)]

    def start(self, key: jax.Array, variant: jax.Array) -> engines.PhysicsState:
        """Both cubes on the table at any yaw, apart."""
        key_first, key_second, key_turn = jax.random.split(key, 3)
        first = grasping.place(key_first, LOWER, UPPER, SIDE / 2)
        second = _apart(key_second, key_turn, first)
        return self.physics.init(
            jnp.concatenate([self.robot_at_home(), first, second]), variant=variant
        )

    def task_facts(self, state: engines.PhysicsState, robot: base.Facts) -> base.Facts:
        """Facts of the red cube, `support` [3], `to_place` [3] (m), `placed` [1]."""
        n = self.arm.n_joints + 2
        position, quat = grasping.pose(state, n)
        support, _ = grasping.pose(state, n + 7)
        facts = grasping.object_facts(
            robot, position, quat, state.qvel[n : n + 3], jnp.full((), 4.0)
        )
        side = SIDE * self.randomizer.object_scale(state.variant)
        to_place = support + side * jnp.array([0.0, 0.0, 1.0]) - position
        near = jnp.linalg.norm(to_place[:2]) < OFFSET
        placed = near & (jnp.abs(to_place[2]) < HEIGHT) & (jnp.max(robot["touch"]) < 0.5)
        return facts | {
            "support": support,
            "to_place": to_place,
            "placed": placed.astype(jnp.float32)[None],
        }

    def objects_of(self, facts: base.Facts) -> jax.Array:
        """Both cubes."""
        return jnp.stack([facts["object"], facts["support"]])

    def wanted(self, state: engines.PhysicsState) -> jax.Array:
        """The red one."""
        return jnp.zeros(())

    def reward_terms(self, facts: base.Facts, action: jax.Array) -> dict[str, jax.Array]:
        """Nearness, grasp, nearness of the carried cube to its place, effort."""
        return grasping.placing(facts, facts["to_place"]) | {"action": self.effort(action)}

    def goal(self, facts: base.Facts) -> jax.Array:
        """The red cube rests on the green one, out of the gripper."""
        slow = jnp.linalg.norm(facts["object_velocity"]) < SLOW
        return (facts["placed"][0] > 0.5) & slow

    def script(self, facts: base.Facts) -> jax.Array:
        """See `experts.stack`."""
        return experts.stack(facts, self.limits)


def _apart(key: jax.Array, key_turn: jax.Array, other: jax.Array) -> jax.Array:
    """A pose [7] at least APART from `other` [7]: the first of 16 that is, or the farthest."""
    tries = jax.vmap(lambda k: grasping.place(k, LOWER, UPPER, SIDE / 2))(jax.random.split(key, 16))
    distance = jnp.linalg.norm(tries[:, :2] - other[:2], axis=1)
    chosen = jnp.where((distance > APART).any(), jnp.argmax(distance > APART), jnp.argmax(distance))
    yaw = jax.random.uniform(key_turn, (), minval=-jnp.pi, maxval=jnp.pi)
    return grasping.resting(tries[chosen, :2], yaw, SIDE / 2)

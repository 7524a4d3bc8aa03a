"""Detour: bring the tool to a marker behind a post, round it on either side.

The tool may not rise above the post, and the hand is wider than the gap that drifting
to one side would leave: it must decide. The expert passes left or right as a coin says
that only it sees, wherever the tool starts, so its demonstrations are bimodal. Running
into the post is real contact, and spoils the episode.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxpolicy.sim import experts, robots
from jaxpolicy.sim.physics import engines, objects
from jaxpolicy.sim.physics.things import Fixture, Marker, Thing
from jaxpolicy.sim.tasks import base, grasping

__all__ = ["Detour"]

START_LOWER, START_UPPER = (0.32, -0.05, 0.06), (0.32, 0.05, 0.06)  # where the tool starts, m
POST_LOWER, POST_UPPER = (0.485, -0.02), (0.495, 0.02)  # where the post stands, m
POST_RADIUS, POST_HEIGHT = 0.03, 0.16  # m
LOWER, UPPER = (0.6, -0.05, 0.05), (0.64, 0.05, 0.08)  # where markers appear, m
TOLERANCE = 0.02  # m


class Detour(base.ManipulationEnv):
    """The tool within 2 cm of the marker, held, and the post never hit."""

    instructions: ClassVar[tuple[str, ...]] = ("move the gripper round the post to the marker",)
    default_seconds: ClassVar[float] = 4.0
    start_ranges: ClassVar[Mapping[str, base.Range]] = {
        "post": (POST_LOWER, POST_UPPER),
        "target": (LOWER, UPPER),
        "side": ((-1.0,), (1.0,)),
    }
    tool_box: ClassVar[Mapping[str, tuple[float, float, float]]] = {"upper": (0.68, 0.25, 0.1)}
    layout: ClassVar[Mapping[str, tuple[int, str]]] = {
        "tool": (3, "m"),
        "tool_direction": (2, "1"),
        "width": (1, "m"),
        "collision": (1, "N"),
        "post": (2, "m"),
        "target": (3, "m"),
        "to_target": (3, "m"),
        "side": (1, "1"),
    }
    reward_scales: ClassVar[Mapping[str, float]] = {
        "distance": 1.0,
        "collision": -0.5,
        "success": 1.0,
        "action": -0.005,
    }

    def things(self) -> Sequence[Sequence[Thing]]:
        """A post that stands in the way, and a marker."""
        half = POST_HEIGHT / 2
        part = objects.Part(
            "capsule", (POST_RADIUS, half), (0.0, 0.0, POST_HEIGHT - POST_RADIUS - half)
        )
        return [(Fixture("post", (part,), "post"), Marker("target"))]

    def start(self, key: jax.Array, variant: jax.Array) -> engines.PhysicsState:
        """The tool low before the post, the marker behind it, a coin for the expert."""
        key_post, key_target, key_side, key_tool = jax.random.split(key, 4)
        post = grasping.within(key_post, POST_LOWER, POST_UPPER)
        target = grasping.within(key_target, LOWER, UPPER)
        side = jnp.where(jax.random.bernoulli(key_side), 1.0, -1.0)
        fingers = jnp.asarray(self.scene.home[self.arm.n_joints :])
        state = self.physics.init(
            jnp.concatenate([self._start_joints(key_tool), fingers]),
            mocap_pos=jnp.stack([jnp.append(post, 0.0), target]),
            variant=variant,
        )
        return state.replace(memory={"side": side})

    def task_facts(self, state: engines.PhysicsState, robot: base.Facts) -> base.Facts:
        """`post` [2], `target`, `to_target` [3] (m), `side` [1]: 1 left (+y), -1 right."""
        target = state.mocap_pos[1]
        return {
            "post": state.mocap_pos[0, :2],
            "target": target,
            "to_target": target - robot["tool"],
            "side": state.memory["side"][None],
        }

    def reward_terms(self, facts: base.Facts, action: jax.Array) -> dict[str, jax.Array]:
        """Nearness in [0, 1], whether the post is being hit, and effort."""
        distance = jnp.linalg.norm(facts["to_target"])
        return {
            "distance": 1.0 - jnp.tanh(5.0 * distance),
            "collision": (facts["collision"][0] > 0.0).astype(jnp.float32),
            "action": self.effort(action),
        }

    def goal(self, facts: base.Facts) -> jax.Array:
        """The tool is at the marker and has hit nothing."""
        near = jnp.linalg.norm(facts["to_target"]) < TOLERANCE
        return near & (facts["collided"] < 0.5)

    def script(self, facts: base.Facts) -> jax.Array:
        """See `experts.detour`."""
        return experts.detour(facts, self.limits)

    def _start_joints(self, key: jax.Array) -> jax.Array:
        """Joints [J] with the tool at a random start, pointing down."""
        place = grasping.within(key, START_LOWER, START_UPPER)
        down = robots.down_rotation(jnp.zeros(()))
        home = jnp.asarray(self.arm.home, jnp.float32)
        return robots.inverse(self.arm, home, place, down, iterations=20)

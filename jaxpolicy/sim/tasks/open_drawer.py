"""Open drawer: take the handle of a drawer and pull it open."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxpolicy.sim import experts
from jaxpolicy.sim.physics import engines
from jaxpolicy.sim.physics.things import Drawer, Thing
from jaxpolicy.sim.tasks import base, grasping

__all__ = ["OpenDrawer"]

DRAWER = Drawer()
LOWER, UPPER = (0.58, -0.1), (0.64, 0.1)  # where the front of the cabinet stands, m
HANDLE = -0.008 - DRAWER.reach  # x of the handle from there, m
HANDLE_LOWER, HANDLE_UPPER = (LOWER[0] + HANDLE, LOWER[1]), (UPPER[0] + HANDLE, UPPER[1])
OPENED = 0.1  # how far the drawer must be open, m


class OpenDrawer(base.ManipulationEnv):
    """The drawer open by 10 cm, held."""

    instructions: ClassVar[tuple[str, ...]] = ("open the drawer",)
    default_seconds: ClassVar[float] = 4.0
    start_ranges: ClassVar[Mapping[str, base.Range]] = {"handle": (HANDLE_LOWER, HANDLE_UPPER)}
    layout: ClassVar[Mapping[str, tuple[int, str]]] = {
        **grasping.ROBOT_LAYOUT,
        "yaw": (1, "rad"),
        "grasped": (1, "1"),
        "handle": (3, "m"),
        "to_handle": (3, "m"),
        "opening": (1, "m"),
        "opening_speed": (1, "m/s"),
    }
    reward_scales: ClassVar[Mapping[str, float]] = {
        "reach": 0.2,
        "grasp": 0.2,
        "open": 1.0,
        "success": 0.5,
        "action": -0.005,
    }

    def things(self) -> Sequence[Sequence[Thing]]:
        """A cabinet with one drawer."""
        return [(DRAWER,)]

    def start(self, key: jax.Array, variant: jax.Array) -> engines.PhysicsState:
        """The drawer closed, the cabinet somewhere in its box."""
        xy = grasping.within(key, LOWER, UPPER)
        return self.physics.init(
            self.scene.home, mocap_pos=jnp.append(xy, 0.0)[None], variant=variant
        )

    def task_facts(self, state: engines.PhysicsState, robot: base.Facts) -> base.Facts:
        """`handle`, `to_handle` [3], `opening` [1] (m), `opening_speed` [1], `grasped` [1]."""
        n = self.arm.n_joints + 2
        opening = state.qpos[n]
        offset = jnp.stack([HANDLE - opening, jnp.zeros(()), DRAWER.height])
        handle = state.mocap_pos[0] + offset
        to_handle = handle - robot["tool"]
        grasped = grasping.is_grasped(robot["touch"], to_handle, robot["width"])
        return {
            "handle": handle,
            "to_handle": to_handle,
            "opening": opening[None],
            "opening_speed": state.qvel[n : n + 1],
            "grasped": grasped.astype(jnp.float32)[None],
            "yaw": jnp.arctan2(*robot["tool_direction"])[None],
        }

    def objects_of(self, facts: base.Facts) -> jax.Array:
        """The handle."""
        return facts["handle"][None]

    def wanted(self, state: engines.PhysicsState) -> jax.Array:
        """The handle."""
        return jnp.zeros(())

    def reward_terms(self, facts: base.Facts, action: jax.Array) -> dict[str, jax.Array]:
        """Nearness, grasp, opening in [0, 1] and effort."""
        grasped = facts["grasped"][0]
        return {
            "reach": grasping.reaching(facts["to_handle"], grasped),
            "grasp": grasped,
            "open": jnp.clip(facts["opening"][0] / OPENED, 0.0, 1.0),
            "action": self.effort(action),
        }

    def goal(self, facts: base.Facts) -> jax.Array:
        """The drawer is open."""
        return facts["opening"][0] > OPENED

    def script(self, facts: base.Facts) -> jax.Array:
        """See `experts.open_drawer`."""
        return experts.open_drawer(facts, self.limits)

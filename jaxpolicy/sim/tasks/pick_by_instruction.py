"""Pick by instruction: lift the cube of the colour that the instruction names.

Two to four cubes of different colours lie on the table; which, where and at what angle
changes from episode to episode, and so does the instruction.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.sim.physics import engines, objects
from jaxpolicy.sim.physics.things import COLOURS, Solid, Thing
from jaxpolicy.sim.tasks import base, grasping, lift

__all__ = ["PickByInstruction"]

NAMES = tuple(COLOURS)
N = len(NAMES)
FEWEST = 2
# One cube a cell, moved about within it, so that fingers find room between them, m.
CELLS = ((0.44, -0.08), (0.44, 0.08), (0.56, -0.08), (0.56, 0.08))
JITTER = (0.012, 0.03)
LOWER, UPPER = (0.428, -0.11), (0.572, 0.11)  # what that comes to
AWAY = (2.0, 2.0)  # where cubes lie that are not there: behind the camera, out of reach, m
HEIGHT = objects.CUBE.rest


class PickByInstruction(lift.Lift):
    """The cube that was asked for in the gripper and 5 cm above the table, held."""

    instructions: ClassVar[tuple[str, ...]] = tuple(f"lift the {name} cube" for name in NAMES)
    default_shapes: ClassVar[tuple[objects.Shape, ...]] = ()
    default_seconds: ClassVar[float] = 3.5
    start_ranges: ClassVar[Mapping[str, base.Range]] = {
        "object": (LOWER, UPPER),
        "wanted": ((0.0,) * N, (1.0,) * N),
    }
    layout: ClassVar[Mapping[str, tuple[int, str]]] = {
        **grasping.ROBOT_LAYOUT,
        **grasping.OBJECT_LAYOUT,
        "cubes": (3 * N, "m"),
        "wanted": (N, "1"),
        "to_goal": (1, "m"),
    }

    def things(self) -> Sequence[Sequence[Thing]]:
        """A cube of each colour."""
        cubes = [
            Solid(f"{name}_cube", colour=name, place=(AWAY[0], AWAY[1] + 0.2 * i))
            for i, name in enumerate(NAMES)
        ]
        return [tuple(cubes)]

    def start(self, key: jax.Array, variant: jax.Array) -> engines.PhysicsState:
        """Some cubes on the table, one of them asked for."""
        key_order, key_count, key_cells, key_pose = jax.random.split(key, 4)
        # The first of a random order of colours is the one that is asked for.
        order = jax.random.permutation(key_order, N)
        count = jax.random.randint(key_count, (), FEWEST, N + 1)
        rank = jnp.argsort(order)
        cells = jnp.asarray(CELLS, jnp.float32)[jax.random.permutation(key_cells, N)]
        place = jax.vmap(_cube_pose)(jax.random.split(key_pose, N), cells)
        away = jnp.stack([jnp.full(N, AWAY[0]), AWAY[1] + 0.2 * jnp.arange(N)], axis=1)
        absent = jax.vmap(grasping.resting, (0, None, None))(away, jnp.zeros(()), HEIGHT)
        poses = jnp.where((rank < count)[:, None], place, absent)
        state = self.physics.init(
            jnp.concatenate([self.robot_at_home(), poses.reshape(-1)]), variant=variant
        )
        return state.replace(memory={"wanted": order[0].astype(jnp.int32)})

    def task_facts(self, state: engines.PhysicsState, robot: base.Facts) -> base.Facts:
        """Facts of the wanted cube, `cubes` [12] of all (m), `wanted` [4], `to_goal` [1] m."""
        n, wanted = self.arm.n_joints + 2, state.memory["wanted"]
        poses = state.qpos[n : n + 7 * N].reshape(N, 7)
        velocities = state.qvel[n : n + 6 * N].reshape(N, 6)
        mine = poses[wanted]
        facts = grasping.object_facts(
            robot, mine[:3], mine[3:], velocities[wanted, :3], jnp.full((), 4.0)
        )
        height = HEIGHT * self.randomizer.object_scale(state.variant)
        return facts | {
            "cubes": poses[:, :3].reshape(-1),
            "wanted": jax.nn.one_hot(wanted, N),
            "to_goal": (lift.TARGET_RISE - (mine[2] - height))[None],
        }

    def objects_of(self, facts: base.Facts) -> jax.Array:
        """All cubes, absent ones too."""
        return facts["cubes"].reshape(N, 3)

    def wanted(self, state: engines.PhysicsState) -> jax.Array:
        """The cube that is asked for."""
        return state.memory["wanted"].astype(jnp.float32)

    def instruction_of(self, state: engines.PhysicsState) -> jax.Array:
        """Each colour has its instruction."""
        return state.memory["wanted"]


def _cube_pose(key: jax.Array, cell: jax.Array) -> jax.Array:
    """Pose [7] of a cube somewhere in a cell around `cell` [2], at any yaw."""
    key_place, key_turn = jax.random.split(key)
    spread = np.array(JITTER, np.float32)
    xy = cell + jax.random.uniform(key_place, (2,), minval=-spread, maxval=spread)
    yaw = jax.random.uniform(key_turn, (), minval=-jnp.pi, maxval=jnp.pi)
    return grasping.resting(xy, yaw, HEIGHT)

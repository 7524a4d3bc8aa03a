"""What may go wrong in an episode, as facts that say afterwards why it failed.

All of it is true state, whatever noise observations have. `state.info["facts"]` of a
manipulation task holds it, every value float32:

  joint_limit      [] 1 while a joint is at a limit
  velocity_limit   [] 1 while a joint is as fast as it may be
  collision        [] force on the hull of the hand, N
  collided         [] 1 from the first collision on
  touched          [] index of the object the pads pressed last, -1 for none
  wanted           [] index of the object that is meant, -1 where the task has none
  object           [3] where that object is, m
  closed           [] 1 from the first closing of the gripper on
  seen             [3] where the gripper first closed: where the policy took the object to be
  actual           [3] where the object was at that moment
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxpolicy.sim import robots

__all__ = ["Incidents", "initial", "update"]

Incidents = dict[str, jax.Array]

AT_LIMIT = 0.01  # rad from a joint's limit
COLLISION_FORCE = 1.0  # N that count as a collision
CLOSING = 0.5  # a gripper command below this closes
NOTHING = -1.0


def initial(objects: jax.Array, wanted: jax.Array) -> Incidents:
    """Nothing has happened yet.

    Args:
      objects: positions of the N objects, [N, 3] m; N may be 0.
      wanted: index of the one that is meant, [].
    """
    zero, where = jnp.zeros(()), _position(objects, wanted)
    names = ("joint_limit", "velocity_limit", "collision", "collided", "closed")
    return {
        **dict.fromkeys(names, zero),
        "touched": jnp.full((), NOTHING),
        "wanted": jnp.asarray(wanted, jnp.float32),
        "object": where,
        "seen": jnp.zeros(3),
        "actual": where,
    }


def update(
    before: Incidents,
    robot: robots.Robot,
    facts: Mapping[str, jax.Array],
    objects: jax.Array,
    gripper: jax.Array,
) -> Incidents:
    """Facts after a control step.

    Args:
      before: those before it.
      robot: whose limits.
      facts: of the robot (see `ManipulationEnv.facts`).
      objects: positions of the N objects, [N, 3] m.
      gripper: commanded opening [], 1 open.
    """
    force = facts["collision"][0]
    closes = (gripper < CLOSING) & (before["closed"] < 0.5)
    now = _position(objects, before["wanted"])
    return {
        "joint_limit": _at_limit(robot, facts["joints"]),
        "velocity_limit": _too_fast(robot, facts["joint_velocities"]),
        "collision": force,
        "collided": jnp.maximum(before["collided"], force > COLLISION_FORCE),
        "touched": _touched(before["touched"], facts, objects),
        "wanted": before["wanted"],
        "object": now,
        "closed": jnp.maximum(before["closed"], closes),
        "seen": jnp.where(closes, facts["tool"], before["seen"]),
        "actual": jnp.where(closes, now, before["actual"]),
    }


def _position(objects: jax.Array, index: jax.Array) -> jax.Array:
    if not len(objects):
        return jnp.zeros(3)
    return objects[jnp.maximum(jnp.asarray(index, jnp.int32), 0)]


def _at_limit(robot: robots.Robot, joints: jax.Array) -> jax.Array:
    near = (joints < robot.lower + AT_LIMIT) | (joints > robot.upper - AT_LIMIT)
    return near.any().astype(jnp.float32)


def _too_fast(robot: robots.Robot, velocities: jax.Array) -> jax.Array:
    return (jnp.abs(velocities) > robot.velocity).any().astype(jnp.float32)


def _touched(before: jax.Array, facts: Mapping[str, jax.Array], objects: jax.Array) -> jax.Array:
    """Pads feel that they press, not what: it is the object nearest to the tool."""
    if not len(objects):
        return before
    nearest = jnp.argmin(jnp.linalg.norm(objects - facts["tool"], axis=1))
    return jnp.where(facts["touch"].any(), nearest.astype(jnp.float32), before)

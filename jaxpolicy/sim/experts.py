"""Scripted experts: stateless functions of the privileged facts.

They answer with a Cartesian action (dx, dy, dz, dyaw, gripper) in m, rad and gripper
opening; environments turn it into their own kind of action. Because they keep no
state they recover from any disturbance, and their actions are clean labels wherever
execution noise has led.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxpolicy.sim import control

__all__ = ["lift", "reach"]

HOVER = 0.08  # height above the object while aligning, m
ALIGNED = 0.012  # horizontal distance at which descending is safe, m
ALIGNED_YAW = 0.12  # rad
# Turning begins within this horizontal distance, so that demonstrations show the object
# at every angle from just above it. A policy that never saw that descends onto corners.
TURN_FROM, TURN_FULLY = 0.06, 0.02  # m
GAIN = 0.6  # share of an error corrected per step; the arm lags about one step behind
AT_OBJECT = 0.01  # distance at which to close, m
HELD_WIDTH = 0.05  # an opening below this around the object means closing has begun, m


def reach(facts: Mapping[str, jax.Array], limits: control.Limits) -> jax.Array:
    """Straight to the target, gripper open; see `Reach.privileged_layout`."""
    yaw = jnp.arctan2(*facts["tool_direction"])
    return _action(facts["to_target"], -yaw, jnp.ones(()), limits)


def lift(facts: Mapping[str, jax.Array], limits: control.Limits) -> jax.Array:
    """Go above the cube, turn, descend, close, lift, hold; see `Lift.privileged_layout`."""
    to_cube, width = facts["to_cube"], facts["width"][0]
    turn = jnp.arctan2(*facts["cube_yaw"]) / 4.0
    distance = jnp.linalg.norm(to_cube[:2])
    aligned = (distance < ALIGNED) & (jnp.abs(turn) < ALIGNED_YAW)
    around = (distance < 1.5 * ALIGNED) & (jnp.abs(to_cube[2]) < 1.5 * AT_OBJECT)
    closing = around & (width < HELD_WIDTH)
    close = closing | (aligned & (jnp.abs(to_cube[2]) < AT_OBJECT))
    held = facts["grasped"][0] > 0.5
    down = jnp.where(aligned, to_cube[2], to_cube[2] + HOVER)
    vertical = jnp.where(held, facts["to_goal"][0], jnp.where(close, 0.0, down))
    sideways = jnp.where(held | close, 0.0, to_cube[:2])
    near = jnp.clip((TURN_FROM - distance) / (TURN_FROM - TURN_FULLY), 0.0, 1.0)
    gripper = jnp.where(held | close, 0.0, 1.0)
    action = _action(jnp.append(sideways, vertical), turn, gripper, limits)
    return action.at[3].multiply(jnp.where(held | close, 0.0, near))


def _action(
    move: jax.Array, turn: jax.Array, gripper: jax.Array, limits: control.Limits
) -> jax.Array:
    """Cartesian action [5] within the limits towards move [3] m away and turn [] rad."""
    move = GAIN * move
    longest = jnp.max(jnp.abs(move)) / limits.step
    move = move / jnp.maximum(longest, 1.0)
    turn = jnp.clip(GAIN * turn, -limits.yaw_step, limits.yaw_step)
    return jnp.concatenate([move, turn[None], gripper[None]]).astype(jnp.float32)

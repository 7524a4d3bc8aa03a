"""Scripted experts: stateless functions of the privileged facts.

They answer with a Cartesian action (dx, dy, dz, dyaw, gripper) in m, rad and gripper
opening; environments turn it into their own kind of action. Because they keep no
state they recover from any disturbance, and their actions are clean labels wherever
execution noise has led.

Facts are those of each task's privileged layout. Positions are in m in the world's frame.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpolicy.sim.robots import control

__all__ = [
    "detour",
    "grasp",
    "lift",
    "open_drawer",
    "pick_place",
    "push",
    "reach",
    "stack",
]

Facts = Mapping[str, jax.Array]

HOVER = 0.08  # height above the object while aligning, m
ALIGNED = 0.012  # horizontal distance at which descending is safe, m
ALIGNED_YAW = 0.12  # rad
# Turning begins within this horizontal distance, so that demonstrations show the object
# at every angle from just above it. A policy that never saw that descends onto corners.
TURN_FROM, TURN_FULLY = 0.06, 0.02  # m
GAIN = 0.6  # share of an error corrected in 50 ms; the arm lags about that much behind
AT_OBJECT = 0.01  # distance at which to close, m
CLOSING_SHARE = 0.625  # of the open width; an opening below it around the object is closing
OPEN_WIDTH = 0.08  # m


def reach(facts: Facts, limits: control.Limits) -> jax.Array:
    """Straight to the target, gripper open; see `Reach.privileged_layout`."""
    yaw = jnp.arctan2(*facts["tool_direction"])
    return _action(facts["to_target"], -yaw, jnp.ones(()), limits)


def grasp(facts: Facts, limits: control.Limits) -> jax.Array:
    """Go above the object, turn, descend, close; hold still once it is grasped."""
    to_object, width = facts["to_object"], facts["width"][0]
    turn = facts["turn"][0]
    distance = jnp.linalg.norm(to_object[:2])
    aligned = (distance < ALIGNED) & (jnp.abs(turn) < ALIGNED_YAW)
    around = (distance < 1.5 * ALIGNED) & (jnp.abs(to_object[2]) < 1.5 * AT_OBJECT)
    closing = around & (width < CLOSING_SHARE * OPEN_WIDTH)
    close = closing | (aligned & (jnp.abs(to_object[2]) < AT_OBJECT))
    down = jnp.where(aligned, to_object[2], to_object[2] + HOVER)
    move = jnp.append(to_object[:2], down)
    near = jnp.clip((TURN_FROM - distance) / (TURN_FROM - TURN_FULLY), 0.0, 1.0)
    action = _action(move, turn, jnp.ones(()), limits)
    action = action.at[3].multiply(near)
    return jnp.where(close | _held(facts), _still(0.0), action)


def lift(facts: Facts, limits: control.Limits) -> jax.Array:
    """Grasp, lift by `to_goal`, hold; see `Lift.privileged_layout`."""
    up = jnp.append(jnp.zeros(2), facts["to_goal"][0])
    carried = _action(up, jnp.zeros(()), jnp.zeros(()), limits)
    return jnp.where(_held(facts), carried, grasp(facts, limits))


CARRY = 0.13  # height of a carried object's centre above the table, m
RELEASE = 0.062  # height of its centre at which it is dropped into the bin, m
OVER = 0.015  # horizontal distance from the bin's middle that is good enough, m


def pick_place(facts: Facts, limits: control.Limits) -> jax.Array:
    """Grasp, carry over the bin, lower, let go, rise; see `PickPlace.privileged_layout`."""
    place = facts["object"] + facts["to_bin"]
    to_place = facts["to_bin"][:2]
    over = jnp.linalg.norm(to_place) < OVER
    goal = _Placing(to_place, over, jnp.asarray(RELEASE), jnp.asarray(CARRY))
    done = facts["placed"][0] > 0.5
    rise = jnp.append(jnp.zeros(2), place[2] + 0.2 - facts["tool"][2])
    away = _action(rise, jnp.zeros(()), jnp.ones(()), limits)
    todo = jnp.where(_held(facts), _carry(facts, goal, limits), grasp(facts, limits))
    return jnp.where(done, away, todo)


STACK_OVER, STACK_LOW = 0.006, 0.012  # horizontal error to begin, and to go on, lowering, m
STACK_GAP = 0.004  # height above the other cube at which a cube is let go, m


def stack(facts: Facts, limits: control.Limits) -> jax.Array:
    """Grasp, carry over the other cube, lower, let go, rise; see `Stack.privileged_layout`."""
    to_place = facts["to_place"]
    low = -to_place[2] < 0.02
    over = jnp.linalg.norm(to_place[:2]) < jnp.where(low, STACK_LOW, STACK_OVER)
    place = facts["object"][2] + to_place[2]
    goal = _Placing(to_place[:2], over, place + STACK_GAP, place + HOVER)
    done = facts["placed"][0] > 0.5
    clear = facts["width"][0] > 0.8 * OPEN_WIDTH
    height = jnp.where(clear, place + HOVER - facts["tool"][2], 0.0)
    rise = jnp.append(jnp.zeros(2), height)
    away = _action(rise, jnp.zeros(()), jnp.ones(()), limits)
    todo = jnp.where(_held(facts), _carry(facts, goal, limits), grasp(facts, limits))
    return jnp.where(done, away, todo)


class _Placing(NamedTuple):
    """Where a carried object goes: offset [2], whether it is over it, heights of its centre."""

    to_place: jax.Array
    over: jax.Array
    release: jax.Array
    carry: jax.Array


def _carry(facts: Facts, goal: _Placing, limits: control.Limits) -> jax.Array:
    """Up, across, down, and open at the release height."""
    height = facts["object"][2]
    high = height > goal.carry - 0.025
    vertical = jnp.where(goal.over, goal.release - height, goal.carry - height)
    sideways = jnp.where(high | goal.over, goal.to_place, 0.0)
    opens = goal.over & (height < goal.release + 0.006)
    action = _action(jnp.append(sideways, vertical), jnp.zeros(()), jnp.zeros(()), limits)
    return jnp.where(opens, _still(1.0), action)


PUSH_OPEN = 0.25  # opening of the gripper while pushing: two points of contact
PUSH_BEHIND = 0.065  # distance behind the object from which a push begins, m
PUSH_LANE = 0.016  # largest distance from the line through object and target, m
PUSH_NEAR = 0.03  # distance from the target from which on the gripper keeps its angle, m
PUSH_DONE = 0.008  # distance from the target at which to stop, m
PUSH_HEIGHT = 0.018  # of the tool, m


def push(facts: Facts, limits: control.Limits) -> jax.Array:
    """Get behind the object, push it along the line to its target; see `Push`."""
    to_target, tool_to_object = facts["to_target"][:2], facts["to_object"][:2]
    distance = jnp.linalg.norm(to_target)
    ahead = to_target / jnp.maximum(distance, 1e-6)
    side = jnp.stack([-ahead[1], ahead[0]])
    along, lateral = -jnp.dot(tool_to_object, ahead), -jnp.dot(tool_to_object, side)
    low = facts["tool"][2] < PUSH_HEIGHT + 0.02
    pushes = low & (along < -0.015) & (jnp.abs(lateral) < PUSH_LANE)
    turn = _turn_to_line(ahead, jnp.arctan2(*facts["tool_direction"]))
    # Near its target the line through the object swings about: there is nothing to turn for.
    turn = jnp.where(distance > PUSH_NEAR, turn, 0.0)
    level = PUSH_HEIGHT - facts["tool"][2]
    speed = jnp.minimum(distance, 0.35 * limits.step / _gain(limits))
    onward = jnp.append(ahead * speed - side * lateral, level)
    moving = _action(onward, turn, jnp.asarray(PUSH_OPEN), limits)
    around = _get_behind(tool_to_object - PUSH_BEHIND * ahead, facts["tool"][2], turn, limits)
    action = jnp.where(pushes, moving, around)
    return jnp.where(distance < PUSH_DONE, _still(PUSH_OPEN), action)


def _get_behind(
    to_start: jax.Array, height: jax.Array, turn: jax.Array, limits: control.Limits
) -> jax.Array:
    """Over the object to where a push begins, then down."""
    there = (jnp.linalg.norm(to_start) < ALIGNED) & (jnp.abs(turn) < 0.3)
    high = height > HOVER - 0.02
    sideways = jnp.where(high | there, to_start, 0.0)
    vertical = jnp.where(there, PUSH_HEIGHT, HOVER + 0.01) - height
    return _action(jnp.append(sideways, vertical), turn, jnp.asarray(PUSH_OPEN), limits)


def _turn_to_line(ahead: jax.Array, yaw: jax.Array) -> jax.Array:
    """Rotation [] (rad) that brings the tool's x axis onto a line, either way round.

    Of the yaws that do, the nearest within the tool's range is taken.
    """
    angle = jnp.arctan2(ahead[1], ahead[0])
    goals = angle + jnp.array([-jnp.pi, 0.0, jnp.pi])
    cost = jnp.abs(goals - yaw) + jnp.where(jnp.abs(goals) > 1.6, 100.0, 0.0)
    return goals[jnp.argmin(cost)] - yaw


# How the detour passes the post: offsets from it of where the way beside it begins and ends
# (x) and of that way (y), m.
LANE_BEFORE, LANE_BEYOND, LANE_ASIDE = -0.06, 0.09, 0.18


def detour(facts: Facts, limits: control.Limits) -> jax.Array:
    """Round the post on the side that `side` says, then to the target; see `Detour`.

    It makes for the way beside the post in a straight line, so that whoever has not decided
    which side to take approaches the post meanwhile.
    """
    tool, post, side = facts["tool"], facts["post"], facts["side"][0]
    x, y = tool[0] - post[0], side * (tool[1] - post[1])
    height = facts["to_target"][2]
    aside = side * LANE_ASIDE + post[1] - tool[1]
    clear = y > LANE_ASIDE - 0.02
    out = jnp.stack([LANE_BEFORE - x, aside, height])
    onward = jnp.stack([LANE_BEYOND + 0.03 - x, aside, height])
    move = jnp.where(clear, onward, out)
    move = jnp.where(x > LANE_BEYOND, facts["to_target"], move)
    yaw = jnp.arctan2(*facts["tool_direction"])
    return _action(move, -yaw, jnp.ones(()), limits)


PULLED = 0.14  # how far the expert opens a drawer, m
PULL = 0.02  # most it asks for at once: pads slip off when jerked, m


def open_drawer(facts: Facts, limits: control.Limits) -> jax.Array:
    """Over the handle, down, close, pull, hold; see `OpenDrawer.privileged_layout`."""
    back = jnp.clip(facts["opening"][0] - PULLED, -PULL, PULL)
    pulling = _action(jnp.stack([back, 0.0, 0.0]), jnp.zeros(()), jnp.zeros(()), limits)
    handle = {**facts, "to_object": facts["to_handle"], "turn": -facts["yaw"]}
    return jnp.where(_held(facts), pulling, grasp(handle, limits))


def _held(facts: Facts) -> jax.Array:
    return facts["grasped"][0] > 0.5


def _still(gripper: float) -> jax.Array:
    """Cartesian action [5] that moves nothing but the gripper."""
    return jnp.array([0.0, 0.0, 0.0, 0.0, gripper], jnp.float32)


def _gain(limits: control.Limits) -> float:
    """Share of an error corrected per control step, the same per second at any rate."""
    return 1.0 - (1.0 - GAIN) ** (limits.step / control.Limits().step)


def _action(
    move: jax.Array, turn: jax.Array, gripper: jax.Array, limits: control.Limits
) -> jax.Array:
    """Cartesian action [5] within the limits towards move [3] m away and turn [] rad."""
    gain = _gain(limits)
    move = gain * move
    longest = jnp.max(jnp.abs(move)) / limits.step
    move = move / jnp.maximum(longest, 1.0)
    turn = jnp.clip(gain * turn, -limits.yaw_step, limits.yaw_step)
    return jnp.concatenate([move, turn[None], gripper[None]]).astype(jnp.float32)

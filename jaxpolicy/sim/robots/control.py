"""From actions in physical units to actuator controls, through nominal joint targets.

Every kind of action moves nominal targets that are carried from step to step, and the
actuators follow them. A target never runs further ahead of the arm than `lead`, so a
blocked arm does not wind up, and never turns a joint faster than it can move.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.specs import FROM_ROBOT, ActionSpec, InputError
from jaxpolicy.sim import robots

__all__ = ["Limits", "Targets", "action_spec", "controls", "encode", "initial_targets", "update"]

Targets = dict[str, jax.Array]  # "joints" [J] rad, "pose" [4] x y z (m) yaw (rad), "gripper" [1]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an action may ask for.

    Attributes:
      step: largest translation per control step and axis, m.
      yaw_step: largest rotation per control step, rad.
      joint_step: largest joint motion per control step of "joint_delta", rad.
      lead: how far the position target may be ahead of the tool per axis, m.
      yaw_lead: how far the yaw target may be ahead of the tool, rad.
      joint_lead: how far joint targets may be ahead of the joints, rad.
      lower, upper: box the tool's target stays in, m.
      yaw: largest tool yaw to either side, rad.
    """

    step: float = 0.025
    yaw_step: float = 0.12
    joint_step: float = 0.1
    lead: float = 0.03
    yaw_lead: float = 0.15
    joint_lead: float = 0.3
    lower: tuple[float, float, float] = (0.3, -0.25, 0.012)
    upper: tuple[float, float, float] = (0.68, 0.25, 0.4)
    yaw: float = 1.6

    @classmethod
    def at(cls, hz: float, **bounds: tuple[float, float, float]) -> "Limits":
        """The same speeds, 0.5 m/s and 2.4 rad/s, at any control rate.

        Args:
          hz: actions per second.
          **bounds: `lower` and `upper`, where a task has a box of its own.
        """
        longer = 20.0 / hz
        scaled = cls(
            step=0.025 * longer,
            yaw_step=0.12 * longer,
            joint_step=0.1 * longer,
            lead=max(0.03, 0.03 * longer),
            yaw_lead=max(0.15, 0.15 * longer),
            joint_lead=max(0.3, 0.3 * longer),
        )
        return dataclasses.replace(scaled, **bounds)  # type: ignore[arg-type]


def action_spec(kind: str, robot: robots.Robot, limits: Limits, hz: float) -> ActionSpec:
    """The action vector of `kind` for `robot`: the arm, then the gripper (1 open)."""
    names: tuple[str, ...]
    units: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    if kind == "cartesian_delta":
        names, units = ("dx", "dy", "dz", "dyaw"), ("m", "m", "m", "rad")
        upper = (limits.step,) * 3 + (limits.yaw_step,)
        lower = tuple(-u for u in upper)
    elif kind in ("joint_position", "joint_delta"):
        names = tuple(f"joint{i}" for i in range(1, robot.n_joints + 1))
        units = ("rad",) * robot.n_joints
        lower, upper = _joint_bounds(kind, robot, limits)
    else:
        raise InputError(
            f"env.action_kind must be cartesian_delta, joint_position or joint_delta, got '{kind}'"
        )
    bounds = (*lower, 0.0), (*upper, 1.0)
    return ActionSpec(
        kind, (*names, "gripper"), (*units, "1"), *bounds, float(hz), limits_from=FROM_ROBOT
    )


def _joint_bounds(
    kind: str, robot: robots.Robot, limits: Limits
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if kind == "joint_delta":
        return (-limits.joint_step,) * robot.n_joints, (limits.joint_step,) * robot.n_joints
    return tuple(j.lower for j in robot.joints), tuple(j.upper for j in robot.joints)


def initial_targets(robot: robots.Robot, qpos: jax.Array) -> Targets:
    """Targets at which the robot in `qpos` [nq] stands still."""
    joints = qpos[: robot.n_joints]
    position, rotation = robots.forward(robot, joints)
    pose = jnp.append(position, robots.yaw_of(rotation))
    gripper = qpos[robot.n_joints : robot.n_joints + 1] / robot.finger_travel
    return {"joints": joints, "pose": pose, "gripper": gripper}


def update(
    spec: ActionSpec,
    robot: robots.Robot,
    limits: Limits,
    targets: Targets,
    joints: jax.Array,
    action: jax.Array,
) -> Targets:
    """Targets after an action.

    Args:
      spec: kind and bounds of the action; it is clipped to them.
      robot: whose kinematics.
      limits: see Limits.
      targets: nominal targets so far.
      joints: measured joint positions [J], rad.
      action: [A], physical units.
    """
    lower, upper = (np.array(b, np.float32) for b in (spec.minimum, spec.maximum))
    action = jnp.clip(action, lower, upper)
    if spec.kind == "cartesian_delta":
        pose = _cartesian_target(robot, limits, targets["pose"], joints, action[:4])
        wanted = robots.inverse(
            robot, targets["joints"], pose[:3], robots.down_rotation(pose[3]), iterations=2
        )
    else:
        pose = targets["pose"]
        wanted = _joint_target(spec.kind, robot, limits, targets["joints"], joints, action[:-1])
    turn = robot.velocity / np.float32(spec.control_hz)
    wanted = targets["joints"] + jnp.clip(wanted - targets["joints"], -turn, turn)
    return {"joints": wanted, "pose": pose, "gripper": action[-1:]}


def _cartesian_target(
    robot: robots.Robot, limits: Limits, pose: jax.Array, joints: jax.Array, delta: jax.Array
) -> jax.Array:
    """Next target pose [4] of the tool: near it, inside the box."""
    position, rotation = robots.forward(robot, joints)
    tool = jnp.append(position, robots.yaw_of(rotation))
    lead = np.array([limits.lead] * 3 + [limits.yaw_lead], np.float32)
    ahead = jnp.clip(pose + delta, tool - lead, tool + lead)
    lower = np.array([*limits.lower, -limits.yaw], np.float32)
    upper = np.array([*limits.upper, limits.yaw], np.float32)
    return jnp.clip(ahead, lower, upper)


def _joint_target(
    kind: str,
    robot: robots.Robot,
    limits: Limits,
    target: jax.Array,
    joints: jax.Array,
    action: jax.Array,
) -> jax.Array:
    """Next joint targets [J] for actions on joints."""
    wanted = action if kind == "joint_position" else target + action
    wanted = jnp.clip(wanted, joints - limits.joint_lead, joints + limits.joint_lead)
    return jnp.clip(wanted, robot.lower, robot.upper)


def controls(robot: robots.Robot, targets: Targets) -> jax.Array:
    """Actuator controls [J + 2]: joint targets (rad) and finger positions (m)."""
    finger = targets["gripper"] * robot.finger_travel
    return jnp.concatenate([targets["joints"], finger, finger])


def encode(
    spec: ActionSpec, robot: robots.Robot, joints: jax.Array, cartesian: jax.Array
) -> jax.Array:
    """The action [A] of `spec` that does what a Cartesian action [5] asks for.

    Args:
      spec: kind of the wanted action.
      robot: whose kinematics.
      joints: measured joint positions [J], rad.
      cartesian: dx, dy, dz (m), dyaw (rad), gripper (1 open).
    """
    if spec.kind == "cartesian_delta":
        return cartesian
    position, rotation = robots.forward(robot, joints)
    turned = robots.down_rotation(robots.yaw_of(rotation) + cartesian[3])
    wanted = robots.inverse(robot, joints, position + cartesian[:3], turned)
    arm = wanted if spec.kind == "joint_position" else wanted - joints
    lower, upper = np.array(spec.minimum, np.float32), np.array(spec.maximum, np.float32)
    return jnp.clip(jnp.append(arm, cartesian[4]), lower, upper)

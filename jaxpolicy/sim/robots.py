"""Robots by name: MJCF from published constants, kinematics and inverse kinematics in JAX.

Frames: the base stands at the world's origin, x forwards, z up. The tool frame lies
between the finger tips, z out of the hand; at tool yaw 0 the hand points down, its x
axis along the world's x, and the fingers open along y.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy.sim.panda import PANDA
from jaxpolicy.sim.robot import Capsule, Joint, Link, Robot
from jaxpolicy.sim.ur5e import UR5E
from jaxpolicy.specs import InputError

__all__ = [
    "PANDA",
    "ROBOTS",
    "UR5E",
    "Capsule",
    "Joint",
    "Link",
    "Robot",
    "actuator_xml",
    "body_xml",
    "chain",
    "down_rotation",
    "forward",
    "get",
    "inverse",
    "jacobian",
    "rotation_error",
    "sensor_xml",
    "yaw_of",
]

_HIGHEST = jax.lax.Precision.HIGHEST
_PALM = ((0.0, -0.07, 0.03), (0.0, 0.07, 0.03))  # axis of the palm's hull in the hand, m
_FINGER_RADIUS = 0.0085  # m, of a finger's hull
_COVER = 1.02  # sites over their hulls: contacts lie inside both, those of the pads outside

ROBOTS: dict[str, Robot] = {"panda": PANDA, "ur5e": UR5E}


def get(name: str) -> Robot:
    """The robot called `name`; raises InputError naming the known ones."""
    if name not in ROBOTS:
        raise InputError(f"unknown robot '{name}'; known robots: {', '.join(ROBOTS)}")
    return ROBOTS[name]


# --- MJCF -----------------------------------------------------------------------------


def body_xml(robot: Robot, hand_children: str = "") -> str:
    """MJCF of the arm's bodies, base at the origin.

    Bodies are `link0` .. `link<J>`, `hand`, `left_finger`, `right_finger`; joints
    `joint1` .. and `left_finger`, `right_finger`; the tool frame is the site `tool`.

    Args:
      robot: what to build.
      hand_children: MJCF put inside the hand's body, such as a camera.
    """
    xml = _hand_xml(robot, hand_children)
    for i in range(robot.n_joints, 0, -1):
        joint, link = robot.joints[i - 1], robot.links[i]
        hinge = (
            f'<joint name="joint{i}" axis="0 0 1" range="{joint.lower} {joint.upper}" '
            f'limited="true" armature="0.1" damping="1"/>'
        )
        quat = (math.cos(joint.roll / 2), math.sin(joint.roll / 2), 0.0, 0.0)
        frame = f'pos="{_text(joint.origin)}" quat="{_text(quat)}"'
        xml = f'<body name="link{i}" {frame} gravcomp="1">{hinge}{_link_xml(link, i)}{xml}</body>'
    return f'<body name="link0">{_link_xml(robot.links[0], 0)}{xml}</body>'


def actuator_xml(robot: Robot) -> str:
    """MJCF of one position actuator per arm joint, then one per finger (ctrl: m)."""
    arm = [
        f'<position name="joint{i}" joint="joint{i}" kp="{j.kp}" kv="{j.kv}" '
        f'ctrlrange="{j.lower} {j.upper}" forcerange="{-j.torque} {j.torque}"/>'
        for i, j in enumerate(robot.joints, 1)
    ]
    fingers = [
        f'<position name="{side}_finger" joint="{side}_finger" kp="{robot.finger_kp}" '
        f'kv="{robot.finger_kv}" ctrlrange="0 {robot.finger_travel}" '
        f'forcerange="{-robot.grip_force} {robot.grip_force}"/>'
        for side in ("left", "right")
    ]
    return "".join(arm + fingers)


def sensor_xml() -> str:
    """MJCF of touch sensors (N): left pad, right pad, palm, left finger, right finger."""
    sites = ("left_pad", "right_pad", "palm_hull", "left_hull", "right_hull")
    names = ("left_touch", "right_touch", "palm_touch", "left_hull_touch", "right_hull_touch")
    pairs = zip(names, sites, strict=True)
    return "".join(f'<touch name="{name}" site="{site}"/>' for name, site in pairs)


def _text(values: tuple[float, ...]) -> str:
    return " ".join(repr(float(v)) for v in values)


def _link_xml(link: Link, i: int) -> str:
    colour = "arm" if i % 2 else "arm_dark"
    return _inertial_xml(link) + "".join(_capsule_xml(c, colour) for c in link.capsules)


def _inertial_xml(link: Link) -> str:
    return (
        f'<inertial pos="{_text(link.com)}" mass="{link.mass}" '
        f'fullinertia="{_text(link.inertia)}"/>'
    )


def _capsule_xml(capsule: Capsule, material: str) -> str:
    half = [a * capsule.length / 2 for a in capsule.axis]
    start = tuple(c - h for c, h in zip(capsule.centre, half, strict=True))
    end = tuple(c + h for c, h in zip(capsule.centre, half, strict=True))
    colour = f' rgba="{_text(capsule.rgba)}"' if capsule.rgba else ""
    return (
        f'<geom class="visual" type="capsule" size="{capsule.radius}" '
        f'fromto="{_text(start + end)}" material="{material}"{colour}/>'
    )


def _hull_xml(name: str, radius: float, start: tuple[float, ...], end: tuple[float, ...]) -> str:
    """An unseen capsule that only obstacles meet, and a site that just covers it."""
    ends = _text((*start, *end))
    return (
        f'<geom name="{name}" class="hull" type="capsule" size="{radius}" fromto="{ends}"/>'
        f'<site name="{name}" group="4" type="capsule" size="{radius * _COVER}" fromto="{ends}"/>'
    )


def _hand_xml(robot: Robot, children: str) -> str:
    quat = (math.cos(robot.hand_yaw / 2), 0.0, 0.0, math.sin(robot.hand_yaw / 2))
    palm = (
        '<geom name="palm" class="visual" type="box" size="0.025 0.1 0.03" '
        'pos="0 0 0.03" material="hand"/>'
    )
    fingers = _finger_xml(robot, "left", 1.0) + _finger_xml(robot, "right", -1.0)
    return (
        f'<body name="hand" pos="0 0 {robot.hand_offset}" quat="{_text(quat)}" gravcomp="1">'
        f"{_inertial_xml(robot.hand)}{palm}{_hull_xml('palm_hull', 0.03, *_PALM)}"
        f'<site name="tool" group="4" pos="0 0 {robot.tool_offset}"/>'
        f"{children}{fingers}</body>"
    )


def _finger_xml(robot: Robot, side: str, sign: float) -> str:
    """One finger that slides along sign * y; its pad's surface is at y = 0 when closed.

    Its hull ends where the pad begins, so that what the pad grips never touches the hull.
    """
    tip = robot.tool_offset - robot.finger_offset
    top = tip - robot.pad_radius - _FINGER_RADIUS
    hull = _hull_xml(
        f"{side}_hull",
        _FINGER_RADIUS,
        (0.0, sign * 0.0125, _FINGER_RADIUS),
        (0.0, sign * 0.0125, top),
    )
    pad = f"0 {sign * robot.pad_radius} {tip}"
    return (
        f'<body name="{side}_finger" pos="0 0 {robot.finger_offset}" gravcomp="1">'
        f'<inertial pos="0 0 0" mass="{robot.finger_mass}" '
        f'diaginertia="2.375e-06 2.375e-06 7.5e-07"/>'
        f'<joint name="{side}_finger" type="slide" axis="0 {sign} 0" armature="0.1" damping="0.3" '
        f'range="0 {robot.finger_travel}" limited="true"/>'
        f'<geom class="visual" type="box" size="0.0085 0.006 {tip / 2}" '
        f'pos="0 {sign * 0.0125} {tip / 2}" material="finger"/>'
        f'<geom name="{side}_pad" class="pad" type="sphere" size="{robot.pad_radius}" '
        f'pos="{pad}" material="pad"/>'
        f'<site name="{side}_pad" group="4" type="sphere" size="{robot.pad_radius * 1.25}" '
        f'pos="{pad}"/>{hull}'
        "</body>"
    )


# --- kinematics -----------------------------------------------------------------------


def chain(robot: Robot, joints: jax.Array) -> jax.Array:
    """Frames of all joints and of the tool in the base frame, [J] -> [J + 1, 4, 4].

    Written with the columns of rotations in place of matrix products, of which batches of
    small ones are slow on CPU. The barriers keep XLA from computing each frame anew for
    every use of the frames after it.
    """
    columns, position = list(jnp.eye(3)), jnp.zeros(3)
    frames = []
    for joint, cosine, sine in zip(robot.joints, jnp.cos(joints), jnp.sin(joints), strict=True):
        position = position + sum(c * o for c, o in zip(columns, joint.origin, strict=True))
        columns = _rolled(columns, joint.roll)
        columns = _turned(columns, cosine, sine)
        *columns, position = jax.lax.optimization_barrier((*columns, position))
        frames.append(_frame(columns, position))
    position = position + columns[2] * (robot.hand_offset + robot.tool_offset)
    columns = _turned(columns, math.cos(robot.hand_yaw), math.sin(robot.hand_yaw))
    return jnp.stack([*frames, _frame(columns, position)])


def _rolled(columns: list[jax.Array], roll: float) -> list[jax.Array]:
    """Columns of R Rx(roll), given those of R."""
    x, y, z = columns
    c, s = math.cos(roll), math.sin(roll)
    return [x, c * y + s * z, c * z - s * y]


def _turned(columns: list[jax.Array], cosine: Any, sine: Any) -> list[jax.Array]:
    """Columns of R Rz(angle), given those of R."""
    x, y, z = columns
    return [cosine * x + sine * y, cosine * y - sine * x, z]


def _frame(columns: list[jax.Array], position: jax.Array) -> jax.Array:
    """Homogeneous transform [4, 4]."""
    upper = jnp.stack([*columns, position], axis=1)
    return jnp.concatenate([upper, jnp.array([[0.0, 0.0, 0.0, 1.0]])])


def forward(robot: Robot, joints: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pose of the tool: joints [J] (rad) -> position [3] (m), rotation [3, 3]."""
    tool = chain(robot, joints)[-1]
    return tool[:3, 3], tool[:3, :3]


def jacobian(robot: Robot, joints: jax.Array) -> jax.Array:
    """Geometric Jacobian of the tool in the base frame: linear over angular, [6, J]."""
    return _jacobian_of(chain(robot, joints))


def _jacobian_of(frames: jax.Array) -> jax.Array:
    axes, origins = frames[:-1, :3, 2], frames[:-1, :3, 3]
    linear = jnp.cross(axes, frames[-1, :3, 3] - origins)
    return jnp.concatenate([linear, axes], axis=1).T


def rotation_error(target: jax.Array, current: jax.Array) -> jax.Array:
    """Small rotation vector [3] (rad) that turns `current` [3, 3] towards `target`."""
    return 0.5 * jnp.sum(jnp.cross(current, target, axisa=0, axisb=0, axisc=0), axis=1)


def inverse(
    robot: Robot,
    joints: jax.Array,
    position: jax.Array,
    rotation: jax.Array,
    iterations: int = 3,
    damping: float = 0.02,
) -> jax.Array:
    """Joints near `joints` that bring the tool to a pose: damped least squares.

    dq = J^T (J J^T + damping^2 I)^-1 e, within the joint limits, `iterations` times.

    Args:
      robot: whose kinematics.
      joints: where to start, [J] rad.
      position, rotation: wanted pose of the tool, [3] m and [3, 3].
      iterations: number of Newton-like steps.
      damping: regularisation, larger is slower and calmer near singularities.
    """
    refine = functools.partial(_refine, robot, position, rotation, damping)
    return jax.lax.fori_loop(0, iterations, refine, jnp.asarray(joints, jnp.float32))


def _refine(
    robot: Robot,
    position: jax.Array,
    rotation: jax.Array,
    damping: float,
    _: jax.Array,
    joints: jax.Array,
) -> jax.Array:
    """One step of `inverse`."""
    frames = chain(robot, joints)
    jac = _jacobian_of(frames)
    turn = rotation_error(rotation, frames[-1, :3, :3])
    error = jnp.concatenate([position - frames[-1, :3, 3], turn])
    gram = jnp.matmul(jac, jac.T, precision=_HIGHEST) + damping**2 * jnp.eye(6)
    step = jnp.matmul(jac.T, jnp.linalg.solve(gram, error), precision=_HIGHEST)
    return jnp.clip(joints + step, robot.lower, robot.upper)


def down_rotation(yaw: jax.Array) -> jax.Array:
    """Rotation [3, 3] of a tool that points down with its x axis at `yaw` [] (rad)."""
    c, s, zero = jnp.cos(yaw), jnp.sin(yaw), jnp.zeros_like(yaw)
    rows = [[c, s, zero], [s, -c, zero], [zero, zero, -jnp.ones_like(yaw)]]
    return jnp.stack([jnp.stack(r) for r in rows])


def yaw_of(rotation: jax.Array) -> jax.Array:
    """Angle [] (rad) of a rotation's x axis about the world's z."""
    return jnp.arctan2(rotation[1, 0], rotation[0, 0])

"""MJCF of a robot, from its published constants."""

import math

from jaxpolicy.sim.robots.description import Capsule, Link, Robot

__all__ = ["actuator_xml", "body_xml", "sensor_xml"]

_PALM = ((0.0, -0.07, 0.03), (0.0, 0.07, 0.03))  # axis of the palm's hull in the hand, m
_FINGER_RADIUS = 0.0085  # m, of a finger's hull
_COVER = 1.02  # sites over their hulls: contacts lie inside both, those of the pads outside


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

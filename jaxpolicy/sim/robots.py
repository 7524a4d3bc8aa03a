"""Robot descriptions: MJCF from published constants, kinematics and inverse kinematics in JAX.

The Panda's joint origins, limits, hand geometry and collision capsules are those of
franka_ros (`franka_description`, Apache-2.0); its inertias are the ones franka_ros
takes from Gaz et al., "Identification of the Franka Emika Panda Robot With Retrieval
of Feasible Parameters Using Penalty-Based Optimization", RA-L 2019. The shapes are
primitives, so that the ray caster and MJX handle them.

Frames: the base stands at the world's origin, x forwards, z up. The tool frame lies
between the finger tips, z out of the hand; at tool yaw 0 the hand points down, its x
axis along the world's x, and the fingers open along y.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.specs import InputError

__all__ = [
    "PANDA",
    "ROBOTS",
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


@dataclasses.dataclass(frozen=True)
class Joint:
    """A revolute joint about its own z axis.

    Attributes:
      origin: position in the parent link's frame, m.
      roll: rotation of the joint's frame about the parent's x axis, rad.
      lower, upper: limits, rad.
      velocity: largest speed, rad/s.
      torque: largest torque, N m.
      kp, kv: gains of the position actuator, N m/rad and N m s/rad.
    """

    origin: tuple[float, float, float]
    roll: float
    lower: float
    upper: float
    velocity: float
    torque: float
    kp: float
    kv: float


@dataclasses.dataclass(frozen=True)
class Capsule:
    """A capsule in a link's frame: centre (m), axis (unit), radius and cylinder length (m)."""

    centre: tuple[float, float, float]
    axis: tuple[float, float, float]
    radius: float
    length: float


@dataclasses.dataclass(frozen=True)
class Link:
    """Inertia and shape of one link.

    Attributes:
      mass: kg.
      com: centre of mass in the link's frame, m.
      inertia: xx, yy, zz, xy, xz, yz about the centre of mass, kg m^2.
      capsules: what is seen of it.
    """

    mass: float
    com: tuple[float, float, float]
    inertia: tuple[float, float, float, float, float, float]
    capsules: tuple[Capsule, ...] = ()


@dataclasses.dataclass(frozen=True)
class Robot:
    """A serial arm with a two-finger gripper.

    Attributes:
      name: key in ROBOTS.
      joints: J joints from the base.
      links: J + 1 links, the base first.
      hand: the hand, fixed to the last link.
      hand_offset: distance from the last joint's frame to the hand's along z, m.
      hand_yaw: rotation of the hand about that z axis, rad.
      tool_offset: distance from the hand's frame to the tool's along z, m.
      finger_offset: distance from the hand's frame to the fingers' along z, m.
      finger_travel: how far each finger opens from the middle, m.
      finger_mass: kg.
      finger_kp, finger_kv: gains of each finger's position actuator, N/m and N s/m.
      grip_force: largest force of each finger, N.
      pad_radius: radius of the spherical pad at each finger tip, m.
      home: joint positions at rest, rad.
    """

    name: str
    joints: tuple[Joint, ...]
    links: tuple[Link, ...]
    hand: Link
    hand_offset: float
    hand_yaw: float
    tool_offset: float
    finger_offset: float
    finger_travel: float
    finger_mass: float
    finger_kp: float
    finger_kv: float
    grip_force: float
    pad_radius: float
    home: tuple[float, ...]

    @property
    def n_joints(self) -> int:
        """J, the number of arm joints, without the fingers."""
        return len(self.joints)

    @property
    def lower(self) -> np.ndarray:
        """Lower joint limits [J], rad."""
        return np.array([j.lower for j in self.joints], np.float32)

    @property
    def upper(self) -> np.ndarray:
        """Upper joint limits [J], rad."""
        return np.array([j.upper for j in self.joints], np.float32)

    @property
    def velocity(self) -> np.ndarray:
        """Largest joint speeds [J], rad/s."""
        return np.array([j.velocity for j in self.joints], np.float32)


_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
_DIAGONAL = (math.sqrt(0.5), math.sqrt(0.5), 0.0)
_H = math.pi / 2

PANDA = Robot(
    name="panda",
    joints=(
        Joint((0.0, 0.0, 0.333), 0.0, -2.8973, 2.8973, 2.175, 87.0, 4500.0, 200.0),
        Joint((0.0, 0.0, 0.0), -_H, -1.7628, 1.7628, 2.175, 87.0, 4500.0, 200.0),
        Joint((0.0, -0.316, 0.0), _H, -2.8973, 2.8973, 2.175, 87.0, 3500.0, 150.0),
        Joint((0.0825, 0.0, 0.0), _H, -3.0718, -0.0698, 2.175, 87.0, 3500.0, 150.0),
        Joint((-0.0825, 0.384, 0.0), -_H, -2.8973, 2.8973, 2.61, 12.0, 2000.0, 60.0),
        Joint((0.0, 0.0, 0.0), _H, -0.0175, 3.7525, 2.61, 12.0, 2000.0, 60.0),
        Joint((0.088, 0.0, 0.0), _H, -2.8973, 2.8973, 2.61, 12.0, 2000.0, 60.0),
    ),
    links=(
        Link(
            0.629769,
            (-0.041018, -0.00014, 0.049974),
            (0.00315, 0.00388, 0.004285, 8.2904e-07, 0.00015, 8.2299e-06),
            (Capsule((-0.075, 0.0, 0.06), _X, 0.06, 0.03),),
        ),
        Link(
            4.970684,
            (0.003875, 0.002081, -0.04762),
            (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169),
            (Capsule((0.0, 0.0, -0.1915), _Z, 0.06, 0.283),),
        ),
        Link(
            0.646926,
            (-0.003141, -0.02872, 0.003495),
            (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704),
            (Capsule((0.0, 0.0, 0.0), _Z, 0.06, 0.12),),
        ),
        Link(
            3.228604,
            (0.027518, 0.039252, -0.066502),
            (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805),
            (Capsule((0.0, 0.0, -0.145), _Z, 0.06, 0.15),),
        ),
        Link(
            3.587895,
            (-0.05317, 0.104419, 0.027454),
            (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641),
            (Capsule((0.0, 0.0, 0.0), _Z, 0.06, 0.12),),
        ),
        Link(
            1.225946,
            (-0.011953, 0.041065, -0.038437),
            (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229),
            (
                Capsule((0.0, 0.0, -0.26), _Z, 0.06, 0.1),
                Capsule((0.0, 0.08, -0.13), _Z, 0.025, 0.14),
            ),
        ),
        Link(
            1.666555,
            (0.060149, -0.014117, -0.010517),
            (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341),
            (Capsule((0.0, 0.0, -0.03), _Z, 0.05, 0.08),),
        ),
        Link(
            0.735522,
            (0.010517, -0.004252, 0.061597),
            (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741),
            (
                Capsule((0.0, 0.0, 0.01), _Z, 0.04, 0.14),
                Capsule((0.0424264, 0.0424264, 0.082), _DIAGONAL, 0.03, 0.01),
            ),
        ),
    ),
    hand=Link(0.73, (-0.01, 0.0, 0.03), (0.001, 0.0025, 0.0017, 0.0, 0.0, 0.0)),
    hand_offset=0.107,
    hand_yaw=-math.pi / 4,
    tool_offset=0.1034,
    finger_offset=0.0584,
    finger_travel=0.04,
    finger_mass=0.015,
    finger_kp=500.0,
    finger_kv=50.0,
    grip_force=10.0,
    pad_radius=0.008,
    home=(0.0, 0.008591, 0.0, -2.361879, 0.0, 2.37047, 0.785398),
)

ROBOTS: dict[str, Robot] = {"panda": PANDA}


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
    """MJCF of the touch sensors of the left and right pad (N)."""
    return '<touch name="left_touch" site="left_pad"/><touch name="right_touch" site="right_pad"/>'


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
    return (
        f'<geom class="visual" type="capsule" size="{capsule.radius}" '
        f'fromto="{_text(start + end)}" material="{material}"/>'
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
        f"{_inertial_xml(robot.hand)}{palm}"
        f'<site name="tool" group="4" pos="0 0 {robot.tool_offset}"/>'
        f"{children}{fingers}</body>"
    )


def _finger_xml(robot: Robot, side: str, sign: float) -> str:
    """One finger that slides along sign * y; its pad's surface is at y = 0 when closed."""
    tip = robot.tool_offset - robot.finger_offset
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
        f'pos="{pad}"/>'
        "</body>"
    )


# --- kinematics -----------------------------------------------------------------------


def _fixed_transforms(robot: Robot) -> np.ndarray:
    """Transform from each joint's parent frame to the joint's frame at 0, [J, 4, 4]."""
    result = np.tile(np.eye(4), (robot.n_joints, 1, 1))
    for i, joint in enumerate(robot.joints):
        c, s = math.cos(joint.roll), math.sin(joint.roll)
        result[i, 1:3, 1:3] = [[c, -s], [s, c]]
        result[i, :3, 3] = joint.origin
    return result.astype(np.float32)


def _tool_transform(robot: Robot) -> np.ndarray:
    """Transform from the last joint's frame to the tool's, [4, 4]."""
    c, s = math.cos(robot.hand_yaw), math.sin(robot.hand_yaw)
    result = np.eye(4)
    result[:2, :2] = [[c, -s], [s, c]]
    result[2, 3] = robot.hand_offset + robot.tool_offset
    return result.astype(np.float32)


def _rotations_about_z(angles: jax.Array) -> jax.Array:
    """Homogeneous rotations about z, [J] -> [J, 4, 4]."""
    c, s = jnp.cos(angles), jnp.sin(angles)
    zero, one = jnp.zeros_like(c), jnp.ones_like(c)
    rows = [[c, -s, zero, zero], [s, c, zero, zero]]
    rows += [[zero, zero, one, zero], [zero, zero, zero, one]]
    return jnp.stack([jnp.stack(r, -1) for r in rows], -2)


def chain(robot: Robot, joints: jax.Array) -> jax.Array:
    """Frames of all joints and of the tool in the base frame, [J] -> [J + 1, 4, 4]."""
    local = jnp.matmul(_fixed_transforms(robot), _rotations_about_z(joints), precision=_HIGHEST)
    frames = [local[0]]
    for i in range(1, robot.n_joints):
        frames.append(jnp.matmul(frames[-1], local[i], precision=_HIGHEST))
    frames.append(jnp.matmul(frames[-1], _tool_transform(robot), precision=_HIGHEST))
    return jnp.stack(frames)


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

"""What a robot is: a serial arm of revolute joints with a two-finger gripper, as constants."""

import dataclasses

import numpy as np

__all__ = ["Capsule", "Joint", "Link", "Robot"]


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
    """A capsule in a link's frame: centre (m), axis (unit), radius and cylinder length (m).

    `rgba` colours it, each in [0, 1]; without it, links alternate between two greys.
    """

    centre: tuple[float, float, float]
    axis: tuple[float, float, float]
    radius: float
    length: float
    rgba: tuple[float, float, float, float] | None = None


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

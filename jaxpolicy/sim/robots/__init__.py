"""Robots by name: published constants, MJCF, kinematics and control."""

from jaxpolicy.core.registry import Registry
from jaxpolicy.core.specs import InputError
from jaxpolicy.sim.robots.description import Capsule, Joint, Link, Robot
from jaxpolicy.sim.robots.kinematics import (
    chain,
    down_rotation,
    forward,
    inverse,
    jacobian,
    rotation_error,
    yaw_of,
)
from jaxpolicy.sim.robots.mjcf import actuator_xml, body_xml, sensor_xml
from jaxpolicy.sim.robots.panda import PANDA
from jaxpolicy.sim.robots.ur5e import UR5E

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

ROBOTS: Registry[Robot] = Registry("robot", {"panda": PANDA, "ur5e": UR5E}, Robot)


def get(name: str) -> Robot:
    """The robot called `name`; raises InputError naming the known ones."""
    if name not in ROBOTS:
        raise InputError(f"unknown robot '{name}'; known robots: {', '.join(ROBOTS)}")
    return ROBOTS[name]

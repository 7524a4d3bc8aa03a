"""Scenes: a robot on a table, objects, cameras and lights, compiled to an MjModel.

The table's top is z = 0. The table that is seen is a box; what objects stand on is an
invisible plane (group 3, alpha 0), because plane contacts are cheaper and steadier.
Solver settings are the ones with which a grasped object neither slips nor is ejected:
elliptic cones with impratio 1, Newton with enough iterations, 5 ms steps.
"""

import dataclasses

import mujoco
import numpy as np

from jaxpolicy.sim import robots

__all__ = ["TIMESTEP", "Cube", "Marker", "Scene", "build", "to_xml"]

TIMESTEP = 0.005  # s
_HEAD = """<mujoco model="jaxpolicy">
<compiler angle="radian" autolimits="true"/>
<option timestep="{timestep}" integrator="implicitfast" cone="elliptic" impratio="1"
  solver="Newton" iterations="10" ls_iterations="50"/>
<visual><headlight ambient="0.3 0.3 0.3" diffuse="0.2 0.2 0.2" specular="0 0 0"/>
  <global offwidth="640" offheight="640"/><map znear="0.005"/></visual>
<default>
  <default class="visual"><geom contype="0" conaffinity="0" group="1"/></default>
  <default class="ground"><geom contype="1" conaffinity="0" friction="1 0.005 0.0001"/></default>
  <default class="object"><geom contype="2" conaffinity="1" condim="3"
    friction="1 0.005 0.0001"/></default>
  <default class="pad"><geom contype="0" conaffinity="11" condim="4" priority="1"
    friction="1.5 0.02 0.0001" solref="0.01 1"/></default>
  <default class="hull"><geom contype="4" conaffinity="0" condim="3" group="3"
    rgba="0 0 0 0" mass="0"/></default>
  <default class="obstacle"><geom contype="8" conaffinity="6" condim="3"
    friction="1 0.005 0.0001"/></default>
</default>
<asset>
  <material name="arm" rgba="0.92 0.92 0.92 1" specular="0.4" shininess="0.4"/>
  <material name="arm_dark" rgba="0.75 0.76 0.78 1" specular="0.4" shininess="0.4"/>
  <material name="hand" rgba="0.85 0.85 0.87 1" specular="0.3" shininess="0.4"/>
  <material name="finger" rgba="0.3 0.3 0.33 1" specular="0.2" shininess="0.3"/>
  <material name="pad" rgba="0.1 0.1 0.11 1" specular="0" shininess="0"/>
  <material name="table" rgba="0.62 0.49 0.36 1" specular="0.1" shininess="0.2"/>
  <material name="floor" rgba="0.35 0.38 0.42 1" specular="0" shininess="0"/>
  <material name="cube" rgba="0.85 0.15 0.1 1" specular="0.2" shininess="0.3"/>
  <material name="marker" rgba="0.1 0.75 0.25 1" specular="0" shininess="0"/>
</asset>
"""
_WORLD = """
<light name="lamp" pos="1.2 -0.5 1.6" dir="-0.7 0.5 -1.6" directional="false"
  diffuse="0.7 0.7 0.7" specular="0.3 0.3 0.3" castshadow="true"/>
<geom name="floor" class="visual" type="plane" size="3 3 0.1" pos="0 0 -0.75" material="floor"/>
<geom name="table" class="visual" type="box" size="0.5 0.6 0.025" pos="0.35 0 -0.025"
  material="table"/>
<geom name="ground" class="ground" type="plane" size="1 1 0.1" rgba="0 0 0 0" group="3"/>
<camera name="front" pos="1.05 0 0.5" xyaxes="0 1 0 -0.44 0 0.55" fovy="42"/>
"""
# Ahead of the fingers, tilted back by 25 degrees: their tips are at the lower edge.
_WRIST = '<camera name="wrist" pos="0.08 0 0.02" xyaxes="0 1 0 0.9063 0 0.4226" fovy="58"/>'


@dataclasses.dataclass(frozen=True)
class Cube:
    """A free cube; side and mass in m and kg. Body, geom and free joint are `name`."""

    name: str = "cube"
    side: float = 0.04
    mass: float = 0.06


@dataclasses.dataclass(frozen=True)
class Marker:
    """A sphere that is seen and touches nothing, moved as a mocap body; radius in m."""

    name: str = "target"
    radius: float = 0.015


@dataclasses.dataclass(frozen=True)
class Scene:
    """A compiled scene.

    Attributes:
      model: the MuJoCo model; its keyframe 0, `home`, is the state at rest.
      robot: the robot in it.
      cameras: names of all cameras.
    """

    model: mujoco.MjModel
    robot: robots.Robot
    cameras: tuple[str, ...]

    @property
    def home(self) -> np.ndarray:
        """Generalised positions at rest, [nq] float32."""
        return self.model.key_qpos[0].astype(np.float32)


def build(
    robot: robots.Robot, cubes: tuple[Cube, ...] = (), markers: tuple[Marker, ...] = ()
) -> Scene:
    """Compiles a scene; qpos is arm joints, two fingers, then 7 numbers per cube."""
    model = mujoco.MjModel.from_xml_string(to_xml(robot, cubes, markers))
    names = tuple(model.camera(i).name for i in range(model.ncam))
    return Scene(model, robot, names)


def to_xml(robot: robots.Robot, cubes: tuple[Cube, ...], markers: tuple[Marker, ...]) -> str:
    """MJCF text of a scene."""
    things = "".join(map(_cube_xml, cubes)) + "".join(map(_marker_xml, markers))
    parts = [
        _HEAD.format(timestep=TIMESTEP),
        f"<worldbody>{_WORLD}{robots.body_xml(robot, _WRIST)}{things}</worldbody>",
        f"<actuator>{robots.actuator_xml(robot)}</actuator>",
        f"<sensor>{robots.sensor_xml()}</sensor>",
        f'<keyframe><key name="home" qpos="{_home_text(robot, cubes)}"/></keyframe>',
        "</mujoco>",
    ]
    return "\n".join(parts)


def _cube_xml(cube: Cube) -> str:
    half = cube.side / 2
    return (
        f'<body name="{cube.name}" pos="0.5 0 {half}"><freejoint name="{cube.name}"/>'
        f'<geom name="{cube.name}" class="object" type="box" size="{half} {half} {half}" '
        f'mass="{cube.mass}" material="cube"/></body>'
    )


def _marker_xml(marker: Marker) -> str:
    return (
        f'<body name="{marker.name}" mocap="true" pos="0.5 0 0.2"><geom name="{marker.name}" '
        f'class="visual" type="sphere" size="{marker.radius}" material="marker"/></body>'
    )


def _home_text(robot: robots.Robot, cubes: tuple[Cube, ...]) -> str:
    values = list(robot.home) + [robot.finger_travel] * 2
    for cube in cubes:
        values += [0.5, 0.0, cube.side / 2, 1.0, 0.0, 0.0, 0.0]
    return " ".join(str(v) for v in values)

"""Scenes: a robot on a table, things, cameras and lights, compiled to an MjModel.

The table's top is z = 0. The table that is seen is a box; what objects stand on is an
invisible plane (group 3, alpha 0), because plane contacts are cheaper and steadier.
Solver settings are the ones with which a grasped object neither slips nor is ejected:
elliptic cones with impratio 1 (10 for round objects), Newton with enough iterations, steps
of at most 5 ms.

Bodies have few geoms each, so MuJoCo's midphase costs more than it saves and is off.

Who meets whom is a matter of classes: objects meet the ground, pads and obstacles (and
each other where a scene says so); pads meet ground, objects and obstacles; the hull of
the hand meets obstacles alone; the rest of the arm meets nothing.
"""

import dataclasses
from collections.abc import Sequence

import mujoco
import numpy as np

from jaxpolicy.sim import robots
from jaxpolicy.sim.physics.things import COLOURS, Solid, Thing, text

__all__ = ["TIMESTEP", "Scene", "build", "to_xml"]

TIMESTEP = 0.005  # s, the longest that holds a grasp
_HEAD = """<mujoco model="jaxpolicy">
<compiler angle="radian" autolimits="true"/>
<option timestep="{timestep}" integrator="implicitfast" cone="elliptic" impratio="{impratio}"
  solver="Newton" iterations="10" ls_iterations="50"><flag midphase="disable"/></option>
<visual><headlight ambient="0.3 0.3 0.3" diffuse="0.2 0.2 0.2" specular="0 0 0"/>
  <global offwidth="640" offheight="640"/><map znear="0.005"/></visual>
<default>
  <default class="visual"><geom contype="0" conaffinity="0" group="1"/></default>
  <default class="ground"><geom contype="1" conaffinity="0" friction="1 0.005 0.0001"/></default>
  <default class="object"><geom contype="2" conaffinity="1" condim="{condim}"
    friction="1 0.005 {rolling}"/></default>
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
{colours}
  <material name="marker" rgba="0.1 0.75 0.25 1" specular="0" shininess="0"/>
  <material name="bin" rgba="0.2 0.35 0.6 1" specular="0.2" shininess="0.3"/>
  <material name="post" rgba="0.95 0.6 0.1 1" specular="0.2" shininess="0.3"/>
  <material name="cabinet" rgba="0.8 0.76 0.68 1" specular="0.1" shininess="0.2"/>
  <material name="drawer" rgba="0.55 0.36 0.24 1" specular="0.1" shininess="0.2"/>
  <material name="metal" rgba="0.7 0.7 0.74 1" specular="0.6" shininess="0.6"/>
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
class Scene:
    """A compiled scene.

    Attributes:
      models: MuJoCo models of one structure, one per shape of the object where there are
        several; keyframe 0, `home`, of each is its state at rest.
      robot: the robot in it.
      cameras: names of all cameras.
    """

    models: tuple[mujoco.MjModel, ...]
    robot: robots.Robot
    cameras: tuple[str, ...]

    @property
    def model(self) -> mujoco.MjModel:
        """The first of the models."""
        return self.models[0]

    @property
    def home(self) -> np.ndarray:
        """Generalised positions at rest, [nq] float32."""
        return self.model.key_qpos[0].astype(np.float32)


def build(robot: robots.Robot, *variants: Sequence[Thing], timestep: float = TIMESTEP) -> Scene:
    """Compiles a scene; qpos is arm joints, two fingers, then what each thing adds.

    Args:
      robot: who is in it.
      *variants: the things in it; several where the same things come in several shapes
        (see `objects.slots`), which give one model each. None at all: an empty table.
      timestep: of the physics, s.
    """
    texts = [to_xml(robot, things, timestep) for things in variants or ((),)]
    models = tuple(mujoco.MjModel.from_xml_string(text) for text in texts)
    names = tuple(models[0].camera(i).name for i in range(models[0].ncam))
    return Scene(models, robot, names)


def to_xml(robot: robots.Robot, things: Sequence[Thing], timestep: float = TIMESTEP) -> str:
    """MJCF text of a scene."""
    parts = [
        _head(things, timestep),
        f"<worldbody>{_WORLD}{robots.body_xml(robot, _WRIST)}",
        *(thing.xml() for thing in things),
        "</worldbody>",
        f"<actuator>{robots.actuator_xml(robot)}</actuator>",
        f"<sensor>{robots.sensor_xml()}</sensor>",
        f'<keyframe><key name="home" qpos="{_hometext(robot, things)}"/></keyframe>',
        "</mujoco>",
    ]
    return "\n".join(parts)


def _head(things: Sequence[Thing], timestep: float) -> str:
    """Options, classes and materials.

    Round objects would roll for ever on a plane, and creep out of round pads within a
    second: where there are any, contacts of objects resist rolling, and friction is ten
    times as stiff (impratio), which flat objects neither need nor pay for.
    """
    solids = [t for t in things if isinstance(t, Solid)]
    is_round = any(p.kind != "box" for s in solids for p in s.parts)
    colours = [
        f'<material name="{name}" rgba="{text(rgb)} 1" specular="0.2" shininess="0.3"/>'
        for name, rgb in COLOURS.items()
    ]
    return _HEAD.format(
        timestep=repr(timestep),
        colours="".join(colours),
        condim=6 if is_round else 3,
        rolling=0.001 if is_round else 0.0001,
        impratio=10 if is_round else 1,
    )


def _hometext(robot: robots.Robot, things: Sequence[Thing]) -> str:
    values = list(robot.home) + [robot.finger_travel] * 2
    for thing in things:
        values += thing.rest()
    return text(values)

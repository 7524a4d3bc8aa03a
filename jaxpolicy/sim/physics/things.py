"""Things on the table: free objects, markers, fixtures and a drawer, as MJCF.

Each has a body of its own, whose geoms are primitives and whose collision class (see
scene.py) says what it meets.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxpolicy.sim.physics import objects

__all__ = ["COLOURS", "Drawer", "Fixture", "Marker", "Solid", "Thing", "text"]

# What objects are called by, and their colours.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.15, 0.1),
    "green": (0.15, 0.6, 0.2),
    "blue": (0.12, 0.3, 0.8),
    "yellow": (0.9, 0.75, 0.1),
}


class Thing(Protocol):
    """Anything that can stand on the table."""

    @property
    def name(self) -> str:
        """Of its body."""

    def xml(self) -> str:
        """MJCF of its body."""

    def rest(self) -> tuple[float, ...]:
        """Generalised positions of its joints at rest."""


@dataclasses.dataclass(frozen=True)
class Solid:
    """A free object. Body, free joint and first geom are `name`, further geoms `name_<k>`.

    Attributes:
      name: of its body.
      parts: its primitives; see `objects.slots`.
      height: of its body's origin when it lies on the table, m.
      mass: kg, spread over the parts by volume.
      colour: a key of COLOURS.
      stackable: whether it meets other objects.
      place: where it is at rest, m.
    """

    name: str = "cube"
    parts: tuple[objects.Part, ...] = objects.CUBE.parts
    height: float = objects.CUBE.rest
    mass: float = 0.06
    colour: str = "red"
    stackable: bool = False
    place: tuple[float, float] = (0.5, 0.0)

    def xml(self) -> str:
        """MJCF of its body."""
        volumes = np.array([_volume(p) for p in self.parts])
        shares = self.mass * volumes / volumes.sum()
        meets = 'conaffinity="3"' if self.stackable else ""
        geoms = [
            f'<geom name="{self.name}{f"_{k}" if k else ""}" class="object" type="{p.kind}" '
            f'size="{text(p.size)}" pos="{text(p.pos)}" quat="{text(p.quat)}" '
            f'mass="{share:.9g}" material="{self.colour}" {meets}/>'
            for k, (p, share) in enumerate(zip(self.parts, shares, strict=True))
        ]
        place = text((*self.place, self.height))
        return (
            f'<body name="{self.name}" pos="{place}"><freejoint name="{self.name}"/>'
            f"{''.join(geoms)}</body>"
        )

    def rest(self) -> tuple[float, ...]:
        """Position (m) and quaternion, w first."""
        return (*self.place, self.height, 1.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Marker:
    """Something flat or round that is seen and touches nothing, moved as a mocap body.

    Attributes:
      name: of its body and geom.
      kind, size: MuJoCo's type and half-sizes, m.
    """

    name: str = "target"
    kind: str = "sphere"
    size: tuple[float, ...] = (0.015,)

    def xml(self) -> str:
        """MJCF of its body."""
        return (
            f'<body name="{self.name}" mocap="true" pos="0.5 0 0.2"><geom name="{self.name}" '
            f'class="visual" type="{self.kind}" size="{text(self.size)}" material="marker"/></body>'
        )

    def rest(self) -> tuple[float, ...]:
        """It has no joints."""
        return ()


@dataclasses.dataclass(frozen=True)
class Fixture:
    """Something solid that robots and objects run into, moved as a mocap body.

    Attributes:
      name: of its body; geoms are `name_<k>`.
      parts: its primitives.
      material: of all of them.
      place: where it is at first, m.
    """

    name: str
    parts: tuple[objects.Part, ...]
    material: str
    place: tuple[float, float, float] = (0.5, 0.0, 0.0)

    def xml(self) -> str:
        """MJCF of its body."""
        geoms = _geoms(self.name, "obstacle", self.parts, self.material)
        place = text(self.place)
        return f'<body name="{self.name}" mocap="true" pos="{place}">{geoms}</body>'

    def rest(self) -> tuple[float, ...]:
        """It has no joints."""
        return ()


@dataclasses.dataclass(frozen=True)
class Drawer:
    """A drawer that slides out of a cabinet towards the robot (-x), with an upright handle.

    The cabinet is a mocap body `name`; its origin is on the table below the middle of
    the closed drawer's front. The drawer is the body `name_box` on the slide joint
    `name`, 0 m when closed.

    Attributes:
      name: of the joint and the cabinet.
      travel: how far it opens, m.
      handle: half-sizes of the handle, m; its sides are flat, because round pads slip off
        a round bar.
      reach: distance from the front to the handle's axis, m.
      height: of the handle's middle above the table, m.
      friction: force that must be overcome, N.
    """

    name: str = "drawer"
    travel: float = 0.18
    handle: tuple[float, float, float] = (0.014, 0.009, 0.022)
    reach: float = 0.05
    height: float = 0.06
    friction: float = 0.5

    def xml(self) -> str:
        """MJCF of the cabinet and its drawer."""
        return (
            f'<body name="{self.name}" mocap="true" pos="0.56 0 0">'
            f"{_geoms(self.name, 'visual', _CABINET, 'cabinet')}"
            f'<body name="{self.name}_box" gravcomp="1">'
            f'<joint name="{self.name}" type="slide" axis="-1 0 0" range="0 {self.travel}" '
            f'limited="true" damping="4" frictionloss="{self.friction}" armature="0.05"/>'
            f'<geom name="{self.name}_front" class="obstacle" type="box" size="0.008 0.1 0.035" '
            f'pos="0 0 0.042" mass="0.4" material="drawer"/>'
            f"{_geoms(self.name + '_side', 'visual', _DRAWER_SIDES, 'drawer', 0.1)}"
            f"{self._handle_xml()}</body></body>"
        )

    def _handle_xml(self) -> str:
        x, half = -0.008 - self.reach, self.handle[2] - 0.005
        stems = "".join(
            f'<geom class="visual" type="capsule" size="0.004" '
            f'fromto="-0.008 0 {z} {x} 0 {z}" mass="0.01" material="metal"/>'
            for z in (self.height - half, self.height + half)
        )
        return (
            f'<geom name="{self.name}_handle" class="obstacle" type="box" '
            f'size="{text(self.handle)}" pos="{x} 0 {self.height}" mass="0.05" material="metal"/>'
            f"{stems}"
        )

    def rest(self) -> tuple[float, ...]:
        """Closed."""
        return (0.0,)


# In the cabinet's frame: roof, two sides and a back around the drawer, and the drawer's own.
_CABINET = (
    objects.Part("box", (0.1, 0.115, 0.006), (0.108, 0.0, 0.09)),
    objects.Part("box", (0.1, 0.006, 0.042), (0.108, 0.109, 0.042)),
    objects.Part("box", (0.1, 0.006, 0.042), (0.108, -0.109, 0.042)),
    objects.Part("box", (0.006, 0.103, 0.042), (0.202, 0.0, 0.042)),
)
_DRAWER_SIDES = (
    objects.Part("box", (0.09, 0.004, 0.025), (0.098, 0.094, 0.035)),
    objects.Part("box", (0.09, 0.004, 0.025), (0.098, -0.094, 0.035)),
    objects.Part("box", (0.09, 0.09, 0.004), (0.098, 0.0, 0.014)),
)


def _volume(part: objects.Part) -> float:
    """m^3."""
    size = np.asarray(part.size)
    if part.kind == "box":
        return float(8.0 * size.prod())
    if part.kind in ("ellipsoid", "sphere"):
        return float(4.0 / 3.0 * np.pi * np.broadcast_to(size, 3).prod())
    radius, half = part.size
    ends = 4.0 / 3.0 * np.pi * radius**3 if part.kind == "capsule" else 0.0
    return float(2.0 * np.pi * radius**2 * half + ends)


def _geoms(
    name: str, kind: str, parts: Sequence[objects.Part], material: str, mass: float = 1.0
) -> str:
    """MJCF of a body's geoms `name_<k>` of the class `kind`, of `mass` (kg) each."""
    return "".join(
        f'<geom name="{name}_{k}" class="{kind}" type="{p.kind}" size="{text(p.size)}" '
        f'pos="{text(p.pos)}" quat="{text(p.quat)}" mass="{mass}" material="{material}"/>'
        for k, p in enumerate(parts)
    )


def text(values: Sequence[float]) -> str:
    """Numbers as MJCF wants them."""
    return " ".join(repr(float(v)) for v in values)

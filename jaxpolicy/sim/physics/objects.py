"""Shapes that can be grasped: a training set, and a novel set held out of training.

A shape is one or more primitives fixed to each other. Worlds whose object changes from
episode to episode hold every primitive that any shape of their set needs, as numbered
slots of one body; the slots that a shape does not use are shrunk to a tenth of a
millimetre at the body's centre, inside what is there. All shapes of a set thus give
models of one structure, which differ in numbers alone.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxpolicy.core.specs import InputError

__all__ = ["CUBE", "NOVEL", "SETS", "SHRUNK", "TRAINING", "Part", "Shape", "get", "slots"]

SHRUNK = 1e-4  # size of an unused slot, m


@dataclasses.dataclass(frozen=True)
class Part:
    """One primitive of a shape.

    Attributes:
      kind: MuJoCo's name: "box", "capsule", "cylinder", "ellipsoid" or "sphere".
      size: MuJoCo's half-sizes, m: x y z of a box or ellipsoid, radius and half-length
        of a capsule or cylinder, radius of a sphere.
      pos: centre in the body's frame, m.
      quat: rotation in the body's frame, w first.
    """

    kind: str
    size: tuple[float, ...]
    pos: tuple[float, float, float] = (0.0, 0.0, 0.0)
    quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Shape:
    """An object's form; its body's origin is where to grasp it, with z up when it lies.

    Attributes:
      name: what it is called.
      parts: its primitives.
      rest: height of the body's origin above the table when it lies there, m.
      folds: number of tool yaws that grasp it equally well: 4 for a cube, 2 for something
        long (grasped across its x axis, at object yaw 0 with the fingers along y), 0
        where any yaw does.
    """

    name: str
    parts: tuple[Part, ...]
    rest: float
    folds: int


def _box(name: str, x: float, y: float, z: float) -> Shape:
    return Shape(name, (Part("box", (x, y, z)),), z, 4 if x == y else 2)


_ALONG_X = (0.7071067811865476, 0.0, 0.7071067811865476, 0.0)

CUBE = _box("cube", 0.02, 0.02, 0.02)

TRAINING = (
    CUBE,
    _box("small_cube", 0.016, 0.016, 0.016),
    _box("large_cube", 0.024, 0.024, 0.024),
    _box("brick", 0.032, 0.018, 0.018),
    _box("tower", 0.018, 0.018, 0.028),
)

NOVEL = (
    Shape("cylinder", (Part("cylinder", (0.02, 0.024)),), 0.024, 0),
    Shape("capsule", (Part("capsule", (0.018, 0.022), quat=_ALONG_X),), 0.018, 2),
    Shape("ellipsoid", (Part("ellipsoid", (0.032, 0.022, 0.018)),), 0.018, 2),
    Shape(
        "mallet",
        (
            Part("box", (0.034, 0.012, 0.014)),
            Part("box", (0.012, 0.032, 0.014), pos=(0.046, 0.0, 0.0)),
        ),
        0.014,
        2,
    ),
    Shape(
        "dumbbell",
        (
            Part("cylinder", (0.012, 0.024), quat=_ALONG_X),
            Part("box", (0.01, 0.02, 0.02), pos=(-0.034, 0.0, 0.0)),
            Part("box", (0.01, 0.02, 0.02), pos=(0.034, 0.0, 0.0)),
        ),
        0.02,
        2,
    ),
)

SETS: dict[str, tuple[Shape, ...]] = {"training": TRAINING, "novel": NOVEL}


def get(name: str) -> tuple[Shape, ...]:
    """The shapes of a set, or the one shape of that name.

    Raises:
      InputError: neither is called that; names those there are.
    """
    shapes = {s.name: (s,) for group in SETS.values() for s in group}
    known = SETS | shapes
    if name not in known:
        raise InputError(f"unknown env.objects '{name}'; known: {', '.join(known)}")
    return known[name]


def slots(shapes: Sequence[Shape]) -> tuple[tuple[Part, ...], ...]:
    """The parts of each shape in slots that all of them share.

    Returns:
      For each shape one part per slot; slot k is of the same kind in all of them. A slot
      that a shape does not use holds a part of size SHRUNK.
    """
    counts = [collections.Counter(p.kind for p in s.parts) for s in shapes]
    kinds = sorted({k for c in counts for k in c})
    room = [(kind, max(c[kind] for c in counts)) for kind in kinds]
    return tuple(_fill(shape, room) for shape in shapes)


def _fill(shape: Shape, room: Sequence[tuple[str, int]]) -> tuple[Part, ...]:
    filled: list[Part] = []
    for kind, n in room:
        parts = [p for p in shape.parts if p.kind == kind]
        filled += parts + [_unused(kind)] * (n - len(parts))
    return tuple(filled)


def _unused(kind: str) -> Part:
    n = {"box": 3, "ellipsoid": 3, "capsule": 2, "cylinder": 2, "sphere": 1}[kind]
    return Part(kind, tuple(np.full(n, SHRUNK)))

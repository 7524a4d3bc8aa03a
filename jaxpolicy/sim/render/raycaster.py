"""A camera in pure JAX: rgb, metric depth and segmentation of MuJoCo primitives.

One analytic ray per pixel against planes, spheres, ellipsoids, capsules, boxes and
cylinders. No graphics library is involved, so pixels are made inside `jit`, `vmap`
and `scan` on CPU, GPU and TPU. What the geoms look like is an `Appearance`, a pytree
of arrays that `vmap` can randomise; where they are comes from the physics.

Axis letters here: G geoms of the model, S rendered geoms ("slots", sorted by kind),
h x w the rays of one block of rows. Vectors over rays are sequences of three arrays
that broadcast to [h, w]: XLA fuses them where it would not fuse a trailing axis of 3.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy.core.specs import InputError
from jaxpolicy.sim.render import raycast, sensor, textures
from jaxpolicy.sim.render.scene import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    PLANE,
    Appearance,
    RenderScene,
)

__all__ = ["Appearance", "RenderOptions", "RenderOutput", "RenderScene", "render"]

Array = jax.Array | np.ndarray
Vector = Any  # three arrays over rays, or one array [3]

_ENTER = {ELLIPSOID: raycast.ellipsoid, BOX: raycast.box, CYLINDER: raycast.cylinder}
_SOLIDS = (ELLIPSOID, CAPSULE, BOX, CYLINDER)
_UNROLL = 5  # most slots per scan step: 1 is slower, all of them far slower on XLA CPU
_BLOCK_RAYS = 65536  # rays of one picture in flight at once
_GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    """Choices that change the compiled program.

    Attributes:
      shadows: lights with castshadow cast shadows.
      shadow_rays: rays per hit and light; 1 gives hard shadows, 4 or more soft ones of
        the lights' radius, at that many times the cost of shadows.
      samples: rays per pixel along each axis, averaged in rgb; depth and segmentation
        are those of one ray near the middle.
      textures: draw the appearance's checkers and noise, also on geoms whose model has
        one colour.
      sensor: apply the appearance's blur and sensor noise.
    """

    shadows: bool = True
    shadow_rays: int = 1
    samples: int = 1
    textures: bool = False
    sensor: bool = False

    def __post_init__(self) -> None:
        if self.samples < 1 or self.shadow_rays < 1:
            raise InputError(
                f"samples and shadow_rays must be at least 1, got {self.samples} and "
                f"{self.shadow_rays}"
            )


class RenderOutput(NamedTuple):
    """One picture.

    Attributes:
      rgb: uint8 [H, W, 3].
      depth: float32 [H, W] distance along the optical axis, m; `scene.far` for sky.
      segmentation: int32 [H, W] geom id, -1 for sky.
    """

    rgb: jax.Array
    depth: jax.Array
    segmentation: jax.Array


def render(
    scene: RenderScene,
    geom_xpos: Array,
    geom_xmat: Array,
    cam_pos: Array,
    cam_mat: Array,
    fovy: Array | float,
    height: int,
    width: int,
    appearance: Appearance | None = None,
    options: RenderOptions = RenderOptions(),
) -> RenderOutput:
    """One picture from one camera; `vmap` over poses, cameras and appearances.

    Args:
      scene: what to draw.
      geom_xpos: [G, 3] world positions of all geoms of the model, m.
      geom_xmat: [G, 3, 3] or [G, 9] their world rotations.
      cam_pos: [3] world position of the camera, m.
      cam_mat: [3, 3] or [9] its world rotation; it looks along its -z, with x to the
        right and y up.
      fovy: vertical field of view, degrees.
      height: H, pixels.
      width: W, pixels.
      appearance: None for the model's own.
      options: static switches.
    """
    slots, n = np.asarray(scene.geom_ids), options.samples
    tangent = jnp.tan(jnp.deg2rad(fovy) / 2.0)
    view = _View(
        frames=_frames(scene, geom_xpos[slots], geom_xmat.reshape(-1, 3, 3)[slots]),
        position=cam_pos,
        rotation=cam_mat.reshape(3, 3),
        x=-_pixel_centres(width * n) * tangent * (width / height),
    )
    look = scene.appearance if appearance is None else appearance
    shot = _Shot(scene, jax.tree.map(jnp.asarray, look), options, view)
    ys = _pixel_centres(height * n) * tangent
    # The sensor reads each pixel thrice: XLA CPU inlines a loop of one block, and would
    # then draw the picture thrice.
    blocks = ys.reshape(-1, _rows_per_block(height, width * n, n, 1 + options.sensor))
    drawn = jax.lax.map(functools.partial(_draw_rows, shot), blocks)
    packed, depth, ids = (x.reshape(height, width) for x in drawn)
    if options.sensor:
        packed = _sense(shot.look, packed)
    return RenderOutput(_unpack(packed), depth, ids)


class _Frames(NamedTuple):
    """World to canonical frame of each slot: q = matrix @ p + offset."""

    matrix: Array  # [S, 3, 3]
    offset: Array  # [S, 3]
    half: Array  # [S, 2]


class _View(NamedTuple):
    """Poses of one picture; rays are rotation @ (x, y, -1), so that t is the depth."""

    frames: _Frames
    position: Array  # [3]
    rotation: Array  # [3, 3]
    x: Array  # [w]


class _Shot(NamedTuple):
    """All that stays the same over a picture."""

    scene: RenderScene
    look: Appearance
    options: RenderOptions
    view: _View


class _Hits(NamedTuple):
    """What each ray met first."""

    depth: jax.Array  # [h, w], raycast.MISS or so for sky
    slot: jax.Array  # [h, w], any slot for sky


class _Surface(NamedTuple):
    """What shading needs at each hit."""

    point: Vector
    normal: Vector
    to_eye: Vector
    colour: Vector
    specular: jax.Array
    shininess: jax.Array
    emission: jax.Array


def _frames(scene: RenderScene, position: Array, rotation: Array) -> _Frames:
    matrix = scene.scale[:, :, None] * jnp.swapaxes(rotation, 1, 2)
    return _Frames(matrix, -jnp.einsum("sij,sj->si", matrix, position), jnp.asarray(scene.half))


def _pixel_centres(n: int) -> np.ndarray:
    """[n] centres of n pixels, from 1 (top) down to -1."""
    return (1.0 - (2.0 * np.arange(n) + 1.0) / n).astype(np.float32)


def _rows_per_block(height: int, width: int, samples: int, blocks: int) -> int:
    """Largest number of rows of rays that divides the picture into `blocks` or more that fit."""
    rows = [r for r in range(1, max(height // blocks, 1) + 1) if height % r == 0]
    fitting = [r for r in rows if r * samples * width <= _BLOCK_RAYS]
    return max(fitting, default=1) * samples


def _draw_rows(shot: _Shot, y: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows of rays at heights `y` [h]: packed colour, depth and geom id of their pixels."""
    rays = (shot.view.x[None, :], y[:, None], -np.ones((1, 1), np.float32))
    hits = _cast(shot, rays)
    world = [_dot(shot.view.rotation[i], rays) for i in range(3)]
    colour = _shade(shot, world, hits)
    sky = hits.depth >= shot.scene.far
    above = _sky_colour(shot.look, world)
    colour = [jnp.where(sky, above[c], colour[c]) for c in range(3)]
    ids = jnp.where(sky, -1, jnp.asarray(shot.scene.geom_ids, jnp.int32)[hits.slot])
    depth = jnp.where(sky, shot.scene.far, hits.depth)
    n = shot.options.samples
    middle = slice(n // 2, None, n)
    return _pack(shot.look, colour, n), depth[middle, middle], ids[middle, middle]


def _pack(look: Appearance, colour: Vector, samples: int) -> jax.Array:
    """Three [h, w] channels, exposed and averaged per pixel, as bytes of one int32.

    One word per pixel, because XLA CPU would compute three interleaved channels thrice.
    """
    gain = look.exposure * look.white_balance * 255.0
    colour = [jnp.clip(colour[c] * gain[c], 0.0, 255.0) for c in range(3)]
    if samples > 1:
        h, w = colour[0].shape
        grid = (h // samples, samples, w // samples, samples)
        colour = [c.reshape(grid).mean(axis=(1, 3)) for c in colour]
    return _bytes(colour)


def _bytes(levels: Vector) -> jax.Array:
    """int32 [...] whose low bytes are three channels in [0, 255], rounded."""
    red, green, blue = ((levels[c] + 0.5).astype(jnp.int32) for c in range(3))
    return red | green << 8 | blue << 16


def _sense(look: Appearance, packed: jax.Array) -> jax.Array:
    """A packed picture [H, W] as lens and sensor see it."""
    planes = jnp.stack([packed >> shift & 255 for shift in (0, 8, 16)]).astype(jnp.float32)
    planes = sensor.add_noise(sensor.blur(planes, look.blur), look.sensor_noise, look.sensor_seed)
    return _bytes(jnp.clip(planes, 0.0, 255.0))


def _unpack(packed: jax.Array) -> jax.Array:
    """uint8 [..., 3] from int32 [...]; the inverse of `_bytes`."""
    return jax.lax.bitcast_convert_type(packed, jnp.uint8)[..., :3]


def _cast(shot: _Shot, rays: Vector) -> _Hits:
    """First hit of every ray beyond the near plane, by a scan over the slots of a kind.

    The slot rides in the low bits of its depth, so that one minimum finds both; it
    costs 2^-18 of the depth for 32 slots.
    """
    matrix, offset, half = shot.view.frames
    direction = matrix @ shot.view.rotation
    origin = jnp.einsum("sij,j->si", matrix, shot.view.position) + offset
    count = len(shot.scene.geom_ids)
    bits = (1 << max(count - 1, 1).bit_length()) - 1

    def nearer(kind: int, best: jax.Array, slot: tuple) -> tuple[jax.Array, None]:
        index, m, o, h = slot
        t = _enter(kind, o, [_dot(m[i], rays) for i in range(3)], h)
        t = jnp.where(t > shot.scene.near, t, raycast.MISS)
        packed = jax.lax.bitcast_convert_type(t, jnp.int32) & ~bits | index
        return jnp.minimum(best, packed), None

    shape = jnp.broadcast_shapes(*(np.shape(r) for r in rays))
    best = jnp.full(shape, np.float32(raycast.MISS).view(np.int32) & ~bits, jnp.int32)
    slots = (jnp.arange(count, dtype=jnp.int32), direction, origin, half)
    best = _scan_slots(shot.scene, nearer, best, slots, (PLANE, *_SOLIDS))
    return _Hits(jax.lax.bitcast_convert_type(best & ~bits, jnp.float32), best & bits)


def _scan_slots(
    scene: RenderScene,
    step: Callable,
    carry: jax.Array,
    slots: tuple[Array, ...],
    kinds: Sequence[int],
) -> jax.Array:
    """Folds `step(kind, carry, slot)` over the slots of each of `kinds`.

    At least two scan steps per kind, or XLA would inline the loop and recompute its
    intersections in every later use; for that the last slot is repeated, which
    changes nothing.
    """
    starts = np.cumsum((0, *scene.counts))
    for kind in kinds:
        if scene.counts[kind]:
            order, unroll = _loop_order(scene.counts[kind])
            part = jax.tree.map(lambda x, rows=starts[kind] + order: x[rows], slots)
            carry, _ = jax.lax.scan(functools.partial(step, kind), carry, part, unroll=unroll)
    return carry


def _loop_order(count: int) -> tuple[np.ndarray, int]:
    """Order in which a loop visits `count` slots, and how many per step.

    Each step costs about as much again as a slot, and repeated slots cost as others do.
    """
    steps = {u: -(-count // u) for u in range(1, _UNROLL + 1)}
    costs = [((u + 1) * n, u) for u, n in steps.items() if n >= 2]
    unroll = min(costs, default=(0, 1))[1]
    total = max(steps[unroll], 2) * unroll
    return np.minimum(np.arange(total), count - 1), unroll


def _enter(kind: int, o: Vector, d: Vector, half: Array) -> jax.Array:
    """Where rays enter the primitive of a kind, in its canonical frame."""
    if kind == PLANE:
        return raycast.plane(o, d, half)
    if kind == CAPSULE:
        return raycast.capsule(o, d, half[0])
    return _ENTER[kind](o, d)


def _shade(shot: _Shot, world: Vector, hits: _Hits) -> Vector:
    """Colour of every hit: ambient, headlight and lights."""
    look, surface = shot.look, _surface(shot, world, hits)
    facing = jnp.maximum(_dot(surface.normal, surface.to_eye), 0.0)
    shine = surface.specular * _highlight(facing, surface.shininess)
    base = [surface.emission + look.ambient[c] for c in range(3)]
    glow = [base[c] + look.headlight_diffuse[c] * facing for c in range(3)]
    gloss = [look.headlight_specular[c] * shine for c in range(3)]
    for i in range(len(shot.scene.light_kinds)):
        diffuse, specular = _light(shot, surface, hits, i)
        glow = [glow[c] + look.light_diffuse[i, c] * diffuse for c in range(3)]
        gloss = [gloss[c] + look.light_specular[i, c] * specular for c in range(3)]
    return [surface.colour[c] * glow[c] + gloss[c] for c in range(3)]


def _surface(shot: _Shot, world: Vector, hits: _Hits) -> _Surface:
    """Position, normal and material at every hit."""
    matrix, offset, half = shot.view.frames
    look, ids = shot.look, np.asarray(shot.scene.geom_ids)

    def at_hit(column: Array) -> jax.Array:
        return jnp.asarray(column)[hits.slot]

    depth = jnp.minimum(hits.depth, shot.scene.far)
    point = [shot.view.position[i] + depth * world[i] for i in range(3)]
    m = [[at_hit(matrix[:, i, j]) for j in range(3)] for i in range(3)]
    q = [_dot(m[i], point) + at_hit(offset[:, i]) for i in range(3)]
    n = _canonical_normal(shot.scene, q, at_hit(half[:, 0]), hits.slot)
    normal = _unit([_dot([m[0][j], m[1][j], m[2][j]], n) for j in range(3)])
    colour = _colour(shot, q, at_hit)
    finish = (at_hit(c[ids]) for c in (look.specular, look.shininess, look.emission))
    return _Surface(point, normal, _unit([-w for w in world]), colour, *finish)


def _colour(shot: _Shot, q: Vector, at_hit: Callable[[Array], jax.Array]) -> Vector:
    """Colour of every hit, at `q` of its slot's canonical frame."""
    look, ids = shot.look, np.asarray(shot.scene.geom_ids)
    colour = [at_hit(look.rgb[ids, c]) for c in range(3)]
    if not (shot.scene.checkered or shot.options.textures):
        return colour
    second = [at_hit(look.rgb2[ids, c]) for c in range(3)]
    # Metres are canonical units over the scale; a hidden slot has none and is never hit.
    metres = 1.0 / jnp.maximum(shot.scene.scale, 1e-9)
    squares = look.squares[ids] * metres[:, :2]
    odd = textures.is_odd_square([q[i] * at_hit(squares[:, i]) for i in range(2)])
    if not shot.options.textures:
        return [jnp.where(odd, second[c], colour[c]) for c in range(3)]
    grain, phase = look.grain[ids], at_hit(look.phase[ids])
    cells = grain[:, None] * metres
    noise = textures.value_noise([q[i] * at_hit(cells[:, i]) + phase for i in range(3)])
    share = jnp.where(at_hit(grain) > 0.0, noise, odd.astype(jnp.float32))
    return [colour[c] + (second[c] - colour[c]) * share for c in range(3)]


def _canonical_normal(scene: RenderScene, q: Vector, half: jax.Array, slot: jax.Array) -> Vector:
    """Outward normal, of any length, at the point `q` of each slot's primitive."""
    size = [jnp.abs(x) for x in q]
    largest = jnp.maximum(jnp.maximum(size[0], size[1]), size[2])
    lid = size[2] * size[2] > q[0] * q[0] + q[1] * q[1]
    zero = jnp.zeros_like(q[0])
    by_kind = {
        PLANE: [zero, zero, zero + 1.0],
        ELLIPSOID: q,
        CAPSULE: [q[0], q[1], q[2] - jnp.clip(q[2], -half, half)],
        BOX: [jnp.where(size[i] >= largest, q[i], 0.0) for i in range(3)],
        CYLINDER: [jnp.where(lid, 0.0, q[0]), jnp.where(lid, 0.0, q[1]), jnp.where(lid, q[2], 0.0)],
    }
    ends, present = np.cumsum(scene.counts), [k for k in by_kind if scene.counts[k]]
    normal = list(by_kind[present[-1]])
    for kind in reversed(present[:-1]):
        mine = slot < ends[kind]
        normal = [jnp.where(mine, by_kind[kind][i], normal[i]) for i in range(3)]
    return normal


def _light(shot: _Shot, surface: _Surface, hits: _Hits, index: int) -> tuple[jax.Array, jax.Array]:
    """Diffuse and specular factor [h, w] of one light, shadows included."""
    directional, casts, cutoff = shot.scene.light_kinds[index]
    beam = -shot.look.light_direction[index]
    toward: Vector = [beam[i] for i in range(3)]
    if not directional:
        position = shot.look.light_position[index]
        toward = _unit([position[i] - surface.point[i] for i in range(3)])
    diffuse = jnp.maximum(_dot(surface.normal, toward), 0.0)
    middle = _unit([toward[i] + surface.to_eye[i] for i in range(3)])
    shine = _highlight(jnp.maximum(_dot(surface.normal, middle), 0.0), surface.shininess)
    lit = (diffuse > 0.0).astype(jnp.float32)
    if not directional and cutoff > -1.0:
        edge = 0.1 * (1.0 - cutoff)
        lit = lit * jnp.clip((_dot(toward, beam) - cutoff) / edge, 0.0, 1.0)
    if casts and shot.options.shadows:
        lit = lit * _visible_share(shot, surface.point, hits.slot, index)
    return diffuse * lit, surface.specular * shine * lit


def _visible_share(shot: _Shot, point: Vector, slot: jax.Array, index: int) -> jax.Array:
    """Share of a light that is seen from each hit, [h, w] in [0, 1]."""
    directional, n = shot.scene.light_kinds[index][0], shot.options.shadow_rays
    direction = shot.look.light_direction[index]
    centre = -direction if directional else shot.look.light_position[index]
    if n == 1:
        return _unblocked(shot, point, slot, directional, centre)
    ends = centre + shot.look.light_radius[index] * _disc(direction, n)

    def add(total: jax.Array, end: jax.Array) -> tuple[jax.Array, None]:
        return total + _unblocked(shot, point, slot, directional, end), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(point[0]), ends)
    return total / n


def _disc(axis: Array, n: int) -> jax.Array:
    """[n, 3] points spread evenly over the unit disc around `axis` [3]."""
    i = np.arange(n)
    radius, angle = np.sqrt((i + 0.5) / n), _GOLDEN_ANGLE * i
    flat = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    helper = jnp.where(jnp.abs(axis[2]) < 0.7, jnp.eye(3)[2], jnp.eye(3)[0])
    across = jnp.cross(axis, helper)
    across = across / jnp.linalg.norm(across)
    return jnp.asarray(flat) @ jnp.stack([across, jnp.cross(axis, across)])


def _unblocked(
    shot: _Shot, point: Vector, slot: jax.Array, directional: bool, end: Array
) -> jax.Array:
    """1 where nothing is between a hit and the light at (or towards) `end` [3], else 0.

    A convex geom cannot shadow a point of its own lit side, so its own rays skip it
    and need no offset from the surface.
    """
    matrix, offset, half = shot.view.frames
    ends = jnp.einsum("sij,j->si", matrix, end) + (0.0 if directional else offset)
    reach = raycast.MISS if directional else 1.0

    def blocked(kind: int, lit: jax.Array, row: tuple) -> tuple[jax.Array, None]:
        number, m, b, h, e = row
        o = [_dot(m[i], point) + b[i] for i in range(3)]
        d = [e[i] if directional else e[i] - o[i] for i in range(3)]
        t = _enter(kind, o, d, h)
        return jnp.where((t > 0.0) & (t < reach) & (slot != number), 0.0, lit), None

    numbers = jnp.arange(len(shot.scene.geom_ids), dtype=jnp.int32)
    rows = (numbers, matrix, offset, half, ends)
    return _scan_slots(shot.scene, blocked, jnp.ones_like(point[0]), rows, _SOLIDS)


def _sky_colour(look: Appearance, world: Vector) -> Vector:
    """From the horizon's colour to the zenith's by the sine of the ray's elevation."""
    up = jnp.clip(_unit(world)[2], 0.0, 1.0)
    return [look.sky[0, c] + (look.sky[1, c] - look.sky[0, c]) * up for c in range(3)]


def _highlight(cosine: jax.Array, shininess: jax.Array) -> jax.Array:
    """Schlick's rational stand-in for cosine ** (128 shininess)."""
    return cosine / (128.0 * shininess * (1.0 - cosine) + cosine + 1e-6)


def _dot(a: Vector, b: Vector) -> jax.Array:
    return jnp.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def _unit(v: Vector) -> Vector:
    inverse = jax.lax.rsqrt(jnp.maximum(_dot(v, v), 1e-20))
    return [x * inverse for x in v]

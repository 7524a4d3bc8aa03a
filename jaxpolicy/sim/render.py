"""A camera in pure JAX: rgb, metric depth and segmentation of MuJoCo primitives.

One analytic ray per pixel against planes, spheres, ellipsoids, capsules, boxes and
cylinders. No graphics library is involved, so pixels are made inside `jit`, `vmap`
and `scan` on CPU, GPU and TPU. What the geoms look like is an `Appearance`, a pytree
of arrays that `vmap` can randomise; where they are comes from the physics.

Axis letters here: G geoms of the model, S rendered geoms ("slots", sorted by kind),
L lights, h x w the pixels of one block of rows.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxpolicy.sim import raycast
from jaxpolicy.specs import InputError

__all__ = ["Appearance", "RenderOptions", "RenderOutput", "RenderScene", "render"]

_GEOM = mujoco.mjtGeom
# Slots are sorted by these kinds; spheres are ellipsoids with three equal semi-axes.
_PLANE, _ELLIPSOID, _CAPSULE, _BOX, _CYLINDER = range(5)
_KINDS = {
    int(_GEOM.mjGEOM_PLANE): _PLANE,
    int(_GEOM.mjGEOM_SPHERE): _ELLIPSOID,
    int(_GEOM.mjGEOM_ELLIPSOID): _ELLIPSOID,
    int(_GEOM.mjGEOM_CAPSULE): _CAPSULE,
    int(_GEOM.mjGEOM_BOX): _BOX,
    int(_GEOM.mjGEOM_CYLINDER): _CYLINDER,
}
_VISIBLE_GROUPS = 3  # MuJoCo's viewer shows geom groups 0, 1 and 2
_UNROLL = 5  # geoms per scan step: 1 is slower, all of them is far slower on XLA CPU
_BLOCK_PIXELS = 65536
_UNBOUNDED = 1e9  # half-size of an infinite plane, in metres
_DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)
_SKY = ((0.86, 0.90, 0.94), (0.50, 0.66, 0.84))

# Three components, each an array of one shape: a list, a tuple or [3, ...].
_Vector = Sequence[jax.Array] | jax.Array


class Appearance(NamedTuple):
    """What may look different without moving; colours are linear in [0, 1].

    Attributes:
      rgb: [G, 3] colour of each geom.
      rgb2: [G, 3] colour of the other squares of its checker, equal to rgb for none.
      squares: [G, 2] checker squares per metre along the geom's x and y.
      specular: [G] strength of the highlight.
      shininess: [G] sharpness of the highlight in [0, 1].
      emission: [G] share of the colour seen without light.
      light_position: [L, 3] world frame, m.
      light_direction: [L, 3] where it shines to, world frame, unit length.
      light_diffuse, light_specular: [L, 3].
      ambient: [3] sum over all lights.
      headlight_diffuse, headlight_specular: [3] the light at the camera.
      sky: [2, 3] colour at the horizon and at the zenith.
      exposure: [] factor on all colours.
      white_balance: [3] factor per channel.
    """

    rgb: jax.Array | np.ndarray
    rgb2: jax.Array | np.ndarray
    squares: jax.Array | np.ndarray
    specular: jax.Array | np.ndarray
    shininess: jax.Array | np.ndarray
    emission: jax.Array | np.ndarray
    light_position: jax.Array | np.ndarray
    light_direction: jax.Array | np.ndarray
    light_diffuse: jax.Array | np.ndarray
    light_specular: jax.Array | np.ndarray
    ambient: jax.Array | np.ndarray
    headlight_diffuse: jax.Array | np.ndarray
    headlight_specular: jax.Array | np.ndarray
    sky: jax.Array | np.ndarray
    exposure: jax.Array | np.ndarray
    white_balance: jax.Array | np.ndarray

    @classmethod
    def from_model(cls, model: mujoco.MjModel) -> "Appearance":
        """The model's own colours, materials, checkers and lights."""
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        head, lights = model.vis.headlight, _lights(model)
        on = float(head.active)
        value = dict(
            **_materials(model),
            light_position=data.light_xpos[lights],
            light_direction=data.light_xdir[lights],
            light_diffuse=model.light_diffuse[lights],
            light_specular=model.light_specular[lights],
            ambient=on * head.ambient + model.light_ambient[lights].sum(axis=0),
            headlight_diffuse=on * head.diffuse,
            headlight_specular=on * head.specular,
            sky=_sky(model),
            exposure=np.ones(()),
            white_balance=np.ones(3),
        )
        return cls(**{k: np.asarray(v, np.float32) for k, v in value.items()})


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    """Choices that change the compiled program.

    Attributes:
      shadows: lights with castshadow cast shadows.
      samples: rays per pixel along each axis, averaged in rgb; depth and
        segmentation are those of one ray near the middle.
    """

    shadows: bool = True
    samples: int = 1


class RenderOutput(NamedTuple):
    """One picture.

    Attributes:
      rgb: uint8 [H, W, 3].
      depth: float32 [H, W] distance along the optical axis, m; `far` for sky.
      segmentation: int32 [H, W] geom id, -1 for sky.
    """

    rgb: jax.Array
    depth: jax.Array
    segmentation: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RenderScene:
    """Geometry and default appearance of a model.

    Attributes:
      scale: float32 [S, 3] factors that bring each slot to its canonical primitive.
      half: float32 [S, 2] half-sizes of planes; half-length of capsules in radii.
      appearance: the model's own Appearance.
      geom_ids: model geom id of each slot.
      counts: number of slots of each kind.
      light_kinds: per light (directional, casts shadows, cosine of its cutoff).
      near, far: clipping distances, m.
    """

    scale: jax.Array | np.ndarray
    half: jax.Array | np.ndarray
    appearance: Appearance
    geom_ids: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    counts: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    light_kinds: tuple[tuple[bool, bool, float], ...] = dataclasses.field(metadata={"static": True})
    near: float = dataclasses.field(metadata={"static": True})
    far: float = dataclasses.field(metadata={"static": True})

    @classmethod
    def from_model(cls, model: mujoco.MjModel) -> "RenderScene":
        """Collects the visible geoms (alpha above 0, group below 3) of a model.

        Raises:
          InputError: a visible geom is not a primitive, or nothing is visible.
        """
        kinds = [(_kind(model, i), i) for i in range(model.ngeom) if _visible(model, i)]
        if not kinds:
            raise InputError("nothing to render: no geom has alpha > 0 and group < 3")
        kinds.sort()
        shapes = [_shape(kind, model.geom_size[i]) for kind, i in kinds]
        return cls(
            scale=np.asarray([s for s, _ in shapes], np.float32),
            half=np.asarray([h for _, h in shapes], np.float32),
            appearance=Appearance.from_model(model),
            geom_ids=tuple(i for _, i in kinds),
            counts=tuple(sum(k == kind for k, _ in kinds) for kind in range(5)),
            light_kinds=tuple(_light_kind(model, i) for i in _lights(model)),
            near=float(model.vis.map.znear * model.stat.extent),
            far=float(model.vis.map.zfar * model.stat.extent),
        )


def render(
    scene: RenderScene,
    geom_xpos: jax.Array,
    geom_xmat: jax.Array,
    cam_pos: jax.Array,
    cam_mat: jax.Array,
    fovy: jax.Array | float,
    height: int,
    width: int,
    appearance: Appearance | None = None,
    options: RenderOptions = RenderOptions(),
) -> RenderOutput:
    """One picture from one camera; `vmap` over poses, cameras and appearances.

    Args:
      scene: what to draw.
      geom_xpos, geom_xmat: [G, 3] and [G, 3, 3] (or [G, 9]) world poses of all geoms.
      cam_pos, cam_mat: [3] and [3, 3] (or [9]) world pose of the camera, which looks
        along its -z, x to the right, y up.
      fovy: vertical field of view, degrees.
      height, width: H and W, pixels.
      appearance: None for the model's own.
      options: static switches.
    """
    look = scene.appearance if appearance is None else appearance
    slots, n = np.asarray(scene.geom_ids), options.samples
    tangent = jnp.tan(jnp.deg2rad(fovy) / 2.0)
    view = _View(
        frames=_frames(scene, geom_xpos[slots], geom_xmat.reshape(-1, 3, 3)[slots]),
        position=cam_pos,
        rotation=cam_mat.reshape(3, 3),
        x=-_pixel_centres(width * n) * tangent * (width / height),
    )
    rows = _rows_per_block(height, width * n, n)
    ys = (_pixel_centres(height * n) * tangent).reshape(-1, rows)
    blocks = jax.lax.map(functools.partial(_draw_rows, scene, look, options, view), ys)
    packed, depth, ids = (x.reshape(height, width) for x in blocks)
    return RenderOutput(_unpack(packed), depth, ids)


class _Frames(NamedTuple):
    """World to canonical frame of each slot: q = matrix @ p + offset."""

    matrix: jax.Array  # [S, 3, 3]
    offset: jax.Array  # [S, 3]
    half: jax.Array  # [S, 2]


class _View(NamedTuple):
    """Poses of one picture; rays are rotation @ (x, y, -1)."""

    frames: _Frames
    position: jax.Array  # [3]
    rotation: jax.Array  # [3, 3]
    x: jax.Array | np.ndarray  # [w]


class _Hits(NamedTuple):
    """What each ray met first."""

    depth: jax.Array  # [h, w], raycast.MISS or more for sky
    slot: jax.Array  # [h, w], any value for sky


def _frames(scene: RenderScene, position: jax.Array, rotation: jax.Array) -> _Frames:
    matrix = jnp.asarray(scene.scale)[:, :, None] * jnp.swapaxes(rotation, 1, 2)
    return _Frames(matrix, -jnp.einsum("sij,sj->si", matrix, position), jnp.asarray(scene.half))


def _pixel_centres(n: int) -> np.ndarray:
    """[n] centres of n pixels, from 1 (top) down to -1."""
    return (1.0 - (2.0 * np.arange(n) + 1.0) / n).astype(np.float32)


def _rows_per_block(height: int, width: int, samples: int) -> int:
    """Largest number of rows of rays that divides the picture and fits a block."""
    rows = [r for r in range(1, height + 1) if height % r == 0]
    fitting = [r for r in rows if r * samples * width <= _BLOCK_PIXELS]
    return max(fitting, default=1) * samples


def _draw_rows(
    scene: RenderScene, look: Appearance, options: RenderOptions, view: _View, y: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows of rays at heights `y` [h]: packed colour, depth and geom id of their pixels."""
    rays = (jnp.asarray(view.x)[None, :], y[:, None], -jnp.ones((1, 1)))
    hits = _cast(scene, view, rays)
    world = [_dot(view.rotation[i], rays) for i in range(3)]
    colour = _shade(scene, look, options, view, world, hits)
    sky = hits.depth >= scene.far
    above = _sky_colour(look, world)
    colour = [jnp.where(sky, above[c], colour[c]) for c in range(3)]
    ids = jnp.where(sky, -1, jnp.asarray(scene.geom_ids, jnp.int32)[hits.slot])
    depth = jnp.where(sky, scene.far, hits.depth)
    n = options.samples
    middle = slice(n // 2, None, n)
    return _pack(look, colour, n), depth[middle, middle], ids[middle, middle]


def _pack(look: Appearance, colour: list[jax.Array], samples: int) -> jax.Array:
    """Three [h, w] channels, exposed and averaged per pixel, as bytes of one int32."""
    if samples > 1:
        h, w = colour[0].shape
        grid = (h // samples, samples, w // samples, samples)
        colour = [c.reshape(grid).mean(axis=(1, 3)) for c in colour]
    gain = look.exposure * look.white_balance * 255.0
    levels = [jnp.clip(colour[c] * gain[c] + 0.5, 0.0, 255.0).astype(jnp.int32) for c in range(3)]
    return levels[0] | levels[1] << 8 | levels[2] << 16


def _unpack(packed: jax.Array) -> jax.Array:
    """uint8 [..., 3] from int32 [...]; the inverse of `_pack`'s last line."""
    return jax.lax.bitcast_convert_type(packed, jnp.uint8)[..., :3]


def _cast(scene: RenderScene, view: _View, rays: Sequence[jax.Array]) -> _Hits:
    """First hit of every ray beyond the near plane, by a scan over slots of a kind."""
    matrix, offset, half = view.frames
    direction = matrix @ view.rotation
    origin = jnp.einsum("sij,j->si", matrix, view.position) + offset
    shape = jnp.broadcast_shapes(rays[0].shape, rays[1].shape)
    bits = _slot_bits(scene)

    def nearer(kind: int, best: jax.Array, slot: tuple) -> tuple[jax.Array, None]:
        index, m, o, h = slot
        d = [m[i, 0] * rays[0] + m[i, 1] * rays[1] + m[i, 2] * rays[2] for i in range(3)]
        t = _enter(kind, o, d, h)
        t = jnp.where(t > scene.near, t, raycast.MISS)
        packed = jax.lax.bitcast_convert_type(t, jnp.int32) & ~bits | index
        return jnp.minimum(best, packed), None

    best = jnp.full(shape, np.float32(raycast.MISS).view(np.int32) & ~bits, jnp.int32)
    slots = (jnp.arange(len(scene.geom_ids), dtype=jnp.int32), direction, origin, half)
    best = _scan_slots(scene, nearer, best, slots)
    return _Hits(jax.lax.bitcast_convert_type(best & ~bits, jnp.float32), best & bits)


def _slot_bits(scene: RenderScene) -> int:
    """Mask of the low bits of a depth that hold its slot: 2^-17 of depth for 64 geoms."""
    return (1 << max(len(scene.geom_ids) - 1, 1).bit_length()) - 1


def _scan_slots(
    scene: RenderScene,
    step: Callable,
    carry: jax.Array,
    slots: tuple[jax.Array, ...],
    kinds: tuple[int, ...] = (_PLANE, _ELLIPSOID, _CAPSULE, _BOX, _CYLINDER),
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
    """Order in which a loop visits `count` slots, and how many per step."""
    candidates = [(-(-count // u) * u, -u) for u in range(1, _UNROLL + 1) if -(-count // u) >= 2]
    total, unroll = min(candidates, default=(2, -1))
    return np.minimum(np.arange(total), count - 1), -unroll


def _enter(kind: int, o: list[jax.Array], d: list[jax.Array], half: jax.Array) -> jax.Array:
    """Where rays enter the primitive of a kind, in its canonical frame."""
    if kind == _PLANE:
        return raycast.plane(o, d, half)
    if kind == _CAPSULE:
        return raycast.capsule(o, d, half[0])
    return {_ELLIPSOID: raycast.ellipsoid, _BOX: raycast.box, _CYLINDER: raycast.cylinder}[kind](
        o, d
    )


class _Surface(NamedTuple):
    """What shading needs at each hit; vectors are lists of three [h, w] arrays."""

    point: list[jax.Array]
    normal: list[jax.Array]
    to_eye: list[jax.Array]
    colour: list[jax.Array]
    specular: jax.Array
    shininess: jax.Array
    emission: jax.Array


def _shade(
    scene: RenderScene,
    look: Appearance,
    options: RenderOptions,
    view: _View,
    world: list[jax.Array],
    hits: _Hits,
) -> list[jax.Array]:
    """Colour of every hit: ambient, headlight and lights, as three [h, w] arrays."""
    surface = _surface(scene, look, view, world, hits)
    facing = jnp.maximum(_dot(surface.normal, surface.to_eye), 0.0)
    shine = surface.specular * _highlight(facing, surface.shininess)
    glow = [
        surface.emission + look.ambient[c] + look.headlight_diffuse[c] * facing for c in range(3)
    ]
    gloss = [look.headlight_specular[c] * shine for c in range(3)]
    for i, kind in enumerate(scene.light_kinds):
        diffuse, specular = _light(scene, look, options, view, surface, hits, i, kind)
        glow = [glow[c] + look.light_diffuse[i, c] * diffuse for c in range(3)]
        gloss = [gloss[c] + look.light_specular[i, c] * specular for c in range(3)]
    return [surface.colour[c] * glow[c] + gloss[c] for c in range(3)]


def _surface(
    scene: RenderScene, look: Appearance, view: _View, world: list[jax.Array], hits: _Hits
) -> _Surface:
    """Position, normal and material at every hit."""
    matrix, offset, half = view.frames
    ids = np.asarray(scene.geom_ids)
    columns = (
        matrix.reshape(-1, 9),
        offset,
        half[:, :1],
        1.0 / jnp.asarray(scene.scale)[:, :2],
        look.rgb[ids],
        look.rgb2[ids],
        look.squares[ids],
        look.specular[ids][:, None],
        look.shininess[ids][:, None],
        look.emission[ids][:, None],
    )
    table = jnp.concatenate([jnp.asarray(c) for c in columns], axis=1)
    v = [table[:, k][hits.slot] for k in range(table.shape[1])]
    depth = jnp.minimum(hits.depth, scene.far)
    point = [view.position[i] + depth * world[i] for i in range(3)]
    q: list[Any] = [sum(v[3 * i + j] * point[j] for j in range(3)) + v[9 + i] for i in range(3)]
    n = _canonical_normal(scene, q, v[12], hits.slot)
    rotated: list[Any] = [sum(v[3 * i + j] * n[i] for i in range(3)) for j in range(3)]
    normal = _unit(rotated)
    odd = (jnp.floor(q[0] * v[13] * v[21]) + jnp.floor(q[1] * v[14] * v[22])) % 2.0 > 0.5
    colour = [jnp.where(odd, v[18 + c], v[15 + c]) for c in range(3)]
    to_eye = _unit([-w for w in world])
    return _Surface(point, normal, to_eye, colour, v[23], v[24], v[25])


def _canonical_normal(
    scene: RenderScene, q: list[jax.Array], half: jax.Array, slot: jax.Array
) -> list[jax.Array]:
    """Outward normal, of any length, at the point `q` of each slot's primitive."""
    ends = np.cumsum(scene.counts)
    size = [jnp.abs(x) for x in q]
    largest = jnp.maximum(jnp.maximum(size[0], size[1]), size[2])
    on_lid = size[2] * size[2] > q[0] * q[0] + q[1] * q[1]
    zero = jnp.zeros_like(q[0])
    by_kind = [
        [zero, zero, zero + 1.0],
        q,
        [q[0], q[1], q[2] - jnp.clip(q[2], -half, half)],
        [jnp.where(size[i] >= largest, q[i], 0.0) for i in range(3)],
        [jnp.where(on_lid, 0.0, q[0]), jnp.where(on_lid, 0.0, q[1]), jnp.where(on_lid, q[2], 0.0)],
    ]
    normal = by_kind[-1]
    for kind in reversed(range(4)):
        mine = slot < ends[kind]
        normal = [jnp.where(mine, by_kind[kind][i], normal[i]) for i in range(3)]
    return normal


def _light(
    scene: RenderScene,
    look: Appearance,
    options: RenderOptions,
    view: _View,
    surface: _Surface,
    hits: _Hits,
    index: int,
    kind: tuple[bool, bool, float],
) -> tuple[jax.Array, jax.Array]:
    """Diffuse and specular factor [h, w] of one light, shadows included."""
    directional, casts, cutoff = kind
    toward = [-look.light_direction[index, i] for i in range(3)]
    beam = toward
    if not directional:
        toward = _unit([look.light_position[index, i] - surface.point[i] for i in range(3)])
    diffuse = jnp.maximum(_dot(surface.normal, toward), 0.0)
    middle = _unit([toward[i] + surface.to_eye[i] for i in range(3)])
    shine = _highlight(jnp.maximum(_dot(surface.normal, middle), 0.0), surface.shininess)
    lit = (diffuse > 0.0).astype(jnp.float32)
    if not directional and cutoff > -1.0:
        lit = lit * jnp.clip((_dot(toward, beam) - cutoff) / (0.1 * (1.0 - cutoff)), 0.0, 1.0)
    if casts and options.shadows:
        lit = lit * _visible_share(scene, look, view, surface, hits, index, directional)
    return diffuse * lit, surface.specular * shine * lit


def _visible_share(
    scene: RenderScene,
    look: Appearance,
    view: _View,
    surface: _Surface,
    hits: _Hits,
    index: int,
    directional: bool,
) -> jax.Array:
    """1 where the light is seen from the hit, 0 where a geom is between, [h, w].

    A convex geom cannot shadow a point of its own lit side, so its own rays skip it
    and need no offset from the surface.
    """
    matrix, offset, half = view.frames
    if directional:
        light = -jnp.einsum("sij,j->si", matrix, look.light_direction[index])
    else:
        light = jnp.einsum("sij,j->si", matrix, look.light_position[index]) + offset

    def blocked(kind: int, lit: jax.Array, slot: tuple) -> tuple[jax.Array, None]:
        number, m, b, h, end = slot
        o = [_dot(m[i], surface.point) + b[i] for i in range(3)]
        d = [end[i] if directional else end[i] - o[i] for i in range(3)]
        t = _enter(kind, o, d, h)
        hit = (t > 0.0) & (t < (raycast.MISS if directional else 1.0)) & (hits.slot != number)
        return jnp.where(hit, 0.0, lit), None

    slots = (jnp.arange(len(scene.geom_ids), dtype=jnp.int32), matrix, offset, half, light)
    solid = (_ELLIPSOID, _CAPSULE, _BOX, _CYLINDER)
    return _scan_slots(scene, blocked, jnp.ones_like(hits.depth), slots, solid)


def _sky_colour(look: Appearance, world: list[jax.Array]) -> list[jax.Array]:
    """From the horizon's colour to the zenith's by the sine of the ray's elevation."""
    up = jnp.clip(_unit(world)[2], 0.0, 1.0)
    return [look.sky[0, c] + (look.sky[1, c] - look.sky[0, c]) * up for c in range(3)]


def _highlight(cosine: jax.Array, shininess: jax.Array) -> jax.Array:
    """Schlick's rational stand-in for cosine ** (128 shininess)."""
    return cosine / (128.0 * shininess * (1.0 - cosine) + cosine + 1e-6)


def _dot(a: _Vector, b: _Vector) -> jax.Array:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(v: list[jax.Array]) -> list[jax.Array]:
    inverse = jax.lax.rsqrt(jnp.maximum(_dot(v, v), 1e-20))
    return [x * inverse for x in v]


def _visible(model: mujoco.MjModel, geom: int) -> bool:
    return bool(model.geom_group[geom] < _VISIBLE_GROUPS and _rgba(model, geom)[3] > 0.0)


def _rgba(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """[4] colour as MuJoCo's viewer picks it: the geom's if set, else its material's."""
    own, material = model.geom_rgba[geom], model.geom_matid[geom]
    unset = np.array_equal(own, np.asarray(_DEFAULT_RGBA, np.float32))
    return model.mat_rgba[material] if unset and material >= 0 else own


def _kind(model: mujoco.MjModel, geom: int) -> int:
    kind = _KINDS.get(int(model.geom_type[geom]))
    if kind is None:
        shape = _GEOM(model.geom_type[geom]).name.removeprefix("mjGEOM_").lower()
        raise InputError(
            f"geom {geom} '{model.geom(geom).name}' is a {shape}, which the renderer cannot draw; "
            "use primitives, or hide it in geom group 3"
        )
    return kind


def _shape(kind: int, size: np.ndarray) -> tuple[list[float], list[float]]:
    """Factors to the canonical primitive [3] and its half-sizes [2] from geom_size [3]."""
    x, y, z = (float(v) for v in size)
    if kind == _PLANE:
        return [1.0, 1.0, 1.0], [x or _UNBOUNDED, y or _UNBOUNDED]
    if kind == _ELLIPSOID:
        return [1.0 / x, 1.0 / (y or x), 1.0 / (z or x)], [0.0, 0.0]
    if kind == _CAPSULE:
        return [1.0 / x] * 3, [y / x, 0.0]
    if kind == _BOX:
        return [1.0 / x, 1.0 / y, 1.0 / z], [0.0, 0.0]
    return [1.0 / x, 1.0 / x, 1.0 / y], [0.0, 0.0]


def _materials(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """Colour and material of every geom, as fields of Appearance."""
    rows = [_material(model, i) for i in range(model.ngeom)]
    return {name: np.asarray([row[name] for row in rows]) for name in rows[0]}


def _material(model: mujoco.MjModel, geom: int) -> dict[str, np.ndarray]:
    rgb, material = _rgba(model, geom)[:3], model.geom_matid[geom]
    rgb1, rgb2, squares = _checker(model, geom)
    has = material >= 0
    return {
        "rgb": rgb * rgb1,
        "rgb2": rgb * rgb2,
        "squares": squares,
        "specular": model.mat_specular[material] if has else 0.5,
        "shininess": model.mat_shininess[material] if has else 0.5,
        "emission": model.mat_emission[material] if has else 0.0,
    }


def _checker(model: mujoco.MjModel, geom: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours [3] of two neighbouring squares and squares per metre [2] of a geom.

    MuJoCo's builtin checker has 2 x 2 squares per picture; any other texture is
    drawn as its mean colour.
    """
    texture = _texture(model, geom)
    if texture is None:
        return np.ones(3), np.ones(3), np.zeros(2)
    h, w = texture.shape[:2]
    first, second = texture[h // 8, w // 8], texture[h // 8, w - 1 - w // 8]
    if np.array_equal(first, second) or not np.array_equal(
        first, texture[-1 - h // 8, -1 - w // 8]
    ):
        mean = texture.reshape(-1, texture.shape[2])[:, :3].mean(axis=0)
        return mean, mean, np.zeros(2)
    material = model.geom_matid[geom]
    repeat = model.mat_texrepeat[material]
    size = model.geom_size[geom][:2]
    uniform = model.mat_texuniform[material] or not size.all()
    return first[:3], second[:3], 2.0 * repeat / (np.ones(2) if uniform else 2.0 * size)


def _texture(model: mujoco.MjModel, geom: int) -> np.ndarray | None:
    """Colour texture [h, w, channels] in [0, 1] of a geom's material, if any."""
    material = model.geom_matid[geom]
    if material < 0:
        return None
    ids = model.mat_texid[material]
    index = max(
        ids[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)],
        ids[int(mujoco.mjtTextureRole.mjTEXROLE_RGBA)],
    )
    return None if index < 0 else _texels(model, index)


def _texels(model: mujoco.MjModel, index: int) -> np.ndarray:
    h, w, c = (int(x[index]) for x in (model.tex_height, model.tex_width, model.tex_nchannel))
    start = int(model.tex_adr[index])
    return model.tex_data[start : start + h * w * c].reshape(h, w, c) / 255.0


def _sky(model: mujoco.MjModel) -> np.ndarray:
    """[2, 3] horizon and zenith of the model's skybox, or a pale blue."""
    boxes = np.flatnonzero(model.tex_type == int(mujoco.mjtTexture.mjTEXTURE_SKYBOX))
    if not len(boxes):
        return np.asarray(_SKY)
    faces = _texels(model, boxes[0])
    width = faces.shape[1]
    up = faces[2 * width : 3 * width] if faces.shape[0] >= 6 * width else faces
    return np.stack([faces[width // 2, :, :3].mean(axis=0), up[..., :3].mean(axis=(0, 1))])


def _lights(model: mujoco.MjModel) -> np.ndarray:
    return np.flatnonzero(model.light_active)


def _light_kind(model: mujoco.MjModel, light: int) -> tuple[bool, bool, float]:
    """(directional, casts shadows, cosine of the cutoff angle)."""
    kind, spot = model.light_type[light], int(mujoco.mjtLightType.mjLIGHT_SPOT)
    cutoff = float(model.light_cutoff[light]) if kind == spot else 180.0
    directional = kind == int(mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
    return directional, bool(model.light_castshadow[light]), float(np.cos(np.deg2rad(cutoff)))

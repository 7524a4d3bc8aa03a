"""What the renderer draws: geometry and looks of the visible geoms of an MjModel.

Axis letters: G geoms of the model, S rendered geoms ("slots", sorted by kind),
L active lights.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxpolicy.core.specs import InputError

__all__ = ["BOX", "CAPSULE", "CYLINDER", "ELLIPSOID", "PLANE", "Appearance", "RenderScene"]

Array = jax.Array | np.ndarray

# Slots are sorted by these kinds; spheres are ellipsoids with three equal semi-axes.
PLANE, ELLIPSOID, CAPSULE, BOX, CYLINDER = range(5)
_GEOM = mujoco.mjtGeom
_KINDS = {
    int(_GEOM.mjGEOM_PLANE): PLANE,
    int(_GEOM.mjGEOM_SPHERE): ELLIPSOID,
    int(_GEOM.mjGEOM_ELLIPSOID): ELLIPSOID,
    int(_GEOM.mjGEOM_CAPSULE): CAPSULE,
    int(_GEOM.mjGEOM_BOX): BOX,
    int(_GEOM.mjGEOM_CYLINDER): CYLINDER,
}
_VISIBLE_GROUPS = 3  # MuJoCo's viewer shows geom groups 0, 1 and 2
_UNBOUNDED = 1e9  # half-size of an infinite plane, m
_HIDDEN = 2.5e-4  # geoms of which no half-size is larger are not drawn, m
_DEFAULT_RGBA = np.asarray((0.5, 0.5, 0.5, 1.0), np.float32)
_DEFAULT_SKY = ((0.86, 0.90, 0.94), (0.50, 0.66, 0.84))


class Appearance(NamedTuple):
    """What may look different without moving; float32 but the seed, colours in [0, 1].

    Attributes:
      rgb: [G, 3] colour of each geom.
      rgb2: [G, 3] the other colour of its pattern, equal to rgb for none.
      squares: [G, 2] checker squares per metre along the geom's x and y.
      grain: [G] cells per metre of smooth noise between both colours; 0 for a checker.
      phase: [G] where in the noise the geom's origin is, cells.
      specular: [G] strength of the highlight.
      shininess: [G] sharpness of the highlight in [0, 1].
      emission: [G] share of the colour seen without light.
      light_position: [L, 3] world frame, m.
      light_direction: [L, 3] where it shines to, world frame, unit length.
      light_radius: [L] of the bulb, m; softens shadows where several shadow rays are
        used. For a directional light, the tangent of its angular radius.
      light_diffuse, light_specular: [L, 3].
      ambient: [3] sum over all lights.
      headlight_diffuse, headlight_specular: [3] the light at the camera.
      sky: [2, 3] colour at the horizon and at the zenith.
      exposure: [] factor on all colours.
      white_balance: [3] factor per channel.
      blur: [] standard deviation of the lens's blur, pixels.
      sensor_noise: [] standard deviation of the sensor's noise, levels of 255.
      sensor_seed: uint32 [] which noise.
    """

    rgb: Array
    rgb2: Array
    squares: Array
    grain: Array
    phase: Array
    specular: Array
    shininess: Array
    emission: Array
    light_position: Array
    light_direction: Array
    light_radius: Array
    light_diffuse: Array
    light_specular: Array
    ambient: Array
    headlight_diffuse: Array
    headlight_specular: Array
    sky: Array
    exposure: Array
    white_balance: Array
    blur: Array
    sensor_noise: Array
    sensor_seed: Array

    @classmethod
    def from_model(cls, model: mujoco.MjModel) -> "Appearance":
        """The model's own colours, materials, checkers and lights."""
        fields = {**_materials(model), **_lighting(model)}
        none = np.zeros(model.ngeom)
        fields |= {"sky": _sky(model), "grain": none, "phase": none}
        fields |= {"exposure": np.ones(()), "white_balance": np.ones(3)}
        fields |= {"blur": np.zeros(()), "sensor_noise": np.zeros(())}
        numbers = {name: np.asarray(value, np.float32) for name, value in fields.items()}
        return cls(**numbers, sensor_seed=np.zeros((), np.uint32))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RenderScene:
    """Geometry and default appearance of a model.

    Attributes:
      scale: float32 [S, 3] factors that bring each slot to its canonical primitive; zero
        for what is too small to draw, which no ray then enters.
      half: float32 [S, 2] half-sizes of planes; half-length of capsules in radii.
      appearance: the model's own Appearance.
      geom_ids: model geom id of each slot.
      counts: number of slots of each kind.
      light_kinds: per light (directional, casts shadows, cosine of its cutoff).
      checkered: some geom has two colours.
      near, far: clipping distances, m.
    """

    scale: Array
    half: Array
    appearance: Appearance
    geom_ids: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    counts: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    light_kinds: tuple[tuple[bool, bool, float], ...] = dataclasses.field(metadata={"static": True})
    checkered: bool = dataclasses.field(metadata={"static": True})
    near: float = dataclasses.field(metadata={"static": True})
    far: float = dataclasses.field(metadata={"static": True})

    @classmethod
    def from_model(cls, model: mujoco.MjModel) -> "RenderScene":
        """Collects the visible geoms (alpha above 0, group below 3) of a model.

        A geom of at most a quarter of a millimetre in every direction keeps its slot but
        is not drawn: that is how a pool of models leaves objects out.

        Raises:
          InputError: a visible geom is not a primitive, or nothing is visible.
        """
        slots = sorted((_kind(model, i), i) for i in range(model.ngeom) if _visible(model, i))
        if not slots:
            raise InputError("nothing to render: no geom has alpha > 0 and group < 3")
        scale, half = _shapes(model, slots)
        looks = Appearance.from_model(model)
        return cls(
            scale=scale,
            half=half,
            appearance=looks,
            geom_ids=tuple(i for _, i in slots),
            counts=tuple(sum(k == kind for k, _ in slots) for kind in range(5)),
            light_kinds=tuple(_light_kind(model, i) for i in _lights(model)),
            checkered=bool((looks.squares > 0).any()),
            near=float(model.vis.map.znear * model.stat.extent),
            far=float(model.vis.map.zfar * model.stat.extent),
        )

    def of_pool(self, models: Sequence[mujoco.MjModel]) -> "RenderScene":
        """This scene with the shapes of K variants of its model: scale [K, S, 3], half [K, S, 2].

        Raises:
          InputError: a geom is of another type in one of them.
        """
        kinds = np.repeat(np.arange(len(self.counts)), self.counts)
        slots = list(zip(kinds.tolist(), self.geom_ids, strict=True))
        for model in models:
            if any(_kind(model, i) != kind for kind, i in slots):
                raise InputError("models of one pool must have the same types of geoms")
        scale, half = zip(*(_shapes(model, slots) for model in models), strict=True)
        return dataclasses.replace(self, scale=np.stack(scale), half=np.stack(half))

    def pick(self, variant: Array) -> "RenderScene":
        """One variant, int [], of a scene `of_pool`."""
        scale, half = jnp.asarray(self.scale)[variant], jnp.asarray(self.half)[variant]
        return dataclasses.replace(self, scale=scale, half=half)


def _shapes(model: mujoco.MjModel, slots: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
    """`scale` [S, 3] and `half` [S, 2] of slots (kind, geom)."""
    shapes = [_shape(kind, _size(model, i)) for kind, i in slots]
    scale, half = zip(*shapes, strict=True)
    return np.asarray(scale, np.float32), np.asarray(half, np.float32)


def _visible(model: mujoco.MjModel, geom: int) -> bool:
    return bool(model.geom_group[geom] < _VISIBLE_GROUPS and _rgba(model, geom)[3] > 0.0)


def _rgba(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """[4] colour as MuJoCo's viewer picks it: the geom's if set, else its material's."""
    own, material = model.geom_rgba[geom], model.geom_matid[geom]
    unset = np.array_equal(own, _DEFAULT_RGBA)
    return model.mat_rgba[material] if unset and material >= 0 else own


def _kind(model: mujoco.MjModel, geom: int) -> int:
    kind = _KINDS.get(int(model.geom_type[geom]))
    if kind is None:
        shape = _GEOM(model.geom_type[geom]).name.removeprefix("mjGEOM_").lower()
        raise InputError(
            f"geom {geom} '{model.geom(geom).name}' is a {shape}, which the renderer cannot "
            "draw; use primitives, or hide it in geom group 3"
        )
    return kind


def _size(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """[3] geom_size, of which a sphere uses only the first whatever the others hold."""
    size = model.geom_size[geom]
    return size[[0, 0, 0]] if model.geom_type[geom] == _GEOM.mjGEOM_SPHERE else size


def _shape(kind: int, size: np.ndarray) -> tuple[list[float], list[float]]:
    """Factors to the canonical primitive [3] and its half-sizes [2] from geom_size [3]."""
    x, y, z = (float(v) for v in size)
    if kind == PLANE:
        return [1.0, 1.0, 1.0], [x or _UNBOUNDED, y or _UNBOUNDED]
    if max(x, y, z) <= _HIDDEN:
        return [0.0, 0.0, 0.0], [0.0, 0.0]
    if kind in (ELLIPSOID, BOX):
        return [1.0 / x, 1.0 / y, 1.0 / z], [0.0, 0.0]
    if kind == CAPSULE:
        return [1.0 / x] * 3, [y / x, 0.0]
    return [1.0 / x, 1.0 / x, 1.0 / y], [0.0, 0.0]


def _materials(model: mujoco.MjModel) -> dict[str, Any]:
    """Colour and material of every geom, as fields of Appearance."""
    rows = [_material(model, i) for i in range(model.ngeom)]
    return {name: np.asarray([row[name] for row in rows]) for name in rows[0]}


def _material(model: mujoco.MjModel, geom: int) -> dict[str, Any]:
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
    y, x = texture.shape[0] // 8, texture.shape[1] // 8
    first, second, third = texture[y, x], texture[y, -1 - x], texture[-1 - y, -1 - x]
    if np.array_equal(first, second) or not np.array_equal(first, third):
        mean = texture.mean(axis=(0, 1))
        return mean, mean, np.zeros(2)
    material, size = model.geom_matid[geom], model.geom_size[geom][:2]
    metric = model.mat_texuniform[material] or not size.all()
    span = np.ones(2) if metric else 2.0 * size
    return first, second, 2.0 * model.mat_texrepeat[material] / span


def _texture(model: mujoco.MjModel, geom: int) -> np.ndarray | None:
    """Colour texture [h, w, 3] in [0, 1] of a geom's material, if any."""
    material, role = model.geom_matid[geom], mujoco.mjtTextureRole
    if material < 0:
        return None
    ids = model.mat_texid[material]
    index = max(ids[int(role.mjTEXROLE_RGB)], ids[int(role.mjTEXROLE_RGBA)])
    return None if index < 0 else _texels(model, int(index))


def _texels(model: mujoco.MjModel, index: int) -> np.ndarray:
    h, w, c = (int(x[index]) for x in (model.tex_height, model.tex_width, model.tex_nchannel))
    start = int(model.tex_adr[index])
    texels = model.tex_data[start : start + h * w * c].reshape(h, w, c) / 255.0
    return texels[..., :3] if c >= 3 else np.repeat(texels[..., :1], 3, axis=-1)


def _sky(model: mujoco.MjModel) -> np.ndarray:
    """[2, 3] horizon and zenith of the model's skybox, or a pale blue."""
    boxes = np.flatnonzero(model.tex_type == int(mujoco.mjtTexture.mjTEXTURE_SKYBOX))
    if not len(boxes):
        return np.asarray(_DEFAULT_SKY)
    faces = _texels(model, int(boxes[0]))  # [6 w, w, 3]: right, left, up, down, front, back
    width = faces.shape[1]
    up = faces[2 * width : 3 * width] if faces.shape[0] >= 6 * width else faces
    return np.stack([faces[width // 2].mean(axis=0), up.mean(axis=(0, 1))])


def _lighting(model: mujoco.MjModel) -> dict[str, Any]:
    """Lights at the model's reference pose, as fields of Appearance."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
    head, lights = model.vis.headlight, _lights(model)
    on = float(head.active)
    return {
        "light_position": data.light_xpos[lights],
        "light_direction": data.light_xdir[lights],
        "light_radius": model.light_bulbradius[lights],
        "light_diffuse": model.light_diffuse[lights],
        "light_specular": model.light_specular[lights],
        "ambient": on * head.ambient + model.light_ambient[lights].sum(axis=0),
        "headlight_diffuse": on * head.diffuse,
        "headlight_specular": on * head.specular,
    }


def _lights(model: mujoco.MjModel) -> np.ndarray:
    return np.flatnonzero(model.light_active)


def _light_kind(model: mujoco.MjModel, light: int) -> tuple[bool, bool, float]:
    """(directional, casts shadows, cosine of the cutoff angle)."""
    kind, spot = int(model.light_type[light]), int(mujoco.mjtLightType.mjLIGHT_SPOT)
    cutoff = float(model.light_cutoff[light]) if kind == spot else 180.0
    directional = kind == int(mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
    return directional, bool(model.light_castshadow[light]), float(np.cos(np.deg2rad(cutoff)))

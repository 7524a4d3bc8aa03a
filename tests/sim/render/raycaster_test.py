"""The ray caster against hand-worked pixels, MuJoCo's ray caster and its renderer."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.core.specs import InputError
from jaxpolicy.sim.render import raycast, raycaster, textures
from jaxpolicy.sim.render.raycaster import Appearance, RenderOptions, RenderScene

SIZE = 48
TYPES = ("sphere", "ellipsoid", "capsule", "box", "cylinder")
HARD, FLAT = RenderOptions(), RenderOptions(shadows=False)

# A sun straight down on a grey floor, and a box that floats above it.
SUN = """<mujoco><visual><headlight active="0"/></visual><worldbody>
<light type="directional" pos="0 0 3" dir="0 0 -1" ambient=".2 .2 .2" diffuse=".8 .8 .8"
  specular="0 0 0" bulbradius=".1"/>
<camera name="top" pos="0 0 4" fovy="60"/>
<camera name="up" pos="0 0 1" xyaxes="1 0 0 0 -1 0"/>
<camera name="level" pos="0 -1.5 1" xyaxes="1 0 0 0 0 1" fovy="60"/>
<geom name="floor" type="plane" size="0 0 1" rgba=".4 .6 .2 1"/>
<geom name="box" type="box" size=".5 .5 .1" pos="0 0 2" rgba="1 0 0 {alpha}" group="{group}"/>
</worldbody></mujoco>"""


def mixed_xml(seed=0, count=4):
    """A floor and `count` random geoms of every type, seen by two cameras."""
    rng = np.random.default_rng(seed)
    geoms = []
    for i in range(count * len(TYPES)):
        quat = rng.normal(size=4)
        pos = rng.uniform([-0.6, -0.6, 0.1], [0.6, 0.6, 0.8])
        size = rng.uniform(0.04, 0.16, size=3)
        rgb = rng.uniform(size=3)
        fields = {"pos": pos, "quat": quat / np.linalg.norm(quat), "size": size, "rgba": [*rgb, 1]}
        text = " ".join(f'{k}="{" ".join(f"{x:.4f}" for x in v)}"' for k, v in fields.items())
        geoms.append(f'<geom name="g{i}" type="{TYPES[i % len(TYPES)]}" {text}/>')
    return f"""<mujoco><statistic extent="2" center="0 0 .4"/><worldbody>
    <light pos="1 -1 3" dir="-.3 .3 -1" cutoff="80"/>
    <camera name="a" pos="1.6 0.3 1.1" xyaxes="-.2 1 0 -.5 -.1 .9" fovy="50"/>
    <camera name="b" pos="-.2 -1.8 .9" xyaxes="1 0 0 0 .3 1" fovy="50"/>
    <geom name="floor" type="plane" size="3 3 .1" pos="0 0 -.2"/>{"".join(geoms)}
    </worldbody></mujoco>"""


def load(xml):
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def poses(data, camera):
    """The pose arguments of `render`."""
    arrays = (data.geom_xpos, data.geom_xmat, data.cam_xpos[camera], data.cam_xmat[camera])
    return tuple(jnp.asarray(x, jnp.float32) for x in arrays)


@functools.partial(jax.jit, static_argnames=("size", "options"))
def draw(scene, pose, fovy, look=None, size=SIZE, options=FLAT):
    return raycaster.render(scene, *pose, fovy, size, size, look, options)


def picture(model, data, name, look=None, size=SIZE, options=FLAT):
    camera = model.camera(name).id
    fovy = float(model.cam_fovy[camera])
    return jax.tree.map(
        np.asarray,
        draw(RenderScene.from_model(model), poses(data, camera), fovy, look, size, options),
    )


def mujoco_rays(model, data, camera, size):
    """Depth and geom id of every pixel by MuJoCo's own ray caster."""
    tangent = np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
    centres = (2 * np.arange(size) + 1) / size - 1
    x, y = np.meshgrid(centres * tangent, -centres * tangent)
    local = np.stack([x, y, -np.ones_like(x)], axis=-1).reshape(-1, 3)
    rays = local @ data.cam_xmat[camera].reshape(3, 3).T
    groups, eye = np.array([1, 1, 1, 0, 0, 0], np.uint8), data.cam_xpos[camera].copy()
    ids, depth = np.full((size * size, 1), -1, np.int32), np.zeros(size * size)
    # One by one: mj_multiRay (MuJoCo 3.3.3) prunes geoms that mj_ray hits.
    for i, ray in enumerate(rays):
        depth[i] = mujoco.mj_ray(model, data, eye, ray, groups, 1, -1, ids[i])
    return depth.reshape(size, size), ids.reshape(size, size)


@pytest.mark.parametrize("kind", TYPES)
def test_random_rays_agree_with_mj_ray(kind):
    rng = np.random.default_rng(TYPES.index(kind))
    size = rng.uniform(0.05, 0.5, size=3)
    quat = rng.normal(size=4)
    model, data = load(
        f"""<mujoco><worldbody><geom type="{kind}" size="{size[0]} {size[1]} {size[2]}"
        pos="0.1 -0.2 0.3" quat="{" ".join(map(str, quat / np.linalg.norm(quat)))}"/>
        </worldbody></mujoco>"""
    )
    outward = rng.normal(size=(3000, 3))
    origins = data.geom_xpos[0] + 2.0 * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    directions = data.geom_xpos[0] + rng.uniform(-0.6, 0.6, size=(3000, 3)) - origins
    hit = np.zeros(1, np.int32)
    expected = np.array(
        [
            mujoco.mj_ray(model, data, o, d, None, 1, -1, hit)
            for o, d in zip(origins, directions, strict=True)
        ]
    )
    scene = RenderScene.from_model(model)
    frames = raycaster._frames(scene, data.geom_xpos, data.geom_xmat.reshape(1, 3, 3))
    matrix = np.asarray(frames.matrix[0], np.float32)
    o = (origins @ matrix.T + np.asarray(frames.offset[0])).T.astype(np.float32)
    d = (directions @ matrix.T).T.astype(np.float32)
    slot_kind = int(np.flatnonzero(scene.counts)[0])
    t = np.asarray(raycaster._enter(slot_kind, o, d, scene.half[0]))
    met = t < raycast.MISS / 2
    # A ray that only grazes may be counted either way: at most one in a thousand.
    assert np.mean(met != (expected >= 0)) <= 1e-3
    both = met & (expected >= 0)
    assert both.sum() > 300
    # Near a grazing ray t moves with the square root of rounding, hence the 0.999 quantile.
    error = np.abs(t - expected)[both] * np.linalg.norm(directions[both], axis=1)
    assert np.quantile(error, 0.999) < 1e-4
    assert error.max() < 5e-3


@pytest.mark.parametrize("camera", ["a", "b"])
def test_whole_pictures_agree_with_mujocos_ray_caster(camera):
    model, data = load(mixed_xml())
    out = picture(model, data, camera, size=96)
    depth, ids = mujoco_rays(model, data, model.camera(camera).id, 96)
    far = RenderScene.from_model(model).far
    ids = np.where(depth > far, -1, ids)
    same = out.segmentation == ids
    assert same.mean() >= 0.999
    assert len(np.unique(ids)) > 12
    solid = same & (ids >= 0)
    assert np.quantile(np.abs(out.depth - depth)[solid], 0.999) < 1e-4
    assert (out.depth[out.segmentation == -1] == np.float32(far)).all()


def test_the_lift_scene_agrees_with_mujocos_ray_caster():
    model = sim.make("lift").scene.model
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    for name in ("front", "wrist"):
        out = picture(model, data, name, size=64)
        depth, ids = mujoco_rays(model, data, model.camera(name).id, 64)
        assert (out.segmentation == ids).mean() >= 0.999
        assert np.abs(out.depth - depth)[out.segmentation == ids].max() < 1e-4
        assert model.geom("cube").id in out.segmentation


GL_SCRIPT = """
import sys, numpy as np, mujoco
model = mujoco.MjModel.from_xml_string(sys.stdin.read()); data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
model.vis.quality.offsamples = 0
size = int(sys.argv[1]); renderer = mujoco.Renderer(model, size, size)
arrays = {}
for camera in range(model.ncam):
    renderer.enable_depth_rendering(); renderer.update_scene(data, camera)
    arrays[f"depth{camera}"] = renderer.render().copy(); renderer.disable_depth_rendering()
    renderer.enable_segmentation_rendering(); renderer.update_scene(data, camera)
    found = renderer.render()
    geom = found[..., 1] == int(mujoco.mjtObj.mjOBJ_GEOM)
    arrays[f"ids{camera}"] = np.where(geom, found[..., 0], -1)
    renderer.disable_segmentation_rendering()
np.savez(sys.argv[2], **arrays)
"""


def mujoco_gl(xml, size, path):
    """MuJoCo's rasterised depth and ids of every camera, or a skip that says why."""
    failures = []
    for backend in ("egl", "osmesa"):
        environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
        command = [sys.executable, "-c", GL_SCRIPT, str(size), str(path)]
        try:
            subprocess.run(
                command, input=xml, env=environment, text=True, check=True,
                capture_output=True, timeout=120,
            )  # fmt: skip
        except (subprocess.SubprocessError, OSError) as e:
            lines = (getattr(e, "stderr", None) or str(e)).strip().splitlines()
            failures.append(f"{backend}: {lines[-1] if lines else e}")
            continue
        return np.load(path)
    pytest.skip("no off-screen OpenGL for MuJoCo's renderer (" + "; ".join(failures) + ")")


def test_pictures_agree_with_mujocos_renderer(tmp_path):
    xml = mixed_xml(seed=1)
    reference = mujoco_gl(xml, 96, tmp_path / "gl.npz")
    model, data = load(xml)
    for camera, name in enumerate("ab"):
        out = picture(model, data, name, size=96)
        ids, depth = reference[f"ids{camera}"], reference[f"depth{camera}"]
        # MuJoCo draws facets, this draws true curves: silhouettes differ by a pixel here
        # and there, so what is compared is every pixel whose neighbours are of one geom.
        inner = interior(ids) & interior(out.segmentation)
        assert inner.mean() > 0.75
        assert (out.segmentation == ids)[inner].mean() >= 0.999
        assert (out.segmentation == ids).mean() >= 0.98
        solid = inner & (ids >= 0) & (out.segmentation == ids)
        assert np.median(np.abs(out.depth - depth)[solid]) < 1e-3


def interior(ids):
    """Pixels whose 3 x 3 neighbourhood has one id."""
    padded = np.pad(ids, 1, mode="edge")
    h, w = ids.shape
    shifts = [padded[i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return np.all([s == ids for s in shifts], axis=0)


def test_lambert_and_hard_shadow_by_hand():
    model, data = load(SUN.format(alpha=1, group=0))
    out = picture(model, data, "top", options=HARD)
    lit, dark = out.rgb[0, 0], floor_seen_obliquely(model, data)
    # Lit floor: rgb (.4, .6, .2) x (ambient .2 + diffuse .8) = itself; x 255: 102, 153, 51.
    assert lit.tolist() == [102, 153, 51]
    # In shadow: x ambient .2: 20.4, 30.6, 10.2, rounded.
    assert dark.tolist() == [20, 31, 10]
    # The box's lid: (1, 0, 0) x 1.
    assert out.rgb[SIZE // 2, SIZE // 2].tolist() == [255, 0, 0]


def floor_seen_obliquely(model, data):
    """Colour of the floor under the box, from a camera below the box."""
    pose = list(poses(data, 0))
    pose[2] = jnp.array([0.0, 0.0, 1.5])
    return np.asarray(draw(RenderScene.from_model(model), pose, 30.0, options=HARD).rgb)[0, 0]


def test_depth_is_metric_along_the_axis():
    model, data = load(SUN.format(alpha=1, group=0))
    out = picture(model, data, "top")
    # Camera at z = 4: the floor is 4 away at every pixel, the lid 4 - 2.1 = 1.9.
    assert out.depth[0, 0] == pytest.approx(4.0, rel=1e-5)
    assert out.depth[SIZE // 2, SIZE // 2] == pytest.approx(1.9, rel=1e-5)
    # The lid's half-width .5 at depth 1.9 spans .5 / (1.9 tan 30) = .4558 of the half
    # picture: 48 x .4558 = 21.9 pixels: those with |2 i - 47| / 48 < .4558, i.e. 22.
    assert (out.segmentation[SIZE // 2] == 1).sum() == 22


def test_sky_is_above_the_horizon_and_far():
    model, data = load(SUN.format(alpha=0, group=0))
    out = picture(model, data, "level")
    assert (out.segmentation[: SIZE // 2] == -1).all()
    assert (out.segmentation[SIZE // 2 + 2 :] == 0).all()
    far = RenderScene.from_model(model).far
    assert (out.depth[: SIZE // 2] == np.float32(far)).all()
    up = picture(model, data, "up")
    # Straight up is the zenith: (.50, .66, .84) x 255 = 127.5, 168.3, 214.2.
    middle = up.rgb[SIZE // 2, SIZE // 2]
    np.testing.assert_allclose(middle, [127.5, 168.3, 214.2], atol=1.0)
    assert (up.segmentation == -1).all()


@pytest.mark.parametrize(("alpha", "group"), [(0, 0), (1, 3), (1, 5)])
def test_hidden_geoms_are_not_drawn_and_cast_no_shadow(alpha, group):
    model, data = load(SUN.format(alpha=alpha, group=group))
    out = picture(model, data, "top", options=HARD)
    assert (out.segmentation == 0).all()
    assert (out.rgb == np.array([102, 153, 51])).all()


def test_soft_shadow_has_a_penumbra_around_the_hard_one():
    model, data = load(SUN.format(alpha=1, group=0))
    pose = list(poses(data, 0))
    pose[2] = jnp.array([0.4, 0.0, 1.5])
    scene = RenderScene.from_model(model)
    hard, soft = (
        np.asarray(draw(scene, pose, 60.0, options=RenderOptions(shadow_rays=n)).rgb)[..., 1]
        for n in (1, 8)
    )
    assert set(np.unique(hard)) == {31, 153}
    assert set(np.unique(soft)) > {31, 153}
    # A tangent of .1 over the box's height 1.9 to 2.1 m blurs .2 m to each side; the
    # penumbra is even around the edge, so the mean light hardly changes.
    assert abs(hard.mean() - soft.mean()) < 3.0


def test_vmap_equals_loop_over_poses_and_appearances():
    model, data = load(mixed_xml())
    scene, rng = RenderScene.from_model(model), np.random.default_rng(3)
    n = 3
    looks = jax.tree.map(lambda x: np.stack([x] * n), scene.appearance)
    looks = looks._replace(
        rgb=rng.uniform(size=looks.rgb.shape).astype(np.float32),
        exposure=np.array([0.8, 1.0, 1.3], np.float32),
    )
    base = poses(data, 0)
    shift = jnp.asarray(rng.normal(size=(n, *base[0].shape)) * 0.05, jnp.float32)
    many = (base[0] + shift, *(jnp.stack([x] * n) for x in base[1:]))
    together = jax.jit(
        jax.vmap(lambda p, look: raycaster.render(scene, *p, 50.0, SIZE, SIZE, look, HARD))
    )(many, looks)
    for i in range(n):
        pose, look = jax.tree.map(lambda x, i=i: x[i], (many, looks))
        alone = draw(scene, pose, 50.0, look, options=HARD)
        # XLA may fuse either differently: a grazing ray or a rounding may flip.
        assert np.mean(together.segmentation[i] != alone.segmentation) < 1e-3
        level = np.abs(together.rgb[i].astype(int) - np.asarray(alone.rgb, int)).max(axis=-1)
        assert np.mean(level > 1) < 2e-3


def test_blocks_of_rows_change_nothing(monkeypatch):
    model, data = load(mixed_xml())
    whole = picture(model, data, "a")
    monkeypatch.setattr(raycaster, "_BLOCK_RAYS", SIZE * 8)
    draw.clear_cache()
    parts = picture(model, data, "a")
    assert np.mean(whole.segmentation != parts.segmentation) < 1e-3
    assert np.quantile(np.abs(whole.depth - parts.depth), 0.998) < 1e-5


def test_samples_average_the_picture():
    model, data = load(mixed_xml())
    fine = picture(model, data, "a", size=SIZE * 2).rgb.astype(float)
    averaged = picture(model, data, "a", options=RenderOptions(shadows=False, samples=2))
    expected = fine.reshape(SIZE, 2, SIZE, 2, 3).mean(axis=(1, 3))
    assert np.quantile(np.abs(averaged.rgb - expected), 0.998) <= 1.0
    assert averaged.depth.shape == averaged.segmentation.shape == (SIZE, SIZE)


def test_exposure_and_white_balance_are_dynamic():
    model, data = load(SUN.format(alpha=0, group=0))
    look = Appearance.from_model(model)
    look = look._replace(exposure=np.float32(0.5), white_balance=np.float32([1, 0.5, 2]))
    out = picture(model, data, "top", look=look)
    # (.4, .6, .2) x .5 x (1, .5, 2) x 255 = 51, 38.25, 51.
    assert out.rgb[0, 0].tolist() == [51, 38, 51]


def test_checker_squares_by_hand():
    xml = """<mujoco><visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
    <asset><texture name="t" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 0 1"
      width="64" height="64"/><material name="m" texture="t" texrepeat="1 1" texuniform="true"/>
    </asset><worldbody><camera name="top" pos="0 0 1" fovy="90"/>
    <geom type="plane" size="0 0 1" material="m"/></worldbody></mujoco>"""
    model, data = load(xml)
    out = picture(model, data, "top", size=16)
    # 90 degrees from 1 m: the picture spans [-1, 1] m; one repeat per metre is two squares
    # per metre: 4 x 4 squares of 4 x 4 pixels.
    red = out.rgb[..., 0] == 255
    assert (out.rgb[..., 0] + out.rgb[..., 2] == 255).all()
    blocks = red.reshape(4, 4, 4, 4)
    assert (blocks == blocks[:, :1, :, :1]).all()
    tile = blocks[:, 0, :, 0]
    assert (tile[1:] != tile[:-1]).all()
    assert (tile[:, 1:] != tile[:, :-1]).all()


LIT = """<mujoco><visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
<worldbody><camera name="top" pos="0 0 1" fovy="90"/><geom type="plane" size="0 0 1"
rgba="0 0 0 1"/></worldbody></mujoco>"""  # colours are seen as they are
TEXTURED = RenderOptions(shadows=False, textures=True)


def test_appearance_can_put_a_checker_on_any_geom():
    model, data = load(LIT)
    look = Appearance.from_model(model)
    look = look._replace(rgb2=look.rgb2 + 1.0, squares=look.squares + 2.0)
    red = picture(model, data, "top", look, 16, TEXTURED).rgb[..., 0]
    # As in test_checker_squares_by_hand: 4 x 4 squares of 4 x 4 pixels over 2 m.
    assert set(np.unique(red)) == {0, 255}
    assert (red.reshape(4, 4, 4, 4) == red[::4, ::4].reshape(4, 1, 4, 1)).all()
    plain = picture(model, data, "top", look, 16, FLAT)
    assert (plain.rgb == 0).all()


def test_noise_is_drawn_in_metres_of_the_geom():
    model, data = load(LIT)
    look = Appearance.from_model(model)
    look = look._replace(rgb2=look.rgb2 + 1.0, grain=look.grain + 4.0, phase=look.phase + 0.5)
    red = picture(model, data, "top", look, 16, TEXTURED).rgb[..., 0] / 255.0
    # Pixel (row i, column j) sees x = (2 j + 1) / 16 - 1 m and y = 1 - (2 i + 1) / 16 m,
    # with 4 cells per metre.
    centres = (2.0 * np.arange(16) + 1.0) / 16.0 - 1.0
    x, y = np.meshgrid(4.0 * centres + 0.5, -4.0 * centres + 0.5)
    expected = textures.value_noise([jnp.asarray(x), jnp.asarray(y), jnp.full((16, 16), 0.5)])
    np.testing.assert_allclose(red, expected, atol=0.01)
    assert red.std() > 0.1


def test_geoms_that_are_too_small_leave_no_trace():
    """Shrunk to 0.1 mm, geoms of every type cast no shadow and no speck, wherever they are."""
    rng = np.random.default_rng(0)
    specks = "".join(
        f'<geom type="{TYPES[i % 5]}" size="1e-4 1e-4 1e-4" pos="{x:.4f} {y:.4f} {z:.4f}"/>'
        for i, (x, y, z) in enumerate(rng.uniform(-0.3, 0.3, (40, 3)) + [0, 0, 2])
    )
    xml = SUN.format(alpha=1, group=0)
    with_specks = xml.replace("</worldbody>", specks + "</worldbody>")
    clean, dotted = (picture(*load(x), "top", options=HARD) for x in (xml, with_specks))
    np.testing.assert_array_equal(dotted.segmentation, clean.segmentation)
    np.testing.assert_array_equal(dotted.rgb, clean.rgb)
    np.testing.assert_allclose(dotted.depth, clean.depth, rtol=1e-4)


def test_pool_of_shapes_is_picked_by_a_traced_index():
    small, large = (
        load(SUN.format(alpha=1, group=0).replace(".5 .5", s)) for s in (".2 .2", ".4 .4")
    )
    scene = RenderScene.from_model(small[0]).of_pool([small[0], large[0]])
    shots = jax.vmap(lambda i: draw(scene.pick(i), poses(small[1], 0), 60.0))(jnp.arange(2))
    # Half-widths .2 and .4 at depth 1.9: 48 x h / (1.9 tan 30) = 8.75 and 17.5 pixels of
    # the middle row: those with |2 i - 47| / 48 < .182 and < .365, i.e. 8 and 18.
    assert (shots.segmentation[:, SIZE // 2] == 1).sum(axis=1).tolist() == [8, 18]
    other = load(SUN.format(alpha=1, group=0).replace('"box" type="box"', '"box" type="sphere"'))
    with pytest.raises(InputError, match="same types of geoms"):
        scene.of_pool([small[0], other[0]])


def test_blur_and_sensor_noise_are_dynamic():
    model, data = load(SUN.format(alpha=1, group=0))
    look, options = Appearance.from_model(model), RenderOptions(sensor=True)
    plain = picture(model, data, "top", options=HARD)
    off = picture(model, data, "top", look, options=options)
    np.testing.assert_array_equal(off.rgb, plain.rgb)
    soft = look._replace(blur=np.float32(1.0))
    blurred = picture(model, data, "top", soft, options=options)
    noisy = look._replace(sensor_noise=np.float32(5.0), sensor_seed=np.uint32(7))
    grain = picture(model, data, "top", noisy, options=options)
    for out in (blurred, grain):
        np.testing.assert_array_equal(out.segmentation, plain.segmentation)
    # A step edge between two even areas: blurred values lie between them.
    row = blurred.rgb[SIZE // 2, :, 1].astype(int)
    assert row.min() == 0
    assert row.max() == 153
    assert len(np.unique(row)) > 4
    error = grain.rgb[:8].astype(float) - plain.rgb[:8]
    assert abs(error.std() - 5.0) < 0.3
    assert abs(error.mean()) < 0.3


def test_spot_light_is_dark_outside_its_cone():
    xml = """<mujoco><visual><headlight active="0"/></visual><worldbody>
    <light pos="0 0 1" dir="0 0 -1" cutoff="30" diffuse="1 1 1" specular="0 0 0"/>
    <camera name="top" pos="0 0 1" fovy="90"/>
    <geom type="plane" size="0 0 1" rgba="1 1 1 1"/></worldbody></mujoco>"""
    model, data = load(xml)
    out = picture(model, data, "top", size=32)
    # The cone's radius on the floor is tan 30 = .577 of the half picture.
    assert out.rgb[16, 16, 0] > 240
    assert out.rgb[16, 31, 0] == 0
    assert out.rgb[0, 0, 0] == 0


def test_camera_inside_a_geom_looks_through_it():
    xml = """<mujoco><worldbody><camera name="in" pos="0 0 1"/>
    <geom type="plane" size="0 0 1"/><geom type="sphere" size=".3" pos="0 0 1"/>
    </worldbody></mujoco>"""
    model, data = load(xml)
    assert (picture(model, data, "in").segmentation == 0).all()


def test_colours_come_from_geom_or_material():
    xml = """<mujoco><asset><material name="m" rgba=".1 .2 .3 1" specular=".7" emission=".2"/>
    </asset><worldbody><geom size="1" material="m"/><geom size="1" material="m" rgba="1 0 0 1"/>
    <geom size="1"/></worldbody></mujoco>"""
    look = Appearance.from_model(mujoco.MjModel.from_xml_string(xml))
    np.testing.assert_allclose(look.rgb, [[0.1, 0.2, 0.3], [1, 0, 0], [0.5, 0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(look.specular, [0.7, 0.7, 0.5], atol=1e-6)
    np.testing.assert_allclose(look.emission, [0.2, 0.2, 0.0], atol=1e-6)
    kinds = {k: np.asarray(x).dtype.name for k, x in look._asdict().items()}
    assert kinds.pop("sensor_seed") == "uint32"
    assert set(kinds.values()) == {"float32"}


def test_what_cannot_be_drawn_is_named():
    mesh = """<mujoco><asset><mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset>
    <worldbody><geom name="thing" type="mesh" mesh="m"/></worldbody></mujoco>"""
    with pytest.raises(InputError, match="geom 0 'thing' is a mesh"):
        RenderScene.from_model(mujoco.MjModel.from_xml_string(mesh))
    empty = '<mujoco><worldbody><geom size="1" group="4"/></worldbody></mujoco>'
    with pytest.raises(InputError, match="nothing to render"):
        RenderScene.from_model(mujoco.MjModel.from_xml_string(empty))
    with pytest.raises(InputError, match="at least 1"):
        RenderOptions(samples=0)


@pytest.mark.parametrize("count", range(1, 13))
def test_loop_visits_every_slot_in_at_least_two_steps(count):
    order, unroll = raycaster._loop_order(count)
    assert sorted(set(order.tolist())) == list(range(count))
    assert len(order) % unroll == 0
    assert len(order) // unroll >= 2
    assert len(order) <= max(2, count + 1)

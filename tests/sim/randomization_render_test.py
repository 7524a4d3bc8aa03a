"""Acceptance: pictures under all randomisations at once are free of artefacts."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.sim import wrappers
from jaxpolicy.sim.config import STRONG

SIZE, EPISODES, STEPS = 64, 150, 18
CAMERAS = ("front", "wrist")
FLOOR = -0.75, 3.0  # height and half-size of the floor, m
RAYED, RAYS = 12, 60  # pictures per camera, and pixels of each, that are cast again


@pytest.fixture(scope="module")
def env():
    return sim.make("lift", randomization=STRONG, objects="novel")


@pytest.fixture(scope="module")
def states(env):
    """The first states of many episodes, and those in the middle of a grasp."""

    def run(keys):
        def advance(state, _):
            return jax.vmap(env.step)(state, jax.vmap(env.expert)(state.obs["privileged"])), None

        first = jax.vmap(env.reset)(keys)
        return first, jax.lax.scan(advance, first, None, STEPS)[0]

    first, last = jax.jit(run)(jax.random.split(jax.random.key(0), EPISODES))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)
    return both.pipeline_state


@pytest.fixture(scope="module")
def pictures(env, states):
    """Per camera (rgb, depth, segmentation), position, rotation, field of view, [N, ...]."""
    pixels = wrappers.Pixels(env, CAMERAS, SIZE, shadows=True)
    both = jax.vmap(lambda s: (pixels.shots(s), pixels.views(s)))
    draw = jax.jit(both)
    return jax.tree.map(np.asarray, draw(states))


def directions(rotation, fovy):
    """World rays of every pixel, [SIZE, SIZE, 3], whose parameter is the depth."""
    tangent = np.tan(np.deg2rad(fovy) / 2)
    centres = (2 * np.arange(SIZE) + 1) / SIZE - 1
    x, y = np.meshgrid(centres * tangent, -centres * tangent)
    return np.stack([x, y, -np.ones_like(x)], axis=-1) @ rotation.T


@pytest.mark.parametrize("camera", CAMERAS)
def test_sky_is_only_where_no_ray_meets_the_floor(pictures, camera):
    shots, (position, rotation, fovy) = pictures[0][camera], pictures[1][camera]
    height, half = FLOOR
    for i in range(len(position)):
        rays = directions(rotation[i], fovy[i])
        t = (height - position[i][2]) / np.minimum(rays[..., 2], -1e-9)
        place = position[i][:2] + t[..., None] * rays[..., :2]
        on_floor = (rays[..., 2] < 0) & (np.abs(place).max(-1) < half - 1e-3)
        assert not (on_floor & (shots.segmentation[i] == -1)).any()


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_object_is_where_it_projects(env, states, pictures, camera):
    """Its centre is seen as its own geom, or behind something nearer."""
    shots, (position, rotation, fovy) = pictures[0][camera], pictures[1][camera]
    model = env.scene.model
    geoms = np.flatnonzero(model.geom_bodyid == model.body("cube").id)
    n = env.arm.n_joints + 2
    local = np.einsum("nji,nj->ni", rotation, np.asarray(states.qpos)[:, n : n + 3] - position)
    depth, tangent = -local[:, 2], np.tan(np.deg2rad(fovy) / 2)
    column = np.floor((local[:, 0] / (depth * tangent) + 1) / 2 * SIZE).astype(int)
    row = np.floor((1 - local[:, 1] / (depth * tangent)) / 2 * SIZE).astype(int)
    inside = (depth > 0.05) & (np.stack([row, column]).clip(0, SIZE - 1) == [row, column]).all(0)
    assert inside.mean() > 0.6
    i = np.flatnonzero(inside)
    seen = np.isin(shots.segmentation[i, row[i], column[i]], geoms)
    nearer = shots.depth[i, row[i], column[i]] < depth[i]
    assert (seen | nearer).all()
    assert seen.mean() > 0.6


def visible_ray(model, data, start, ray):
    """Depth and geom of MuJoCo's own ray among visible groups, sky as (0, -1)."""
    groups, geom = np.array([1, 1, 1, 0, 0, 0], np.uint8), np.zeros(1, np.int32)
    t = mujoco.mj_ray(model, data, start, ray, groups, 1, -1, geom)
    # What was shrunk away is not drawn but may be hit.
    gone = geom[0] >= 0 and model.geom_size[geom[0]].max() <= 1e-4
    return (0.0, -2) if gone else (max(t, 0.0), int(geom[0]))


def specks(ids):
    """Pixels (row, column) unlike all their eight neighbours."""
    padded = np.pad(ids, 1, mode="reflect")
    around = [
        padded[1 + i : 1 + i + SIZE, 1 + j : 1 + j + SIZE]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        if (i, j) != (0, 0)
    ]
    return np.argwhere(np.all([a != ids for a in around], axis=0))


@pytest.mark.parametrize("camera", CAMERAS)
def test_pixels_agree_with_mujocos_rays_in_the_perturbed_model(env, states, pictures, camera):
    shots, (position, rotation, fovy) = pictures[0][camera], pictures[1][camera]
    rng, far = np.random.default_rng(0), shots.depth.max()
    same, errors, total = 0, [], 0
    for i in np.linspace(0, len(position) - 1, RAYED).astype(int):
        model = env.randomizer.models[int(states.variant[i])]
        data = mujoco.MjData(model)
        data.qpos[:] = states.qpos[i]
        mujoco.mj_forward(model, data)
        rays = directions(rotation[i].astype(float), float(fovy[i]))
        picked = np.concatenate([rng.integers(0, SIZE, (RAYS, 2)), specks(shots.segmentation[i])])
        for row, column in picked:
            t, geom = visible_ray(model, data, position[i].astype(float), rays[row, column].copy())
            if geom == -2:
                continue
            geom = -1 if t > far else geom
            total += 1
            if geom == shots.segmentation[i, row, column]:
                same += 1
                errors.append(abs(t - shots.depth[i, row, column]) if geom >= 0 else 0.0)
    assert total >= RAYED * RAYS - 20
    # Rays that graze an edge may go either way: one in two hundred.
    assert same >= 0.995 * total
    assert max(errors) < 1e-3


@pytest.mark.parametrize("camera", CAMERAS)
def test_pictures_are_finite_and_neither_black_nor_blown_out(pictures, camera):
    shots = pictures[0][camera]
    assert np.isfinite(shots.depth).all()
    assert (shots.depth > 0).all()
    levels = shots.rgb.astype(float)
    means, spreads = levels.mean(axis=(1, 2, 3)), levels.std(axis=(1, 2, 3))
    assert ((means > 6) & (means < 245)).mean() >= 0.99
    assert (spreads > 3).mean() >= 0.99
    saturated = (shots.rgb == 255).all(axis=-1).mean(axis=(1, 2))
    assert (saturated < 0.5).mean() >= 0.97
    # And they do differ: no two episodes have the same mean colour.
    assert len(np.unique(levels[:EPISODES].mean(axis=(1, 2)), axis=0)) == EPISODES


def test_specks_are_found():
    ids = np.zeros((SIZE, SIZE), int)
    ids[10, 20], ids[30:32, 40] = 3, 4
    assert specks(ids).tolist() == [[10, 20]]

import mujoco
import numpy as np
import pytest

from jaxpolicy.sim import robots
from jaxpolicy.sim.physics import scene, things


@pytest.fixture(scope="module")
def built():
    return scene.build(robots.PANDA, (things.Solid(), things.Marker()))


def test_home_stands_still(built):
    model, data = built.model, mujoco.MjData(built.model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.ctrl[:7], data.ctrl[7:] = data.qpos[:7], robots.PANDA.finger_travel
    before = data.qpos.copy()
    mujoco.mj_step(model, data, 200)
    np.testing.assert_allclose(data.qpos[:9], before[:9], atol=1e-3)
    np.testing.assert_allclose(data.qpos[9:12], before[9:12], atol=5e-4)


def test_only_pads_cube_and_ground_collide(built):
    model = built.model
    able = (model.geom_contype | model.geom_conaffinity) > 0
    names = {model.geom(i).name for i in np.flatnonzero(able)}
    hull = {"palm_hull", "left_hull", "right_hull"}
    assert names == {"ground", "cube", "left_pad", "right_pad"} | hull
    # The hull is for obstacles: contype 4, which nothing in this scene answers to.
    for name in hull:
        assert (model.geom(name).contype[0], model.geom(name).conaffinity[0]) == (4, 0)
    assert not np.any(model.geom_conaffinity & 4)


def test_pads_touch_the_cube_and_the_ground_but_not_each_other(built):
    model = built.model

    def collide(a, b):
        a, b = model.geom(a).id, model.geom(b).id
        types, affinities = model.geom_contype, model.geom_conaffinity
        return bool(types[a] & affinities[b]) or bool(types[b] & affinities[a])

    assert collide("left_pad", "cube")
    assert collide("left_pad", "ground")
    assert collide("cube", "ground")
    assert not collide("left_pad", "right_pad")
    assert not collide("table", "cube")


def test_solver_settings_are_those_that_hold_a_grasp(built):
    option = built.model.opt
    assert option.timestep == 0.005
    assert option.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
    assert option.solver == mujoco.mjtSolver.mjSOL_NEWTON
    assert option.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    assert (option.impratio, option.iterations, option.ls_iterations) == (1.0, 10, 50)
    pad = built.model.geom("left_pad")
    np.testing.assert_allclose(pad.solref, [0.01, 1.0])
    assert pad.condim == 4


def test_cameras_see_the_cube(built):
    """Projects the cube's centre into both images, from the camera frames alone."""
    model, data = built.model, mujoco.MjData(built.model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    assert set(built.cameras) == {"front", "wrist"}
    for name in built.cameras:
        camera = data.camera(name)
        x, y, z = camera.xmat.reshape(3, 3).T @ (data.geom("cube").xpos - camera.xpos)
        half = np.tan(np.deg2rad(model.camera(name).fovy[0]) / 2)
        assert z < 0
        assert abs(x / z) < 0.6 * half
        assert abs(y / z) < 0.6 * half


def test_cube_starts_on_the_table(built):
    assert built.home[11] == pytest.approx(0.02)
    assert built.model.body("cube").mass == pytest.approx(0.06)

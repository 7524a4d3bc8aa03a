import mujoco
import numpy as np
import pytest

from jaxpolicy.sim import robots
from jaxpolicy.sim.physics import objects, scene, things


def _model(*found):
    return scene.build(robots.PANDA, found).model


def _collide(model, a, b):
    a, b = model.geom(a).id, model.geom(b).id
    types, affinities = model.geom_contype, model.geom_conaffinity
    return bool(types[a] & affinities[b]) or bool(types[b] & affinities[a])


def test_mass_is_spread_by_volume():
    # A cube of 2 cm and a ball of 1 cm radius: 8e-6 and 4.18879e-6 m^3 of 12.18879e-6.
    parts = (objects.Part("box", (0.01,) * 3), objects.Part("sphere", (0.01,), (0.02, 0.0, 0.0)))
    model = _model(things.Solid("pair", parts, mass=1.0))
    # The centre of mass lies at 0.02 * 4.18879 / 12.18879 = 0.00687318.
    np.testing.assert_allclose(model.body("pair").ipos, [0.00687318, 0.0, 0.0], atol=1e-7)
    assert model.body("pair").mass == pytest.approx(1.0)


def test_cubes_meet_each_other_only_where_they_stack():
    apart = _model(things.Solid("a"), things.Solid("b", place=(0.6, 0.0)))
    assert not _collide(apart, "a", "b")
    stacked = _model(
        things.Solid("a", stackable=True), things.Solid("b", stackable=True, place=(0.6, 0.0))
    )
    assert _collide(stacked, "a", "b")


def test_fixtures_meet_objects_pads_and_the_hand():
    part = objects.Part("capsule", (0.02, 0.05), (0.0, 0.0, 0.05))
    model = _model(things.Solid(), things.Fixture("post", (part,), "post"))
    for other in ("cube", "left_pad", "right_pad", "palm_hull", "left_hull", "right_hull"):
        assert _collide(model, "post_0", other), other
    assert not _collide(model, "post_0", "ground")
    assert not _collide(model, "palm_hull", "cube")


def test_markers_touch_nothing():
    model = _model(things.Marker(), things.Solid())
    assert not any(_collide(model, "target", g) for g in ("cube", "left_pad", "palm_hull"))


def test_drawers_slide_towards_the_robot_and_stop():
    drawer = things.Drawer(travel=0.1, friction=0.5)
    model = _model(drawer)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.ctrl[:7] = data.qpos[:7]
    mujoco.mj_forward(model, data)
    closed = data.geom("drawer_handle").xpos.copy()
    data.qfrc_applied[-1] = 0.4  # less than the friction of 0.5 N
    mujoco.mj_step(model, data, 100)
    assert data.joint("drawer").qpos[0] < 2e-3
    data.qfrc_applied[-1] = 5.0
    mujoco.mj_step(model, data, 400)
    assert data.joint("drawer").qpos[0] == pytest.approx(0.1, abs=5e-3)
    moved = data.geom("drawer_handle").xpos - closed
    np.testing.assert_allclose(moved, [-0.1, 0.0, 0.0], atol=5e-3)


def test_rest_positions_follow_the_robots():
    model = _model(things.Solid(place=(0.4, 0.1)), things.Drawer(), things.Marker())
    assert model.nq == 9 + 7 + 1
    np.testing.assert_allclose(model.key_qpos[0][9:], [0.4, 0.1, 0.02, 1, 0, 0, 0, 0])

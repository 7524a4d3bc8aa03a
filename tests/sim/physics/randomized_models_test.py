"""Pools of perturbed models: the right numbers, and the physics that follows from them."""

import dataclasses

import mujoco
import numpy as np
import pytest

from jaxpolicy.sim import robots
from jaxpolicy.sim.config import STRONG, RandomizationConfig
from jaxpolicy.sim.physics import objects, randomized_models, scene, things

PANDA = robots.PANDA
CONFIG = RandomizationConfig(mass=(0.5, 2.0), gains=(0.9, 1.1), models=7, seed=3)

# A block on a floor that slopes by 0.5 rad, seen along the slope: x falls.
SLOPE = f"""<mujoco><option gravity="{9.81 * np.sin(0.5)} 0 {-9.81 * np.cos(0.5)}"
timestep=".002"/><worldbody><geom type="plane" size="0 0 1" friction="1 0 0"/>
<body pos="0 0 .1"><freejoint/><geom type="box" size=".1 .1 .1" friction="1 0 0" mass="1"/></body>
</worldbody></mujoco>"""


@pytest.fixture(scope="module")
def model():
    return scene.build(PANDA, (things.Solid(),)).model


def simulate(model, seconds, ctrl=None):
    data = mujoco.MjData(model)
    if model.nkey:
        mujoco.mj_resetDataKeyframe(model, data, 0)
    if ctrl is not None:
        data.ctrl[:] = ctrl
    mujoco.mj_step(model, data, round(seconds / model.opt.timestep))
    return data


def test_numbers_are_scaled_and_the_original_stays(model):
    before = model.body_mass.copy()
    new = randomized_models.perturb(
        model, {"mass": 2.0, "friction": 0.5, "damping": 3.0, "gains": 0.9}
    )
    cube, link = model.body("cube").id, model.body("link3").id
    np.testing.assert_array_equal(model.body_mass, before)
    assert new.body_mass[cube] == pytest.approx(2 * 0.06)
    np.testing.assert_allclose(new.body_inertia[cube], 2 * model.body_inertia[cube])
    assert new.body_mass[link] == model.body_mass[link]
    np.testing.assert_allclose(new.geom_friction, 0.5 * model.geom_friction)
    np.testing.assert_allclose(new.dof_damping, 3.0 * model.dof_damping)
    # Position actuators: force = kp (u - q) - kv v, as gain kp and bias (0, -kp, -kv).
    np.testing.assert_allclose(new.actuator_gainprm[:, 0], 0.9 * model.actuator_gainprm[:, 0])
    np.testing.assert_allclose(new.actuator_biasprm[:, 1], -new.actuator_gainprm[:, 0])
    # Derived quantities follow: a cube twice as heavy is half as easily moved.
    np.testing.assert_allclose(new.body_invweight0[cube], model.body_invweight0[cube] / 2)


def test_no_change_is_no_change(model):
    new = randomized_models.perturb(model, {})
    for name in ("body_mass", "body_invweight0", "dof_invweight0", "qpos0", "actuator_gainprm"):
        np.testing.assert_allclose(getattr(new, name), getattr(model, name), rtol=1e-12)
    assert new.stat.extent == model.stat.extent


@pytest.mark.parametrize("shape", [objects.CUBE, objects.NOVEL[3]])
def test_a_scaled_object_is_the_object_compiled_at_that_size(shape):
    """Half-sizes, places, mass (f^3), inertia (f^5), and the bounds that collision prunes by."""
    factor = 1.2
    parts = [
        dataclasses.replace(
            p, size=tuple(factor * s for s in p.size), pos=tuple(factor * x for x in p.pos)
        )
        for p in shape.parts
    ]
    small = scene.build(PANDA, (things.Solid(parts=shape.parts),)).model
    large = scene.build(PANDA, (things.Solid(parts=tuple(parts), mass=0.06 * factor**3),)).model
    new = randomized_models.perturb(small, {"object_size": factor})
    for name in (
        *("geom_size", "geom_pos", "geom_rbound", "geom_aabb", "body_mass", "body_inertia"),
        *("body_ipos", "body_iquat", "bvh_aabb", "body_invweight0", "dof_invweight0"),
    ):
        np.testing.assert_allclose(
            getattr(new, name), getattr(large, name), rtol=2e-5, atol=1e-8, err_msg=name
        )


def test_slots_that_stand_for_nothing_are_not_scaled():
    parts = (*objects.CUBE.parts, objects.Part("sphere", (objects.SHRUNK,)))
    model = scene.build(PANDA, (things.Solid(parts=parts),)).model
    new = randomized_models.perturb(model, {"object_size": 1.1})
    assert new.geom("cube").size[0] == pytest.approx(0.022)
    assert new.geom("cube_1").size[0] == objects.SHRUNK


def test_a_heavier_cube_falls_the_same(model):
    def height(mass):
        changed = randomized_models.perturb(model, {"mass": mass})
        changed.key_qpos[0, 11] = 2.0
        return simulate(changed, 0.3).qpos[11]

    # 2 - 9.81 / 2 * .3^2 = 1.5586; semi-implicit steps add 9.81 / 2 * .3 * .005.
    assert height(1.0) == pytest.approx(1.5586 - 0.0074, abs=1e-3)
    assert height(2.0) == pytest.approx(height(1.0), abs=1e-6)


def test_friction_changes_sliding():
    model = mujoco.MjModel.from_xml_string(SLOPE)
    # tan .5 = .546: at friction 1 the block stays; at .3 it slides by
    # (sin .5 - .3 cos .5) 9.81 / 2 = 1.06 m in one second.
    still, slides = (
        simulate(randomized_models.perturb(model, {"friction": f}), 1.0).qpos[0] for f in (1.0, 0.3)
    )
    assert abs(still) < 0.01
    assert slides == pytest.approx(1.06, rel=0.05)


def test_gains_and_gravity_compensation_change_tracking(model):
    home = np.array([*PANDA.home, 0.04, 0.04])

    def error(**values):
        data = simulate(randomized_models.perturb(model, values), 1.0, home)
        return np.abs(data.qpos[:7] - home[:7]).max()

    assert error() < 2e-3
    off = error(gravity_compensation=-0.05)
    assert off > 2 * error()
    # The deviation of a position controller is its load over its gain.
    assert error(gravity_compensation=-0.05, gains=0.5) == pytest.approx(2 * off, rel=0.15)


def test_pool_is_a_function_of_seed_and_index(model):
    pool = randomized_models.make_pool([model], CONFIG)
    assert len(pool) == 7
    again = randomized_models.draw_physics(CONFIG, 4)
    cube = model.body("cube").id
    assert pool[4].body_mass[cube] == pytest.approx(0.06 * again["mass"])
    assert again == randomized_models.draw_physics(CONFIG, 4)
    other = randomized_models.draw_physics(dataclasses.replace(CONFIG, seed=4), 4)
    assert again["mass"] != other["mass"]
    values = randomized_models.pool_values(CONFIG, 7)
    assert sorted(values) == ["gains", "mass"]
    assert values["mass"][4] == np.float32(again["mass"])
    assert len(np.unique(values["mass"])) == 7


def test_pool_in_the_order_of_its_distance_from_nominal():
    config = dataclasses.replace(CONFIG, models=6)
    values = randomized_models.pool_values(config, 6)
    # Widths: 1.5 of the mass, .2 of the gains.
    far = (np.abs(values["mass"] - 1) / 1.5 + np.abs(values["gains"] - 1) / 0.2) / 2
    order = randomized_models.nearest_first(config, 6)
    assert sorted(order) == list(range(6))
    assert (np.diff(far[order]) >= 0).all()
    # Two own models take turns, each with its nearest variants first.
    turns = randomized_models.nearest_first(config, 6, own=2)
    assert list(turns % 2) == [0, 1] * 3
    for own in range(2):
        assert (np.diff(far[turns[own::2]]) >= 0).all()
    off = randomized_models.nearest_first(RandomizationConfig(), 3, own=3)
    assert list(off) == [0, 1, 2]
    # A quantity that has one value leaves models equally far.
    fixed = randomized_models.nearest_first(RandomizationConfig(mass=(2.0, 2.0)), 3)
    assert list(fixed) == [0, 1, 2]


def test_values_cover_their_range():
    values = randomized_models.pool_values(dataclasses.replace(CONFIG, models=400), 400)["mass"]
    # Uniform on [.5, 2]: quarters of 100 +- 5 standard deviations of 8.7.
    counts = np.histogram(values, 4, (0.5, 2.0))[0]
    assert counts.sum() == 400
    assert np.abs(counts - 100).max() < 44


def test_pool_cycles_over_the_worlds_own_models(model):
    shapes = [things.Solid(parts=s.parts) for s in objects.TRAINING[:3]]
    models = scene.build(PANDA, *[(s,) for s in shapes]).models
    pool = randomized_models.make_pool(models, CONFIG)
    assert len(pool) == 9  # 7, rounded up to a multiple of 3
    halves = [m.geom("cube").size[0] for m in pool]
    np.testing.assert_allclose(halves, [m.geom("cube").size[0] for m in models] * 3)
    assert randomized_models.make_pool(models, RandomizationConfig()) == models
    assert randomized_models.is_on(STRONG)

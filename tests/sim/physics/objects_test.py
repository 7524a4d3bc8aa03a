import mujoco
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import robots
from jaxpolicy.sim.physics import objects, scene
from jaxpolicy.sim.tasks import grasping


def test_sets_share_no_shape_and_no_kind_of_primitive_is_missing():
    names = [s.name for s in (*objects.TRAINING, *objects.NOVEL)]
    assert len(set(names)) == len(names)
    kinds = {p.kind for s in objects.NOVEL for p in s.parts}
    assert {"capsule", "cylinder", "ellipsoid", "box"} <= kinds
    assert sum(len(s.parts) > 1 for s in objects.NOVEL) == 2


def test_names_and_sets_are_found():
    assert objects.get("novel") is objects.NOVEL
    assert objects.get("mallet")[0].name == "mallet"
    with pytest.raises(InputError, match=r"unknown env.objects 'ball'; known: training, novel"):
        objects.get("ball")


def test_slots_are_shared_and_unused_ones_shrunk():
    # The mallet has two boxes, the capsule one capsule: slots box, box, capsule.
    capsule, mallet = objects.get("capsule")[0], objects.get("mallet")[0]
    first, second = objects.slots((capsule, mallet))
    assert [p.kind for p in first] == [p.kind for p in second] == ["box", "box", "capsule"]
    assert first[0].size == first[1].size == (objects.SHRUNK,) * 3
    assert first[2] == capsule.parts[0]
    assert second[:2] == mallet.parts
    assert second[2].size == (objects.SHRUNK,) * 2


@pytest.fixture(scope="module", params=["training", "novel"])
def models(request):
    shapes = objects.get(request.param)
    things = [(solid,) for solid in grasping.solids("thing", shapes)]
    return shapes, scene.build(robots.PANDA, *things).models


def test_shapes_weigh_the_same_and_fit_the_gripper(models):
    for shape, model in zip(*models, strict=True):
        assert model.body("thing").mass == pytest.approx(0.06)
        # Between the fingers, along y, nothing is wider than they open: 8 cm.
        width = max(p.size[1] if p.kind in ("box", "ellipsoid") else p.size[0] for p in shape.parts)
        assert 2 * width < 0.08


def test_shapes_rest_where_they_say(models):
    """Dropped from 1 mm above their resting height, they lie at it, upright."""
    for shape, model in zip(*models, strict=True):
        data = mujoco.MjData(model)
        data.qpos[:] = model.key_qpos[0]
        data.ctrl[:7] = data.qpos[:7]
        data.qpos[11] += 0.001
        mujoco.mj_step(model, data, 200)
        place = data.qpos[9:12]
        np.testing.assert_allclose(place, [0.5, 0.0, shape.rest], atol=2e-3, err_msg=shape.name)
        assert data.body("thing").xmat[8] > 0.99, shape.name

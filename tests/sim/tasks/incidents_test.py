import jax.numpy as jnp
import numpy as np

from jaxpolicy.sim import robots
from jaxpolicy.sim.tasks import incidents

PANDA = robots.PANDA
CUBES = jnp.array([[0.4, 0.0, 0.02], [0.6, 0.0, 0.02]])


def _facts(**changes):
    facts = {
        "joints": jnp.array(PANDA.home),
        "joint_velocities": jnp.zeros(7),
        "collision": jnp.zeros(1),
        "tool": jnp.array([0.59, 0.0, 0.02]),
        "touch": jnp.zeros(2),
    }
    return facts | {k: jnp.asarray(v, jnp.float32) for k, v in changes.items()}


def _update(before=None, gripper=1.0, objects=CUBES, **changes):
    before = incidents.initial(CUBES, jnp.zeros(())) if before is None else before
    return incidents.update(before, PANDA, _facts(**changes), objects, jnp.array(gripper))


def test_nothing_happens_at_rest():
    found = _update()
    for name in ("joint_limit", "velocity_limit", "collision", "collided", "closed"):
        assert found[name] == 0.0, name
    assert found["touched"] == -1.0
    np.testing.assert_allclose(found["object"], CUBES[0])


def test_limits_count_while_they_last():
    # Joint 4 ends at -0.0698; 0.005 before it is within 0.01. 2.2 rad/s is more than 2.175.
    joints = np.array(PANDA.home)
    joints[3] = -0.0698 - 0.005
    at_limit = _update(joints=joints)
    assert at_limit["joint_limit"] == 1.0
    assert _update(at_limit)["joint_limit"] == 0.0
    assert _update(joint_velocities=[0, -2.2, 0, 0, 0, 0, 0])["velocity_limit"] == 1.0


def test_a_collision_is_remembered():
    hit = _update(collision=[3.0])
    assert (hit["collision"], hit["collided"]) == (3.0, 1.0)
    after = _update(hit)
    assert (after["collision"], after["collided"]) == (0.0, 1.0)
    # Grazing by less than a newton is no collision.
    assert _update(collision=[0.5])["collided"] == 0.0


def test_what_was_touched_is_the_nearest_object():
    # The tool is 1 cm from the second cube and 19 cm from the first.
    touched = _update(touch=[1.0, 0.0])
    assert touched["touched"] == 1.0
    assert _update(touched)["touched"] == 1.0


def test_first_closing_says_where_the_object_was_taken_to_be():
    open_ = _update(gripper=0.6)
    assert open_["closed"] == 0.0
    closed = _update(open_, gripper=0.2)
    assert closed["closed"] == 1.0
    np.testing.assert_allclose(closed["seen"], [0.59, 0.0, 0.02])
    np.testing.assert_allclose(closed["actual"], CUBES[0])
    later = _update(closed, gripper=0.0, tool=[0.3, 0.0, 0.1], objects=CUBES + 0.1)
    np.testing.assert_allclose(later["seen"], closed["seen"])
    np.testing.assert_allclose(later["actual"], CUBES[0])
    np.testing.assert_allclose(later["object"], CUBES[0] + 0.1)


def test_tasks_without_objects_have_none():
    nothing = incidents.initial(jnp.zeros((0, 3)), jnp.full((), incidents.NOTHING))
    found = _update(nothing, objects=jnp.zeros((0, 3)), touch=[1.0, 1.0])
    assert (found["touched"], found["wanted"]) == (-1.0, -1.0)

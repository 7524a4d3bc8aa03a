"""Each canonical primitive against cases worked by hand."""

import functools

import jax
import numpy as np
import pytest

from jaxpolicy.sim.render import raycast

capsule = functools.partial(raycast.capsule, half=1.0)
square = functools.partial(raycast.plane, half=(0.5, 0.5))


def enter(shape, origin, direction):
    """t of one ray, as a float."""
    o, d = (np.asarray(v, np.float32) for v in (origin, direction))
    return float(jax.jit(shape)(o, d))


def test_sphere_head_on_and_with_a_longer_direction():
    # From z = 3 the pole z = 1 is 2 away; a direction of length 2 needs half of that t.
    assert enter(raycast.ellipsoid, (0, 0, 3), (0, 0, -1)) == pytest.approx(2.0)
    assert enter(raycast.ellipsoid, (0, 0, 3), (0, 0, -2)) == pytest.approx(1.0)


def test_sphere_off_centre():
    # At x = 0.6 the surface is at z = sqrt(1 - 0.36) = 0.8: 3 - 0.8 = 2.2.
    assert enter(raycast.ellipsoid, (0.6, 0, 3), (0, 0, -1)) == pytest.approx(2.2)


def test_sphere_missed_behind_and_from_inside():
    assert enter(raycast.ellipsoid, (1.1, 0, 3), (0, 0, -1)) == np.float32(raycast.MISS)
    # Behind: the entry of the line is at z = -1 for an upward ray from z = 3: t = -4.
    assert enter(raycast.ellipsoid, (0, 0, 3), (0, 0, 1)) == pytest.approx(-4.0)
    # From the centre the entry lies 1 behind.
    assert enter(raycast.ellipsoid, (0, 0, 0), (0, 0, -1)) == pytest.approx(-1.0)


def test_plane_is_seen_from_above_only():
    # z falls by 1 per unit t from 2, reaching x = 0.2 * 2 = 0.4 < 0.5.
    assert enter(square, (0, 0, 2), (0.2, 0, -1)) == pytest.approx(2.0)
    # x = 0.3 * 2 = 0.6 is beyond the edge.
    assert enter(square, (0, 0, 2), (0.3, 0, -1)) == np.float32(raycast.MISS)
    assert enter(square, (0, 0, -2), (0, 0, 1)) == np.float32(raycast.MISS)
    assert enter(square, (0, 0, 2), (1, 0, 0)) == np.float32(raycast.MISS)


def test_box_faces_edges_and_misses():
    assert enter(raycast.box, (0, 0, 5), (0, 0, -1)) == pytest.approx(4.0)
    # Diagonal in xz from (3, 0, 3): both slabs are entered at t = 2.
    assert enter(raycast.box, (3, 0, 3), (-1, 0, -1)) == pytest.approx(2.0)
    # From (3, 0, 2) along (-1, 0, -1): x slab at 2, z slab at 1 -> 2, where z = 0.
    assert enter(raycast.box, (3, 0, 2), (-1, 0, -1)) == pytest.approx(2.0)
    assert enter(raycast.box, (1.2, 0, 5), (0, 0, -1)) == np.float32(raycast.MISS)
    assert enter(raycast.box, (0, 0, 0), (0, 0, -1)) == pytest.approx(-1.0)


def test_cylinder_lid_side_and_misses():
    # Lid at z = 1.
    assert enter(raycast.cylinder, (0.5, 0, 3), (0, 0, -1)) == pytest.approx(2.0)
    # Side at x = 1, at height 0.5.
    assert enter(raycast.cylinder, (4, 0, 0.5), (-1, 0, 0)) == pytest.approx(3.0)
    # Above the lid, and beside the side.
    assert enter(raycast.cylinder, (4, 0, 1.5), (-1, 0, 0)) == np.float32(raycast.MISS)
    assert enter(raycast.cylinder, (1.5, 0, 3), (0, 0, -1)) == np.float32(raycast.MISS)
    # Slanted: enters z < 1 at t = 1 (x = 1.5, outside), the side x = 1 at t = 1.5.
    assert enter(raycast.cylinder, (2.5, 0, 2), (-1, 0, -1)) == pytest.approx(1.5)


def test_capsule_side_caps_and_misses():
    # Half-length 1: caps reach z = 2.
    assert enter(capsule, (0, 0, 5), (0, 0, -1)) == pytest.approx(3.0)
    assert enter(capsule, (4, 0, 0.5), (-1, 0, 0)) == pytest.approx(3.0)
    # At height 1.6 the cap's radius is sqrt(1 - 0.36) = 0.8: 4 - 0.8 = 3.2.
    assert enter(capsule, (4, 0, 1.6), (-1, 0, 0)) == pytest.approx(3.2)
    # At height 2.1 nothing; nor beside it.
    assert enter(capsule, (4, 0, 2.1), (-1, 0, 0)) == np.float32(raycast.MISS)
    assert enter(capsule, (1.1, 0, 5), (0, 0, -1)) == np.float32(raycast.MISS)
    # Down beside the axis at x = 0.6: the cap is met at z = 1 + 0.8.
    assert enter(capsule, (0.6, 0, 5), (0, 0, -1)) == pytest.approx(3.2)


@pytest.mark.parametrize(
    "shape", [raycast.box, raycast.cylinder, raycast.ellipsoid, capsule, square]
)
def test_degenerate_rays_stay_finite(shape):
    values = [-1.0, 0.0, 1.0]
    rays = np.array(np.meshgrid(*[values] * 6)).reshape(6, -1).astype(np.float32)
    rays = rays[:, np.abs(rays[3:]).max(axis=0) > 0]
    t = jax.jit(shape)(rays[:3], rays[3:])
    assert np.isfinite(np.asarray(t)).all()

"""Where a ray enters a canonical primitive, in closed form.

Every function takes the ray in the frame of the primitive, scaled so that the
primitive has unit size (see each), as two triples of arrays: origin `o` and
direction `d`, of shapes that broadcast together. It returns the ray parameter t of
the *entry* point (front face), MISS where there is none. The entry is behind the
origin (t < 0) for a ray that starts inside, so a caller that asks for t > 0 sees
front faces only, as a rasteriser with back-face culling does. t needs no rescaling
because origin and direction are scaled alike.
"""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["MISS", "box", "capsule", "cylinder", "ellipsoid", "plane"]

MISS = 1e10  # t of a ray that hits nothing; finite, so that arithmetic stays finite
_TINY = 1e-12

Triple = Any  # three arrays over rays, or one array [3]


def plane(o: Triple, d: Triple, half: Triple) -> jax.Array:
    """Plane z = 0, seen from z > 0 only, |x| < half[0] and |y| < half[1]."""
    t = -o[2] / jnp.minimum(d[2], -_TINY)
    inside = (jnp.abs(o[0] + t * d[0]) < half[0]) & (jnp.abs(o[1] + t * d[1]) < half[1])
    return jnp.where((d[2] < 0.0) & inside, t, MISS)


def ellipsoid(o: Triple, d: Triple) -> jax.Array:
    """Unit sphere; a sphere or ellipsoid scaled by its semi-axes."""
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1.0
    return _entry(a, b, b * b - a * c)


def capsule(o: Triple, d: Triple, half: Any) -> jax.Array:
    """Radius 1 around the segment z in [-half, half]; scaled by the radius."""
    a = jnp.maximum(d[0] * d[0] + d[1] * d[1], _TINY)
    b = o[0] * d[0] + o[1] * d[1]
    c = o[0] * o[0] + o[1] * o[1] - 1.0
    side = b * b - a * c
    top = -b - jnp.sqrt(jnp.maximum(side, 0.0))
    z = a * o[2] + top * d[2]
    on_side = jnp.abs(z) < a * half
    oz = o[2] - jnp.where(z > 0.0, half, -half)
    aa = a + d[2] * d[2]
    bb = b + oz * d[2]
    cap = bb * bb - aa * (c + oz * oz)
    top = jnp.where(on_side, top, -bb - jnp.sqrt(jnp.maximum(cap, 0.0)))
    t = top / jnp.where(on_side, a, aa)
    return jnp.where((side > 0.0) & (on_side | (cap > 0.0)), t, MISS)


def box(o: Triple, d: Triple) -> jax.Array:
    """Cube [-1, 1]^3; a box scaled by its half-sizes."""
    near, far = zip(*(_slab(o[i], d[i]) for i in range(3)), strict=True)
    t0 = jnp.maximum(jnp.maximum(near[0], near[1]), near[2])
    t1 = jnp.minimum(jnp.minimum(far[0], far[1]), far[2])
    return jnp.where(t0 < t1, t0, MISS)


def cylinder(o: Triple, d: Triple) -> jax.Array:
    """Radius 1, z in [-1, 1]; a cylinder scaled by radius and half-length."""
    a = jnp.maximum(d[0] * d[0] + d[1] * d[1], _TINY)
    b = o[0] * d[0] + o[1] * d[1]
    disc = b * b - a * (o[0] * o[0] + o[1] * o[1] - 1.0)
    root = jnp.sqrt(jnp.maximum(disc, 0.0))
    near, far = _slab(o[2], d[2])
    inverse = 1.0 / a
    t0 = jnp.maximum((-b - root) * inverse, near)
    t1 = jnp.minimum((-b + root) * inverse, far)
    return jnp.where((disc > 0.0) & (t0 < t1), t0, MISS)


def _slab(o: Any, d: Any) -> tuple[jax.Array, jax.Array]:
    """Parameters at which a ray enters and leaves |x| < 1 along one axis."""
    inverse = 1.0 / jnp.where(jnp.abs(d) < _TINY, _TINY, d)
    middle, half = -o * inverse, jnp.abs(inverse)
    return middle - half, middle + half


def _root(a: jax.Array, b: jax.Array, disc: jax.Array) -> jax.Array:
    """Smaller root of a t^2 + 2 b t + c = 0 with disc = b^2 - a c, clamped at 0."""
    return (-b - jnp.sqrt(jnp.maximum(disc, 0.0))) / jnp.maximum(a, _TINY)


def _entry(a: jax.Array, b: jax.Array, disc: jax.Array) -> jax.Array:
    return jnp.where(disc > 0.0, _root(a, b, disc), MISS)

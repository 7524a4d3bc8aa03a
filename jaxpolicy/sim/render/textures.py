"""Procedural patterns on surfaces, in metric coordinates of the geom that wears them."""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["hash_bits", "is_odd_square", "value_noise"]

Vector = Any  # two or three arrays of one shape

# Primes of Teschner et al., "Optimized Spatial Hashing", VMV 2003.
_PRIMES = (73856093, 19349663, 83492791)


def hash_bits(x: jax.Array) -> jax.Array:
    """Well mixed bits of uint32 numbers: the "lowbias32" function of C. Wellons (2018)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def is_odd_square(p: Vector) -> jax.Array:
    """Whether points (x, y), in squares, lie on the second colour of a checkerboard."""
    x, y = (jnp.floor(p[i]).astype(jnp.int32) for i in range(2))
    return ((x + y) & 1) > 0


def value_noise(p: Vector) -> jax.Array:
    """Smooth noise in [0, 1] at points (x, y, z), in cells of its lattice.

    Every lattice point has a random value, the same for all time; between them the
    values are blended with weights 3 f^2 - 2 f^3, so the noise has no creases.
    """
    floors = [jnp.floor(x) for x in p]
    blend = [(x - f) * (x - f) * (3.0 - 2.0 * (x - f)) for x, f in zip(p, floors, strict=True)]
    cell = [f.astype(jnp.int32).astype(jnp.uint32) for f in floors]
    sides = [
        (c * jnp.uint32(q), (c + 1) * jnp.uint32(q)) for c, q in zip(cell, _PRIMES, strict=True)
    ]
    edges = [
        _mix(_lattice(sides[0][0] ^ y ^ z), _lattice(sides[0][1] ^ y ^ z), blend[0])
        for z in sides[2]
        for y in sides[1]
    ]
    faces = [_mix(edges[0], edges[1], blend[1]), _mix(edges[2], edges[3], blend[1])]
    return _mix(faces[0], faces[1], blend[2])


def _lattice(bits: jax.Array) -> jax.Array:
    """Value in [0, 1) of a lattice point."""
    return (hash_bits(bits) >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def _mix(a: jax.Array, b: jax.Array, share: jax.Array) -> jax.Array:
    return a + (b - a) * share

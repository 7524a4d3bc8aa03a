"""A ray caster in JAX, and the pictures it makes."""

"""Learning methods: each a module of pure functions and a `make` that binds them."""

from jaxpolicy.algorithms.bc import BCConfig

__all__ = ["BCConfig"]

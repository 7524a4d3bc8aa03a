"""Recording demonstrations (stage 1)."""

from jaxpolicy.collect.config import CollectConfig

__all__ = ["CollectConfig"]

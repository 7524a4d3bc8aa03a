"""Exported policies on a controller: NumPy and an inference runtime, no JAX."""

from jaxpolicy.deploy.backends import BACKENDS, LiteRTBackend, OnnxBackend, load
from jaxpolicy.deploy.runtime import LoopReport, PolicyRuntime, Robot, RuntimeCounters, run
from jaxpolicy.deploy.safety import ActionGuard

__all__ = [
    "BACKENDS",
    "ActionGuard",
    "LiteRTBackend",
    "LoopReport",
    "OnnxBackend",
    "PolicyRuntime",
    "Robot",
    "RuntimeCounters",
    "load",
    "run",
]

"""What there is to choose from, by registry."""

from typing import Any

from jaxpolicy.core.registry import Registry
from jaxpolicy.data import WRITERS
from jaxpolicy.pipeline import plugins
from jaxpolicy.sim.robots import ROBOTS

__all__ = ["KINDS", "everything"]

KINDS = ("tasks", "robots", "algorithms", "backbones", "heads", "formats", "runtimes")


def everything() -> dict[str, list[tuple[str, str]]]:
    """Kind -> (name, what there is to say of it), those of installed plug-ins too."""
    plugins.load()
    return {kind: _rows(kind, plugins.REGISTRIES[kind]) for kind in KINDS}


def _rows(kind: str, registry: Registry[Any]) -> list[tuple[str, str]]:
    return [
        (name, " ".join(filter(None, (_about(kind, name, part), _origin(registry, name)))))
        for name, part in registry.items()
    ]


def _origin(registry: Registry[Any], name: str) -> str:
    return f"(of {registry.origins[name]})" if name in registry.origins else ""


def _about(kind: str, name: str, part: Any) -> str:
    if kind == "tasks":
        return (part.__doc__ or "").partition("\n")[0]
    if kind == "robots":
        return f"{ROBOTS[name].n_joints} joints"
    if kind == "algorithms":
        return "learns in worlds" if part.online else "learns from demonstrations"
    if kind == "formats":
        return "read and written" if name in WRITERS else "read"
    return ""

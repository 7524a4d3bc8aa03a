"""What there is to choose from, by registry."""

from collections.abc import Iterable
from typing import Any

from jaxpolicy import sim
from jaxpolicy.data import SOURCES, WRITERS
from jaxpolicy.networks.encoder import BACKBONES
from jaxpolicy.networks.heads import HEADS
from jaxpolicy.sim.robots import ROBOTS
from jaxpolicy.training.factory import ALGORITHMS

__all__ = ["everything"]


def everything() -> dict[str, list[tuple[str, str]]]:
    """Kind -> (name, one line about it) of each."""
    formats = [(n, "read and written" if n in WRITERS else "read") for n in SOURCES]
    return {
        "tasks": _first_lines(sim.ENVIRONMENTS.items()),
        "robots": [(n, f"{r.n_joints} joints") for n, r in ROBOTS.items()],
        "algorithms": [(n, "") for n in ALGORITHMS],
        "backbones": [(n, "") for n in BACKBONES],
        "heads": [(n, "") for n in HEADS],
        "formats": formats,
    }


def _first_lines(items: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(name, (value.__doc__ or "").partition("\n")[0]) for name, value in items]

"""What every stage takes and tells: progress, a log of stages, one world for all of them."""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

from brax.envs.base import Env

from jaxpolicy import sim
from jaxpolicy.core import interruption
from jaxpolicy.sim.config import EnvConfig

__all__ = ["Log", "PathLike", "Progress", "StageProgress", "make_world", "no_progress"]

PathLike = str | os.PathLike[str]
Progress = Callable[..., None]
# stage name, units done, units in all
StageProgress = Callable[[str], Progress | None]


@functools.lru_cache(maxsize=4)
def make_world(config: EnvConfig) -> Env:
    """The world of `config`; one object for all stages, so that it is compiled once."""
    return sim.make_world(config)


def no_progress(stage: str) -> Progress | None:
    """Shows nothing."""
    return None


class Log:
    """Stages as they end: (stage, seconds, what was found)."""

    def __init__(self, progress: StageProgress = no_progress):
        """`progress` gives each stage its bar."""
        self.progress = progress
        self.rows: list[tuple[str, float, str]] = []

    def timed(
        self, stage: str, tell: Callable[[Any], str], function: Callable[..., Any], *args: Any
    ) -> Any:
        """`function(*args)`, noted as `stage`."""
        interruption.check()
        start = time.perf_counter()
        result = function(*args)
        self.rows.append((stage, time.perf_counter() - start, tell(result)))
        return result

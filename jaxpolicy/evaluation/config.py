"""Configuration of closed-loop evaluation."""

import dataclasses

from jaxpolicy.core.specs import InputError

__all__ = ["EvaluationConfig"]


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, and what is thought of it.

    Attributes:
      n_episodes: episodes, one per seed.
      seed: episode i starts from seed + i of the evaluation stream, which shares no
        start with any collection (see sim/streams.py).
      batch: environments stepped at once.
      n_recorded: episodes of each outcome whose frames are kept for the contact sheets
        and the video.
      view_camera: camera of those frames; "" is the first there is.
      view_size: their height and width in pixels.
      good, acceptable: success rates above which the verdict is good, or acceptable.
      max_latency_ms: p95 above this makes the verdict needs_improvement.
    """

    n_episodes: int = 200
    seed: int = 10_000
    batch: int = 50
    n_recorded: int = 10
    view_camera: str = ""
    view_size: int = 128
    good: float = 0.8
    acceptable: float = 0.7
    max_latency_ms: float = 200.0

    def __post_init__(self) -> None:
        if self.n_episodes < 1 or self.batch < 1:
            raise InputError("evaluation.n_episodes and evaluation.batch must be at least 1")
        if self.seed < 0 or self.seed + self.n_episodes >= 2**31:
            raise InputError(f"evaluation.seed must be 0 to 2**31 - n_episodes, got {self.seed}")
        if not 0.0 <= self.acceptable <= self.good <= 1.0:
            raise InputError("evaluation: 0 <= acceptable <= good <= 1 must hold")
        if self.n_recorded < 0 or self.view_size < 1:
            raise InputError("evaluation.n_recorded must be >= 0 and evaluation.view_size >= 1")

"""What a side of benchmarks/reinforcement.py says of an update."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Update:
    """One update.

    Attributes:
      steps: of all worlds together.
      parameters: numbers that are learned, of policy and critic.
      rollout: CPU-milliseconds of the process in which the worlds were driven.
      learning: and those in which the networks learned.
    """

    steps: int
    parameters: int
    rollout: float
    learning: float

    @property
    def total(self) -> float:
        """CPU-milliseconds of all of it."""
        return self.rollout + self.learning

    @property
    def rate(self) -> float:
        """Steps per CPU-second."""
        return 1e3 * self.steps / self.total

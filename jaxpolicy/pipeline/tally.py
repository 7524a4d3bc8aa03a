"""What a recording counts, kept with its episodes so that a killed one goes on."""

import time
from collections.abc import Mapping

from jaxpolicy.collect.cutting import Reached
from jaxpolicy.data.formats.rlds_writer import Recording

__all__ = ["Tally"]


class Tally:
    """Counts of a recording over all of the calls that it took.

    Attributes:
      counts: name -> number; count in it.
      begin: where the recording goes on.
    """

    def __init__(self, recording: Recording, zero: Mapping[str, int]):
        """Goes on with what `recording` was told last, from `zero` where it begins."""
        told = recording.told
        self._recording, self._began = recording, time.perf_counter()
        self._earlier_s = told.get("seconds", 0.0)
        self.counts: dict[str, int] = dict(told.get("counts", zero))
        self.begin = Reached(*told.get("reached", (0, 0)))

    def seconds(self) -> float:
        """That the recording took in all calls."""
        return self._earlier_s + time.perf_counter() - self._began

    def reached(self, now: Reached) -> None:
        """Makes all episodes so far safe, and what was counted of them."""
        told = {"counts": self.counts, "reached": list(now), "seconds": self.seconds()}
        self._recording.commit(told)

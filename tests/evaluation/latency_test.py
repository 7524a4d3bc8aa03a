import numpy as np
import pytest

from jaxpolicy.evaluation import latency


class Counting:
    """Counts what is asked of it."""

    def __init__(self):
        self.resets = self.acts = 0

    def reset(self, n):
        assert n == 1
        self.resets += 1

    def act(self, observation):
        self.acts += 1
        return np.zeros((1, 2))


def test_every_measured_decision_starts_an_episode():
    controller = Counting()
    found = latency.measure(controller, {"proprio": np.zeros((1, 3))}, n=7, warmup=2)
    assert controller.resets == controller.acts == 9
    assert len(found["samples"]) == 7
    assert 0 < found["p50"] <= found["p95"] <= found["p99"]


def test_percentiles_by_hand(monkeypatch):
    # 1, 2, ..., 101 ms: the median is 51, the 95th percentile 96, the 99th 100.
    times = iter(range(1, 102))
    monkeypatch.setattr(latency, "_milliseconds", lambda *_: float(next(times)))
    found = latency.time_calls(lambda o: None, {}, n=101, warmup=0)
    assert [found[k] for k in ("p50", "p95", "p99")] == pytest.approx([51, 96, 100])

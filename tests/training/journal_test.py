import gzip

import jax
import jax.numpy as jnp
import pytest

from jaxpolicy.training import journal, metrics
from tests.training import fixtures


@pytest.fixture
def clock(monkeypatch):
    """A clock that is turned by hand."""
    now = [100.0]
    monkeypatch.setattr(journal.time, "perf_counter", lambda: now[0])
    return now


def open_journal(directory, **values):
    told = journal.open_journal(fixtures.config(), directory, total=40, **values)
    told.began = journal.time.perf_counter()
    return told


def test_shares_by_hand(tmp_path, clock):
    told = open_journal(tmp_path, earlier_s=50.0)
    clock[0] += 2
    told.mark(0)
    clock[0] += 3
    told.mark(10)
    for step in (20, 30):
        clock[0] += 4
        told.spent["data"] = 1.0
        told.mark(step)
        with told.timed("eval"):
            clock[0] += 2
    with told.timed("checkpoint"):
        clock[0] += 3
    # 20 s: 2 + 3 to the end of the first dispatch, 1 data, 2 * 2 eval, 3 saving, 7 the rest.
    expected = {"start": 0.25, "data": 0.05, "step": 0.35, "eval": 0.2, "checkpoint": 0.15}
    assert told.shares() == pytest.approx(expected | {"profile": 0})
    assert told.seconds() == 70
    # From 10 to 30 in two dispatches of 4 s; the evaluation between them does not count.
    assert told.rate() == pytest.approx(20 / 8)
    told.close()


def test_a_call_without_a_dispatch_is_all_start(tmp_path, clock):
    told = open_journal(tmp_path, step=40)
    told.mark(40)
    clock[0] += 1
    with told.timed("checkpoint"):
        clock[0] += 1
    assert told.shares() == dict.fromkeys(journal.PARTS, 0.0) | {"start": 1.0}
    assert told.rate() == 0
    told.close()


def test_going_back_drops_later_rows_and_keeps_the_speed(tmp_path, clock):
    told = open_journal(tmp_path)
    for step in (0, 10, 20, 30):
        told.mark(step)
        told.write(step, {"train/loss": 1.0})
        clock[0] += 5
    told.go_back(10, "diverged")
    assert [row["step"] for row in metrics.read(tmp_path)] == [0, 10]
    assert told.mark(20) == pytest.approx(10 / 5)
    told.write(20, {"train/loss": 2.0})
    assert [row["train/loss"] for row in metrics.read(tmp_path)] == [1.0, 1.0, 2.0]
    # From the second mark: three times 10 updates in 5 s, of which 20 were in vain.
    assert told.rate() == pytest.approx(30 / 15)
    told.close()


def test_the_profiler_traces_the_dispatches_it_is_asked_for(tmp_path):
    profiler = journal.Profiler(tmp_path, (10, 20))
    traced = []
    for start in (0, 8, 16, 24):
        profiler.before(start, start + 8)
        traced.append(profiler._traces)
        jax.block_until_ready(jnp.ones(3) + 1)
    # 8-15 and 16-23 overlap with 10-19.
    assert traced == [False, True, True, False]
    (trace,) = tmp_path.rglob("*.trace.json.gz")
    assert gzip.decompress(trace.read_bytes()).startswith(b'{"displayTimeUnit"')


def test_a_trace_is_written_when_the_run_ends_within_it(tmp_path):
    profiler = journal.Profiler(tmp_path, (0, 99))
    profiler.before(0, 8)
    profiler.close()
    profiler.close()
    assert list(tmp_path.rglob("*.xplane.pb"))
    journal.Profiler(tmp_path / "none", (0, 0)).before(0, 8)
    assert not (tmp_path / "none").exists()

import threading
import time
import types

import jax
import numpy as np
import pytest

from jaxpolicy.training import inputs, sharding
from tests.training import fixtures


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    return fixtures.prepared(fixtures.config(), directory, fixtures.source(8)).train_loader


def test_prefetcher_keeps_the_order():
    with inputs.Prefetcher(range(100)) as ahead:
        assert list(ahead) == list(range(100))


def test_prefetcher_hands_on_errors():
    def items():
        yield 1
        raise OSError("disk on fire")

    with inputs.Prefetcher(items()) as ahead, pytest.raises(OSError, match="disk on fire"):
        list(ahead)


def test_prefetcher_stops_when_left_early():
    with inputs.Prefetcher(iter(range(10**9))) as ahead:
        assert next(iter(ahead)) == 0
    assert "prefetch" not in [t.name for t in threading.enumerate()]


def test_prefetcher_counts_the_time_waited():
    def slow():
        time.sleep(0.2)
        yield 1

    with inputs.Prefetcher(slow()) as ahead:
        list(ahead)
    assert ahead.waited_s >= 0.15


def test_feeds_in_rows(loader):
    mesh = sharding.make_mesh(1)
    loader.mode = "host"
    feed = next(iter(inputs.feeds(loader, [(3, 2)], mesh)))
    assert (feed.start, feed.n, feed.stop, len(feed.data)) == (3, 2, 5, 2)
    fixtures.assert_same_bits(jax.device_get(feed.data[1]), loader.batch(4))


def test_feeds_stacked_are_padded(loader):
    mesh = sharding.make_mesh(1)
    loader.mode = "host"
    feed = next(iter(inputs.feeds(loader, [(3, 2)], mesh, size=4)))
    assert {x.shape[:2] for x in jax.tree.leaves(feed.data)} == {(4, 16)}
    row = jax.tree.map(lambda x: np.asarray(x[1]), feed.data)
    fixtures.assert_same_bits(row, loader.batch(4))


def test_device_mode_gathers_the_same_batches(loader):
    mesh = sharding.make_mesh(1)
    loader.mode = "device"
    fetch = inputs.make_fetch(loader, 1, 1)
    feed = next(iter(inputs.feeds(loader, [(7, 1)], mesh)))
    arrays = sharding.put_replicated(dict(loader.cache.arrays), mesh)
    fixtures.assert_same_bits(jax.device_get(fetch(arrays, feed.data[0])), loader.batch(7))


def test_stack_size_is_bounded_by_memory_in_host_mode():
    batch = {"x": np.zeros(2**26, np.uint8)}
    # 2**28 bytes of budget / 2**26 bytes per batch = 4 batches.
    big = types.SimpleNamespace(mode="host", batch=lambda step: batch)
    assert inputs.stack_size(big, 50) == 4
    assert inputs.stack_size(big, 3) == 3
    assert inputs.stack_size(types.SimpleNamespace(mode="device"), 50) == 50

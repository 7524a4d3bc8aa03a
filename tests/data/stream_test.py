import dataclasses
import pathlib
import shutil

import jax
import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import CleaningConfig, DataConfig, cache, loader, open_source, stream
from jaxpolicy.data.formats import example_proto, rlds_writer, tfrecord
from jaxpolicy.data.stream import Dataset, Plan, StreamLoader
from jaxpolicy.data.windows import Index
from tests.data.episodes import SPEC, make_episode

LENGTHS = np.array([3, 4, 5, 2, 6])
WINDOW = (2, 3)


def taken(plan, first, n):
    """(block, frame of it) of samples, in order."""
    return [(block, int(f)) for block, frames in plan.samples(first, n) for f in frames]


class TestPlan:
    """Blocks of 2 episodes: 2, 2 and 1 of the five, 20 samples an epoch."""

    plan = Plan(LENGTHS, 2, seed=3)

    def test_in_order_by_hand(self):
        # Blocks hold 3 + 4, 5 + 2 and 6 frames.
        plan = Plan(LENGTHS, 2, seed=0, shuffle=False)
        assert (plan.n_blocks, plan.n_samples) == (3, 20)
        assert [plan.episodes(b).tolist() for b in range(4)] == [[0, 1], [2, 3], [4], [0, 1]]
        expected = (
            [(0, f) for f in range(7)] + [(1, f) for f in range(7)] + [(2, f) for f in range(6)]
        )
        assert taken(plan, 0, 20) == expected
        assert taken(plan, 18, 4) == [(2, 4), (2, 5), (3, 0), (3, 1)]

    def test_an_epoch_sees_every_frame_once(self):
        for epoch in range(4):
            found = taken(self.plan, 20 * epoch, 20)
            blocks = range(3 * epoch, 3 * epoch + 3)
            episodes = np.concatenate([self.plan.episodes(b) for b in blocks])
            assert sorted(episodes) == [0, 1, 2, 3, 4]
            expected = {(b, f) for b in blocks for f in range(LENGTHS[self.plan.episodes(b)].sum())}
            assert len(found) == 20
            assert set(found) == expected

    def test_it_is_shuffled_anew(self):
        orders = {
            tuple(np.concatenate([self.plan.episodes(3 * e + b) for b in range(3)]))
            for e in range(6)
        }
        assert len(orders) > 1
        assert taken(self.plan, 0, 7) != taken(Plan(LENGTHS, 2, seed=4), 0, 7)
        frames = [f for _, f in taken(self.plan, 0, 7)]
        assert frames != sorted(frames)

    def test_a_sample_depends_on_its_number_alone(self):
        whole = taken(self.plan, 0, 90)
        for first, n in ((0, 1), (5, 30), (41, 49), (19, 2)):
            assert taken(Plan(LENGTHS, 2, seed=3), first, n) == whole[first : first + n]

    def test_blocks_of_about_256_mb(self):
        # 2**28 bytes / 10 MB an episode = 26.
        assert stream.block_episodes(1000 * 10**7, 1000) == 26
        assert stream.block_episodes(10, 4) == 4
        assert stream.block_episodes(2 * 2**40, 2) == 1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A dataset on disk, its episodes numbered by the first element of proprio."""
    folder = tmp_path_factory.mktemp("stream") / "d"
    episodes = [make_episode(i, n) for i, n in enumerate(LENGTHS)]
    rlds_writer.write(folder, episodes, SPEC, "lift", "png")
    return Dataset(str(folder), DataConfig(workers=1), ("image/wrist", "proprio"))


def make(dataset, directory, batch_size=5, **plan):
    made = Plan(LENGTHS, 2, seed=3, **plan)
    episodes = np.arange(len(LENGTHS))
    return StreamLoader(dataset, episodes, LENGTHS, WINDOW, batch_size, made, directory)


def frames(batch):
    return [tuple(r) for r in batch.observation["proprio"][:, -1].astype(int).tolist()]


def test_batches_from_a_worker(dataset, tmp_path):
    """One process decodes for all of this, since starting it takes seconds."""
    streamed = make(dataset, tmp_path)
    assert (streamed.mode, streamed.batches_per_epoch) == ("stream", 4)
    batches = [streamed.batch(s) for s in range(8)]
    everything = {(e, t) for e, n in enumerate(LENGTHS) for t in range(n)}
    for epoch in (batches[:4], batches[4:]):
        found = [f for b in epoch for f in frames(b)]
        assert len(found) == 20
        assert set(found) == everything
    # The same windows as from a cache of everything.
    source = open_source(dataset.path)
    whole = cache.build(source, range(5), dataset.keys, tmp_path / "cache")
    episode, t = np.array(frames(batches[5])).T
    index = Index(whole.starts[episode], whole.lengths[episode], t)
    expected = loader.gather_on_host(whole.arrays, index, *WINDOW)
    jax.tree.map(np.testing.assert_array_equal, batches[5], expected)
    # Going back to a step, as a resumed run does, gives what an unbroken run had.
    for step in (2, 7):
        jax.tree.map(np.testing.assert_array_equal, streamed.batch(step), batches[step])
    # Epoch 1 is blocks 3 to 5: those long past are gone, and after closing all are.
    (blocks,) = (p for p in tmp_path.iterdir() if p.name.startswith("stream-"))
    assert not {"0", "1", "2"} & {p.name for p in blocks.iterdir()}
    streamed.close()
    assert not blocks.exists()
    streamed.close()


def test_in_process(dataset, tmp_path):
    """What a worker does: a block is a cache of its episodes, resized as asked for."""
    config = dataclasses.replace(dataset.config, image_size=4)
    path = stream._decode(dataset._replace(config=config), [[3, 1]], str(tmp_path / "7"))
    found = cache.open_cache(pathlib.Path(path))
    assert found.lengths.tolist() == [2, 4]
    assert found.arrays["image/wrist"].shape == (6, 4, 4, 3)
    np.testing.assert_array_equal(found.arrays["proprio"][:, 0], [3, 3, 1, 1, 1, 1])
    # A block of which less could be decoded than was planned fills up with what it has.
    index = stream._index(found, np.array([0, 5, 6, 8]))
    assert index.start.tolist() == [0, 2, 0, 2]
    assert index.t.tolist() == [0, 3, 0, 0]


def test_what_it_cannot_do(dataset, tmp_path):
    streamed = make(dataset, tmp_path)
    with pytest.raises(InputError, match="holds no arrays"):
        _ = streamed.arrays
    with pytest.raises(InputError, match="has no indices"):
        streamed.indices(0)
    with pytest.raises(InputError, match="batch size 0 must be a multiple of 1"):
        make(dataset, tmp_path, batch_size=0)
    streamed.close()
    assert not list(tmp_path.iterdir())


def test_a_block_that_cannot_be_decoded_is_replaced(dataset, tmp_path):
    folder = shutil.copytree(dataset.path, tmp_path / "d")
    (path,) = folder.glob("*.tfrecord-*")
    values = [example_proto.decode(tfrecord.read(r), "") for r in tfrecord.index(path)]
    values[2]["steps/observation/image_wrist"][0] = b"no picture"
    with open(path, "wb") as file:
        for value in values:
            tfrecord.write(file, example_proto.encode(value))
    damaged = dataset._replace(path=str(folder))
    found = cache.open_cache(pathlib.Path(stream._decode(damaged, [[2], [4]], str(tmp_path / "a"))))
    assert found.episodes.tolist() == [4]
    with pytest.raises(InputError, match="cannot decode the image"):
        stream._decode(damaged, [[2]], str(tmp_path / "b"))
    strict = dataclasses.replace(dataset.config, cleaning=CleaningConfig(corrupt="error"))
    with pytest.raises(InputError, match="cannot decode the image"):
        stream._decode(damaged._replace(config=strict), [[2], [4]], str(tmp_path / "c"))

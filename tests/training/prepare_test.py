import dataclasses
import json
import shutil

import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.data import CleaningConfig, open_source, process
from jaxpolicy.data.config import MixtureEntry
from jaxpolicy.data.formats import example_proto, rlds_writer, tfrecord
from jaxpolicy.data.loader import choose_mode
from jaxpolicy.training import factory, loop, prepare
from tests.training import fixtures


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run directory with demonstrations on disk, in the canonical format."""
    directory = tmp_path_factory.mktemp("run")
    episodes = iter(fixtures.source(images=True))
    spec = fixtures.spec(images=True)
    rlds_writer.write(directory / "dataset", episodes, spec, "tiny", image_encoding="png")
    return directory


def test_dataset_defaults_to_the_run_directory(tmp_path):
    config = fixtures.config()
    assert prepare.dataset_path(config, tmp_path) == tmp_path / "dataset"
    named = dataclasses.replace(config, dataset="/data/x")
    assert str(prepare.dataset_path(named, tmp_path)) == "/data/x"


def test_prepared_parts(workdir):
    data = prepare.prepare_data(fixtures.config(), workdir)
    # 20 episodes split .7/.2/.1: 14, 4 and 2.
    assert [data.processed[0].counts[p] for p in ("train", "val", "test")] == [14, 4, 2]
    assert len(data.train_loader.lengths) == 14
    assert len(data.val_loader.lengths) == 4
    assert [s.name for s in data.policy_spec.observation] == ["image/wrist", "proprio"]
    assert set(data.norm) == {"action", "proprio"}


def test_from_files_to_a_policy(workdir):
    calls = []
    config = fixtures.config()
    result = loop.fit(config, workdir, lambda a, s, p, step: calls.append(step) or {"x": step})
    assert calls == [4, 8, 12]
    assert result.metrics["eval/x"] == 12
    policy = factory.load_policy(workdir)
    assert (
        policy.dataset_hash
        == json.loads((workdir / "processed/source.json").read_text())["dataset_hash"]
    )
    batch = factory.example_batch(policy.policy_spec, 3)
    assert policy.algorithm.act(policy.params, batch.observation, None).shape == (3, 1, 2)


def test_another_configuration_is_refused_before_the_data_is_touched(workdir):
    loop.fit(fixtures.config(), workdir)
    before = (workdir / "processed" / "episodes.jsonl").read_bytes()
    other = fixtures.change(fixtures.config(), "data", split=(0.5, 0.3, 0.2))
    with pytest.raises(InputError, match="another configuration: data.split is"):
        loop.fit(other, workdir)
    assert (workdir / "processed" / "episodes.jsonl").read_bytes() == before


def test_missing_dataset(tmp_path):
    with pytest.raises(InputError, match="dataset: no such dataset"):
        loop.fit(fixtures.config(), tmp_path)


def test_a_picture_that_cannot_be_decoded_is_quarantined(workdir, tmp_path):
    # Processing decodes no pictures: the episode is found when frames are cached.
    folder = shutil.copytree(workdir / "dataset", tmp_path / "dataset")
    (path,) = folder.glob("*.tfrecord-*")
    values = [example_proto.decode(tfrecord.read(r), "") for r in tfrecord.index(path)]
    values[5]["steps/observation/image_wrist"][3] = b"no picture"
    with open(path, "wb") as file:
        for value in values:
            tfrecord.write(file, example_proto.encode(value))
    split = process.process(open_source(folder), fixtures.config().data, tmp_path / "processed")
    part = next(e.part for e in split.episodes if e.index == 5)
    assert part in ("train", "val")
    for _ in range(2):
        data = prepare.prepare_data(fixtures.config(), tmp_path)
        loader = data.train_loader if part == "train" else data.val_loader
        assert 5 not in loader.cache.episodes
        assert len(loader.lengths) == split.counts[part] - 1
    (line,) = (tmp_path / "processed" / "quarantine.jsonl").read_text().splitlines()
    noted = json.loads(line)
    assert noted["index"] == 5
    assert "step 3, 'steps/observation/image_wrist': cannot decode the image" in noted["why"]
    strict = fixtures.change(fixtures.config(), "data", cleaning=CleaningConfig(corrupt="error"))
    strict = dataclasses.replace(strict, dataset=str(folder))
    with pytest.raises(InputError, match="cannot decode the image"):
        prepare.prepare_data(strict, tmp_path / "strict")


def mixture_of(workdir, *data, **weights):
    entries = tuple(MixtureEntry(str(workdir / "dataset"), w, d) for w, d in data)
    return dataclasses.replace(fixtures.config(**weights), mixture=entries)


def test_a_mixture(workdir, tmp_path):
    data = fixtures.config().data
    other = dataclasses.replace(data, split=(0.4, 0.3, 0.3))
    made = prepare.prepare_data(mixture_of(workdir, (3.0, data), (1.0, other)), tmp_path)
    # 14 and 8 of 20 episodes; a batch of 16 holds 12 and 4 samples.
    assert [p.counts["train"] for p in made.processed] == [14, 8]
    assert len(made.train_loader.lengths) == 22
    assert made.train_loader.mode == "device"
    assert made.train_loader.batch(0).action.shape[0] == 16
    # Both processed folders, one hash for both.
    assert {"processed", "processed_1"} <= {p.name for p in tmp_path.iterdir()}
    assert made.dataset_hash not in [p.dataset_hash for p in made.processed]
    # The mean is the mean of the means by weight.
    a, b = (p.norm["action"].mean for p in made.processed)
    np.testing.assert_allclose(made.norm["action"].mean, 0.75 * a + 0.25 * b, rtol=1e-5)


def test_budgets_are_for_all_datasets_together(workdir, tmp_path, monkeypatch):
    sizes = []

    def choose(n_bytes, *args):
        sizes.append(n_bytes)
        return choose_mode(n_bytes, *args)

    monkeypatch.setattr(prepare, "choose_mode", choose)
    data = fixtures.config().data
    made = prepare.prepare_data(mixture_of(workdir, (1.0, data), (2.0, data)), tmp_path)
    # A frame is 8 * 8 * 3 bytes of picture, 3 of proprio and 2 of the action at 4 bytes.
    steps = {p: int(made.processed[0].lengths(p).sum()) for p in ("train", "val")}
    expected = [2 * steps[p] * (192 + 12 + 8) for p in ("train", "train", "val", "val")]
    assert sizes == expected


def test_sizes_of_pictures_must_agree(workdir, tmp_path):
    data = fixtures.config().data
    small = dataclasses.replace(data, image_size=6)
    with pytest.raises(InputError, match="must be network.image_size"):
        prepare.prepare_data(mixture_of(workdir, (1.0, small), (1.0, small)), tmp_path)

    def prepared(*entries):
        config = fixtures.change(mixture_of(workdir, *entries), "network", image_size=6)
        return prepare.prepare_data(config, tmp_path)

    both = prepared((1.0, small), (1.0, small)).train_loader
    assert both.batch(0).observation["image/wrist"].shape[2:] == (6, 6, 3)
    with pytest.raises(InputError, match=r"the same for all datasets, got \[0, 6\]"):
        prepared((1.0, small), (1.0, data))

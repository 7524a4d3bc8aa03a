import dataclasses
import json

import pytest

from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.specs import InputError
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

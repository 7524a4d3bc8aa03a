"""What was made before the source tree was rearranged works as it did: tests/data/old_run."""

import hashlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxpolicy.core import schema
from jaxpolicy.core.specs import FROM_ROBOT
from jaxpolicy.data import open_source
from jaxpolicy.data import process as processing
from jaxpolicy.deploy import PolicyRuntime, artefact
from jaxpolicy.export import policy_function, verify
from jaxpolicy.pipeline import train
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training import factory

RUN = Path(__file__).parent / "data" / "old_run"
EXPECTED = json.loads((RUN / "expected.json").read_text())
# Far below what an action can be told apart by; other processors add up in another order.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def policy():
    return factory.load_policy(RUN)


@pytest.fixture(scope="module")
def golden():
    return verify.read_golden(RUN / "export", artefact.read_manifest(RUN / "export"))


def experiment() -> ExperimentConfig:
    return schema.from_mapping(ExperimentConfig, json.loads((RUN / "config.json").read_text()))


def test_the_configuration_is_read_and_new_keys_have_their_defaults():
    config = experiment()
    assert (config.name, config.algorithm, config.env.name) == ("bc_reach", "bc", "reach")
    assert config.data.action_minimum == ()


def test_the_dataset_holds_the_same_bits():
    source = open_source(RUN / "dataset")
    digest = hashlib.sha256()
    for episode in source:
        for name in sorted(episode.observation):
            digest.update(name.encode() + np.ascontiguousarray(episode.observation[name]).tobytes())
        digest.update(episode.action.tobytes() + episode.reward.tobytes())
    assert len(source) == EXPECTED["episodes"]
    assert source.fingerprint() == EXPECTED["fingerprint"]
    assert digest.hexdigest() == EXPECTED["dataset_sha256"]


def test_it_need_not_be_processed_again(tmp_path):
    shutil.copytree(RUN / "processed", tmp_path / "processed")
    before = {p.name: p.read_bytes() for p in (tmp_path / "processed").iterdir()}
    source, config = open_source(RUN / "dataset"), experiment()
    found = processing.process(source, config.data, tmp_path / "processed")
    assert {p.name: p.read_bytes() for p in (tmp_path / "processed").iterdir()} == before
    assert found.dataset_hash == json.loads(before["source.json"])["dataset_hash"]
    # Processed anew, it is the same but for the names and sources that are new.
    anew = processing.process(source, config.data, tmp_path / "anew")
    for key, stats in found.norm.items():
        np.testing.assert_array_equal(stats, anew.norm[key])
    assert anew.episodes == found.episodes
    assert anew.dataset_hash == found.dataset_hash
    assert anew.spec.action.limits_from == FROM_ROBOT


def test_the_checkpoint_holds_the_same_parameters(policy):
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(policy.params):
        value = np.ascontiguousarray(leaf)
        about = f"{jax.tree_util.keystr(path)} {value.dtype} {value.shape}"
        digest.update(about.encode() + value.tobytes())
    assert policy.step == EXPECTED["step"]
    assert digest.hexdigest() == EXPECTED["params_sha256"]


def test_the_policy_acts_as_it_did(policy, golden):
    observation, noise, action = golden
    found = policy_function.predict(policy_function.make(policy), observation, noise)
    np.testing.assert_allclose(found, action, rtol=0, atol=TOLERANCE)
    assert np.ptp(action, axis=0).max() > 10 * TOLERANCE


def test_the_bundle_answers_as_it_did(golden):
    observation, _, action = golden
    runtime = PolicyRuntime(RUN / "export")
    assert runtime.manifest.action.limits_from == ""
    spec = runtime.manifest.action
    for i in range(len(action)):
        runtime.reset(1)
        found = runtime.act({k: v[i : i + 1, -1] for k, v in observation.items()})
        wanted = np.clip(action[i, :1], spec.minimum, spec.maximum)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)


def test_the_run_is_resumed_and_judged_on_its_data(tmp_path):
    run = Path(shutil.copytree(RUN, tmp_path / "run", symlinks=True))
    result, errors = train.run(experiment(), run)
    assert (result.resumed_from, result.step) == (20, 20)
    recorded = json.loads((RUN / "evaluation" / "offline.json").read_text())
    assert set(errors) == set(recorded)
    for name, found in errors.items():
        for unit, value in recorded[name]["mae"].items():
            np.testing.assert_allclose(found.mae[unit], value, rtol=1e-5)

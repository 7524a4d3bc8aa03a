import dataclasses
import json

import pytest

from jaxpolicy.core import schema
from jaxpolicy.core.specs import InputError
from jaxpolicy.training import run_directory
from jaxpolicy.training.config import TrainConfig
from tests.training import fixtures


@dataclasses.dataclass(frozen=True)
class Wider(TrainConfig):
    """A configuration of more than training."""

    report: str = "html"


def stored(config):
    """Assets as they come back from a checkpoint."""
    return {"config": json.loads(json.dumps(schema.to_mapping(config)))}


def test_the_same_configuration_passes(tmp_path):
    config = fixtures.config()
    run_directory.check_same_config(config, stored(config), tmp_path)
    run_directory.check_same_config(config, {}, tmp_path)


@pytest.mark.parametrize("key", run_directory.FREE_KEYS)
def test_free_keys_exist(key):
    # Not to_mapping, which leaves out what is optional and empty.
    value = dataclasses.asdict(TrainConfig())
    for part in key.split("."):
        value = value[part]


def test_plugins_may_change_and_their_settings_may_not(tmp_path):
    config = dataclasses.replace(fixtures.config(), settings=schema.Settings(delta=0.2))
    moved = dataclasses.replace(config, plugins=("elsewhere.py",))
    run_directory.check_same_config(moved, stored(config), tmp_path)
    other = dataclasses.replace(config, settings=schema.Settings(delta=0.3))
    with pytest.raises(InputError, match=r"settings.delta is 0.2 there and 0.3 now"):
        run_directory.check_same_config(other, stored(config), tmp_path)


def test_other_stages_do_not_matter(tmp_path):
    run_directory.check_same_config(Wider(report="pdf"), stored(Wider()), tmp_path)


def test_keys_newer_than_the_checkpoint_have_their_default(tmp_path):
    old = stored(fixtures.config())
    del old["config"]["optimizer"]["epsilon"]
    run_directory.check_same_config(fixtures.config(), old, tmp_path)
    changed = fixtures.change(fixtures.config(), "optimizer", epsilon=1e-3)
    with pytest.raises(InputError, match="optimizer.epsilon is 1e-08 there and 0.001 now"):
        run_directory.check_same_config(changed, old, tmp_path)


def test_keys_that_are_gone_are_named(tmp_path):
    old = stored(fixtures.config())
    old["config"]["optimizer"]["momentum"] = 0.9
    with pytest.raises(InputError, match="optimizer.momentum is 0.9 there and <absent> now"):
        run_directory.check_same_config(fixtures.config(), old, tmp_path)


def test_config_file(tmp_path):
    run_directory.write_config(Wider(name="x"), tmp_path)
    value = json.loads((tmp_path / "config.json").read_text())
    assert (value["name"], value["report"]) == ("x", "html")
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_writable_leaves_nothing_behind(tmp_path):
    run_directory.check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_unwritable_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--workdir=.*/file cannot be written"):
        run_directory.check_writable(tmp_path / "file")


def test_versions_name_the_packages():
    assert run_directory.versions()["jax"].count(".") >= 2

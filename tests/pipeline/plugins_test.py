"""Plug-ins: entry points of distributions, and modules. No test here touches the registries."""

import dataclasses
import json
import logging as std_logging
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import sim
from jaxpolicy.core import schema
from jaxpolicy.core.registry import Plugin
from jaxpolicy.core.schema import InputError, Settings
from jaxpolicy.networks import encoder
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.networks.heads import HeadConfig
from jaxpolicy.pipeline import experiment, grid, plugins
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training import factory
from tests.launch.plugins_test import write_page

PARTS = """
from jaxpolicy.core.registry import Plugin

def make_flat(config):
    return None

PLUGIN = Plugin(backbones={"flat": make_flat})
"""


@pytest.fixture
def registries():
    """As those of the library, but of this test alone."""
    return {name: registry.copy() for name, registry in plugins.REGISTRIES.items()}


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Installs `flat-parts` in a folder of its own; returns how."""

    def install(code=PARTS, version="1.0", entry="flat = flat_parts:make_flat"):
        (tmp_path / "flat_parts.py").write_text(code)
        info = tmp_path / f"flat_parts-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: flat-parts\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[jaxpolicy.backbones]\n{entry}\n")
        return info

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    sys.modules.pop("flat_parts", None)


def uses_flat(**changes):
    return ExperimentConfig(network=NetworkConfig(backbone="flat"), **changes)


# ---------------------------------------------------------------------- entry points


def test_an_installed_distribution_brings_its_parts(distribution, registries):
    distribution()
    assert plugins.load((), registries) == ("flat-parts==1.0",)
    assert registries["backbones"]["flat"](None) is None
    assert "flat" not in plugins.REGISTRIES["backbones"]


def test_loading_twice_changes_nothing(distribution, registries):
    distribution()
    assert plugins.load((), registries) == plugins.load((), registries)


def test_a_run_records_the_distributions_that_it_uses(distribution, registries):
    distribution()
    assert plugins.use(uses_flat(), (), registries).plugins == ("flat-parts==1.0",)
    assert plugins.use(ExperimentConfig(), (), registries).plugins == ()


def test_a_distribution_that_is_gone_is_named(registries):
    with pytest.raises(InputError, match="uses parts of flat-parts==1.0, which is not installed"):
        plugins.use(uses_flat(plugins=("flat-parts==1.0",)), (), registries)


def test_another_version_is_used_with_a_warning(distribution, registries, caplog):
    distribution(version="1.1")
    with caplog.at_level(std_logging.WARNING, logger="absl"):
        found = plugins.use(uses_flat(plugins=("flat-parts==1.0",)), (), registries)
    assert "made with flat-parts==1.0; flat-parts 1.1 is installed" in caplog.text
    assert found.plugins == ("flat-parts==1.1",)


@pytest.mark.parametrize(
    ("code", "entry", "why"),
    [
        ("import nowhere_at_all", "flat = flat_parts:make", "ModuleNotFoundError: No module"),
        ("1 / 0", "flat = flat_parts:make", "ZeroDivisionError: division by zero"),
        (PARTS, "flat = flat_parts:nothing", "AttributeError: .*nothing"),
    ],
)
def test_an_entry_point_that_fails_is_one_line(distribution, registries, code, entry, why):
    distribution(code, entry=entry)
    wanted = f"flat-parts==1.0: entry point {entry} of jaxpolicy.backbones cannot be loaded: {why}"
    with pytest.raises(InputError, match=wanted) as error:
        plugins.load((), registries)
    assert "\n" not in str(error.value)


def test_an_entry_point_may_not_take_a_name(distribution, registries):
    distribution(entry="resnet18 = flat_parts:make_flat")
    with pytest.raises(InputError, match="flat-parts==1.0: backbone 'resnet18': jaxpolicy has"):
        plugins.load((), registries)


# --------------------------------------------------------------------------- modules


def test_a_path_is_recorded_from_the_root(tmp_path, monkeypatch, registries):
    (tmp_path / "mine.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    config = plugins.use(uses_flat(), ("mine.py", "mine.py"), registries)
    assert config.plugins == (str(tmp_path / "mine.py"),)
    # A later stage, somewhere else, without the flag.
    monkeypatch.chdir("/")
    fresh = {name: registry.copy() for name, registry in plugins.REGISTRIES.items()}
    stored = experiment.from_mapping(json.loads(json.dumps({"plugins": config.plugins})))
    plugins.use(stored, (), fresh)
    assert "flat" in fresh["backbones"]


def test_a_dotted_name_is_imported(tmp_path, monkeypatch, registries):
    (tmp_path / "dotted_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.use(uses_flat(), ("dotted_parts",), registries).plugins == ("dotted_parts",)


def test_nothing_is_added_where_one_name_is_taken(tmp_path, registries):
    code = PARTS.replace('"flat": make_flat', '"flat": make_flat, "vit": make_flat')
    (tmp_path / "taken.py").write_text(code)
    with pytest.raises(InputError, match="taken.py: backbone 'vit': jaxpolicy has one"):
        plugins.load((str(tmp_path / "taken.py"),), registries)
    assert "flat" not in registries["backbones"]


@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("none.py", None, "no such file"),
        ("broken.py", "def (", "cannot be loaded: SyntaxError"),
        ("empty.py", "", "must define PLUGIN"),
        ("list.py", "PLUGIN = []", "must define PLUGIN, .* got list"),
        ("bare.py", PARTS.replace('backbones={"flat": make_flat}', ""), "brings nothing"),
        ("kind.py", PARTS.replace("=make_flat", "=3").replace(": make_flat", ": 3"), "Callable"),
    ],
)
def test_what_is_wrong_with_a_module_is_one_line(tmp_path, registries, name, code, why):
    if code is not None:
        (tmp_path / name).write_text(code)
    with pytest.raises(InputError, match=f"{name}.*{why}") as error:
        plugins.load((str(tmp_path / name),), registries)
    assert "\n" not in str(error.value)


def test_a_module_that_python_cannot_find(registries):
    with pytest.raises(InputError, match="plug-in no.such.parts cannot be loaded: .*PYTHONPATH"):
        plugins.load(("no.such.parts",), registries)


# ------------------------------------------------------------- the parts of the page


@pytest.fixture
def parts(tmp_path, registries):
    """The registries with the parts of docs/plugins.md in them."""
    plugins.load((str(write_page(tmp_path) / "my_parts.py"),), registries)
    return registries


def test_the_page_shows_a_part_of_every_kind(parts):
    kinds = {name for name, registry in parts.items() if registry.origins}
    assert kinds == set(plugins.REGISTRIES) == {f.name for f in dataclasses.fields(Plugin)}


def test_the_backbone_makes_a_map(parts):
    config = NetworkConfig(backbone="strided", settings=Settings(features=8))
    network = parts["backbones"]["strided"](config)
    images, condition = jnp.zeros((2, 32, 48, 3)), jnp.zeros((2, 5))
    y, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), images, condition)
    assert y.shape == (2, 4, 6, 8)


def test_the_head_keeps_the_contract(parts):
    head, config = parts["heads"]["log_cosh"], HeadConfig()
    # ln cosh 1 = 0.4338.
    target = jnp.zeros((1, 1, head.size(config, 2)))
    np.testing.assert_allclose(head.loss(config, target + 1.0, target), 0.43378, rtol=1e-4)
    assert head.mode(config, target).shape == (1, 1, 2)


def test_the_robot_and_the_encoder(parts):
    robot = parts["robots"]["firm_panda"]
    assert (robot.name, robot.n_joints) == ("firm_panda", 7)
    letters = parts["text_encoders"]["letters"](26)
    vectors = letters.encode(["act", "cat", "dog"])
    assert vectors.shape == (3, letters.size)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert (vectors[0] != vectors[2]).any()


def test_the_formats_errors_name_the_file(parts, tmp_path):
    (tmp_path / "a.episode.json").write_text("{}")
    form = parts["formats"]["json"]
    assert form.matches(tmp_path)
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "a.episode.json"))):
        form.open(tmp_path)


# ------------------------------------------------------------------- configurations


def test_settings_are_refused_for_parts_of_the_library():
    with pytest.raises(InputError, match="config.settings are for algorithms of plug-ins"):
        factory.method_settings(ExperimentConfig(settings=Settings(x=1)))
    with pytest.raises(InputError, match="network.settings are for backbones of plug-ins"):
        encoder.resolve(NetworkConfig(settings=Settings(x=1)))
    with pytest.raises(InputError, match="env.settings are for tasks of plug-ins"):
        sim.make("reach", settings=Settings(x=1))


def test_records_without_plugins_are_as_they_were():
    told = schema.to_mapping(ExperimentConfig())
    assert not {"plugins", "settings"} & set(told)
    assert "settings" not in told["network"]
    assert "settings" not in told["env"]


def test_settings_go_through_json_and_a_grid():
    config = ExperimentConfig(settings=Settings(a=[1, {"b": 2}]), plugins=("mine",))
    stored = json.loads(json.dumps(schema.to_mapping(config)))
    assert stored["settings"] == {"a": [1, {"b": 2}]}
    assert experiment.from_mapping(stored) == config
    assert hash(config.settings) == hash(experiment.from_mapping(stored).settings)
    swept = grid.cells(dataclasses.replace(config, grid="settings.a=3,4"))
    assert [cell.config.settings["a"] for cell in swept] == [3, 4]
    assert {cell.config.plugins for cell in swept} == {("mine",)}

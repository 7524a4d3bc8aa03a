"""A plug-in, as docs/plugins.md shows it, on the road from collection to a deployed artefact."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from jaxpolicy.deploy import PolicyRuntime
from jaxpolicy.pipeline import plugins
from tests.launch.cli_test import ROOT, launch, one_line

PAGE = (ROOT / "docs" / "plugins.md").read_text()


def write_page(folder: Path) -> Path:
    """Writes the files that the page shows into `folder`, which it returns."""
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        with open(folder / name, "a") as file:
            file.write(code)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_page(tmp_path)


def commands(folder: Path) -> list[list[str]]:
    """What the page says to type, with the page's files and its runs in `folder`."""
    lines = re.findall(r"^python -m launch\.(.*)", PAGE.replace("\\\n", " "), re.MULTILINE)
    there = re.sub(r"=(my_|runs/)", rf"={folder}/\1", "\n".join(lines))
    return [line.split() for line in there.splitlines()]


def test_the_commands_of_the_page_go_from_collection_to_the_artefact(folder):
    told = {}
    for module, *args in commands(folder):
        done = launch(module, *args)
        assert done.returncode == 0, done.stderr
        told[module] = done.stdout
    assert list(told) == ["pipeline", "evaluate", "export", "convert", "process"]
    assert "gate passed" in told["pipeline"]
    assert "success" in told["evaluate"]
    assert "|JAX - onnx|" in told["export"]
    assert "4 episodes written" in told["convert"]
    assert "4 episodes kept" in told["process"]
    _check_run(folder / "runs" / "touch", folder / "my_parts.py")


def _check_run(run: Path, parts: Path) -> None:
    """The run names its plug-in and settings, and its artefact acts without the plug-in."""
    config = json.loads((run / "config.json").read_text())
    assert config["plugins"] == [str(parts)]
    assert config["settings"] == {"delta": 0.2}
    assert config["network"]["settings"] == {"features": 8}
    assert config["env"]["settings"] == {"tolerance": 0.03}
    runtime = PolicyRuntime(run / "export", "onnx")
    seen = {s.name: np.zeros((1, *s.shape), s.dtype) for s in runtime.manifest.observation}
    assert runtime.act(seen).shape == (1, runtime.manifest.action.size)
    registries = {name: registry.copy() for name, registry in plugins.REGISTRIES.items()}
    plugins.load((str(parts),), registries)
    window = {k: v[:, None] for k, v in seen.items()}
    own, plain = (registries["runtimes"][k](run / "export") for k in ("two_threads", "onnx"))
    np.testing.assert_array_equal(own(window), plain(window))


def test_a_plugin_that_is_gone_is_named_and_may_have_moved(folder):
    stored = {"algorithm": "huber", "plugins": [str(folder / "gone.py")]}
    (folder / "config.json").write_text(json.dumps(stored))
    message = one_line(launch("evaluate", f"--workdir={folder}"), 1)
    assert f"{folder / 'gone.py'}: no such file; if that of a run has moved, give" in message
    moved = f"--config.plugins={folder / 'my_parts.py'}"
    message = one_line(launch("evaluate", f"--workdir={folder}", moved), 1)
    assert "checkpoints not found" in message


@pytest.mark.parametrize("key", ["settings.delat", "network.settings.width"])
def test_settings_are_checked_by_the_plugin(folder, key):
    done = launch(
        "train",
        f"--config={folder / 'my_experiment.py'}",
        f"--plugin={folder / 'my_parts.py'}",
        f"--config.{key}=0.2",
        f"--workdir={folder / 'run'}",
    )
    place, _, last = key.rpartition(".")
    assert f"{place} has no key '{last}'" in one_line(done, 1)
    assert not (folder / "run").exists()


def test_a_part_that_nobody_brought_is_named(folder):
    done = launch(
        "train",
        f"--config={folder / 'my_experiment.py'}",
        f"--config.dataset={ROOT / 'tests/data/bridge_dataset/1.0.0'}",
        f"--workdir={folder / 'run'}",
        "--describe",
    )
    assert "algorithm must be one of" in one_line(done, 1)

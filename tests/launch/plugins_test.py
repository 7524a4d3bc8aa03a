"""A plug-in, as docs/plugins.md shows it, on the road from collection to a deployed artefact."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxpolicy.deploy import PolicyRuntime
from tests.launch.cli_test import ROOT, launch, one_line

PAGE = ROOT / "docs" / "plugins.md"


def written(folder: Path) -> Path:
    """The files that the page shows, in `folder`."""
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        with open(folder / name, "a") as file:
            file.write(code)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The page's files, and `run`, which the pipeline made."""
    folder = written(tmp_path_factory.mktemp("plugin"))
    done = launch(
        "pipeline",
        f"--config={folder / 'my_experiment.py'}",
        f"--plugin={folder / 'my_parts.py'}",
        f"--workdir={folder / 'run'}",
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_names_its_plugins_and_its_settings(trained):
    config = json.loads((trained / "run" / "config.json").read_text())
    assert config["plugins"] == [str(trained / "my_parts.py")]
    assert config["settings"] == {"delta": 0.2}
    assert config["network"]["settings"] == {"features": 8}
    assert config["env"]["settings"] == {"tolerance": 0.03}


def test_the_artefact_of_own_parts_acts_in_the_runtime(trained):
    runtime = PolicyRuntime(trained / "run" / "export", "onnx")
    observation = {s.name: np.zeros((1, *s.shape), s.dtype) for s in runtime.manifest.observation}
    assert runtime.act(observation).shape == (1, runtime.manifest.action.size)


def test_later_stages_find_the_plugin_again(trained):
    done = launch("export", f"--workdir={trained / 'run'}")
    assert done.returncode == 0, done.stderr
    done = launch("evaluate", f"--workdir={trained / 'run'}", "--policy=onnx")
    assert done.returncode == 0, done.stderr
    assert "success" in done.stdout


def test_an_own_format_is_written_and_recognised(trained):
    done = launch(
        "convert",
        f"--config={trained / 'my_experiment.py'}",
        f"--plugin={trained / 'my_parts.py'}",
        f"--config.dataset={trained / 'run' / 'dataset'}",
        "--to=json",
        f"--output={trained / 'json'}",
    )
    assert done.returncode == 0, done.stderr
    assert "4 episodes written" in done.stdout
    done = launch(
        "process",
        "--config=configs/bc_dataset.py",
        f"--plugin={trained / 'my_parts.py'}",
        f"--config.dataset={trained / 'json'}",
        "--config.data.control_hz=20.0",
        f"--workdir={trained / 'from_json'}",
    )
    assert done.returncode == 0, done.stderr
    assert "4 episodes kept" in done.stdout


def test_a_plugin_that_is_gone_is_named(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run", symlinks=True)
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["plugins"] = [str(tmp_path / "gone.py")]
    path.write_text(json.dumps(config))
    message = one_line(launch("evaluate", f"--workdir={tmp_path / 'run'}"), 1)
    assert f"{tmp_path / 'gone.py'}: no such file" in message


@pytest.mark.parametrize(
    ("right", "wrong", "place"),
    [("delta=0.2", "delat=0.2", "settings"), ("features=8", "width=8", "network.settings")],
)
def test_settings_are_checked_by_the_plugin(trained, tmp_path, right, wrong, place):
    text = (trained / "my_experiment.py").read_text()
    (tmp_path / "wrong.py").write_text(text.replace(right, wrong))
    done = launch(
        "train",
        f"--config={tmp_path / 'wrong.py'}",
        f"--plugin={trained / 'my_parts.py'}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert f"{place} has no key '{wrong.partition('=')[0]}'" in one_line(done, 1)
    assert not (tmp_path / "run").exists()

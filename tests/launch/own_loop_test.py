"""docs/own_loop.md: a loop on one device and on several, whose run the launchers take."""

import re

import jax
import numpy as np

from jaxpolicy import sim
from tests.launch.cli_test import ROOT, launch
from tests.training import point

PAGE = (ROOT / "docs" / "own_loop.md").read_text()


def test_the_page_trains_and_the_launchers_take_its_run(tmp_path, monkeypatch):
    assert jax.device_count() == 8
    # Of the learner in worlds the page's task would compile for long; a point does as well.
    monkeypatch.setattr(sim, "make_world", lambda config: point.world())
    script = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    script = script.replace("demos", f"{tmp_path}/demos").replace('"run"', f'"{tmp_path}/run"')
    names: dict = {}
    # It compares the losses of the three loops itself.
    exec(compile(script, "docs/own_loop.md", "exec"), names)
    # What is saved is what the devices trained together.
    assert int(names["state"].step) == 30
    assert np.isfinite(names["validation"]["loss"])
    assert int(names["rl_state"].step) == 3
    first = jax.tree.leaves(names["rl_state"].worlds)[0]
    assert len(first.sharding.device_set) == 8
    assert not first.is_fully_replicated
    told = {}
    for module, flags in re.findall(r"^python -m launch\.(\w+) +--workdir=run ?(.*)$", PAGE, re.M):
        done = launch(module, f"--workdir={tmp_path / 'run'}", *flags.split())
        assert done.returncode == 0, done.stderr
        told[module] = done.stdout
    assert "policy" in told["evaluate"]
    assert "|JAX - onnx|" in told["export"]

"""The benchmark beside Stable-Baselines3: its table, our side, and how theirs sees the worlds."""

import os
import subprocess
import sys
import sysconfig

import pytest

from benchmarks import reinforcement
from benchmarks.reinforcement_sides import ours, settings
from benchmarks.reinforcement_sides.measuring import Update
from jaxpolicy import sim
from tests import layers

PYTHON = layers.ROOT / os.environ.get("TORCH_VENV", ".venv-torch") / "bin" / "python"

# Runs with both environments: one adapter after the other, the same actions.
ADAPTERS = """
import numpy as np
from benchmarks.reinforcement_sides import settings
from benchmarks.reinforcement_sides.stable_baselines import VECTORS

STEPS, E = 7, 2
env = settings.debug().env
actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, E, 5)).astype(np.float32)
seen = []
for make in VECTORS.values():
    worlds = make(env, E)
    worlds.seed(3)
    rows = [(worlds.reset(),)]
    for action in actions:
        *row, infos = worlds.step(action)
        rows.append((*row, *[i["terminal_observation"] for i in infos if row[2].all()]))
        assert all(i.get("TimeLimit.truncated", False) == row[2].all() for i in infos)
    seen.append(rows)
assert [r[2].tolist() for r in seen[0][1:]] == [[t == 4] * E for t in range(STEPS)]
assert not np.allclose(seen[0][0][0], seen[0][5][0], atol=1e-3), "the same episode again"
for a, b in zip(*seen, strict=True):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
"""


def test_table_holds_medians_and_compares_with_the_faster_of_theirs():
    sides = reinforcement.rows("python", debug=True)
    measured = [
        # 100 steps in 50, 100 and 20 ms: 2,000, 1,000 and 5,000 a second, the median 2,000.
        [Update(100, 1, 40, 10), Update(100, 1, 60, 40), Update(100, 1, 15, 5)],
        [Update(100, 1, 90, 110)],  # 500
        [Update(100, 1, 90, 35)],  # 800
        [Update(1000, 1, 90, 160)],  # 4,000
    ]
    head, _, *lines = reinforcement.table(sides, measured).splitlines()
    assert head.startswith("|  | steps per CPU-s | CPU-ms per update | rollout | learning |")
    assert lines == [
        "| ours, tiny | 2,000 | 50.0 | 40.0 | 10.0 | 2.50 |",
        "| Stable-Baselines3, GymVectorEnv, tiny | 500 | 200.0 | 90.0 | 110.0 | 0.62 |",
        "| Stable-Baselines3, DummyVecEnv, tiny | 800 | 125.0 | 90.0 | 35.0 | 1.00 |",
        "| ours, tiny | 4,000 | 250.0 | 90.0 | 160.0 | 5.00 |",
    ]


def test_only_our_sides_run_without_pytorch():
    sides = reinforcement.rows("", debug=False)
    assert [row.arguments for row in sides] == [("reference",), ("full",)]
    measured = [[Update(100, 1, 40, 10)]] * 2
    assert reinforcement.table(sides, measured).endswith("| 2,000 | 50.0 | 40.0 | 10.0 |  |")


def test_settings_are_those_of_the_document():
    config = settings.reference()
    assert (config.ppo.n_worlds, config.ppo.steps, config.ppo.epochs) == (4, 500, 3)
    assert (config.network.hidden, config.network.layers) == (64, 2)
    assert config.env.workers == settings.full().env.workers == 1
    assert not config.arena.expert_starts


def test_our_side_measures_an_update():
    config = settings.debug()
    update = Update(**ours.Learner(config).update())
    assert update.steps == 2 * 8
    # Policy and critic, [state, 64, 64, 5] and [state, 64, 64, 1], and 5 standard deviations.
    (state,) = [s for s in sim.make_world(config.env).observation_specs if s.name == "privileged"]
    hidden = state.shape[0] * 64 + 64 + 64 * 64 + 64
    assert update.parameters == 2 * hidden + (64 * 5 + 5) + (64 + 1) + 5
    assert min(update.rollout, update.learning) > 0.0


def test_arguments_are_checked(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reinforcement", "--updates=0"])
    with pytest.raises(SystemExit):
        reinforcement.main()
    assert "--updates must be at least 1" in capsys.readouterr().err


def test_both_adapters_show_the_same_worlds():
    if not PYTHON.exists():
        pytest.skip(f"no PyTorch: {PYTHON} does not exist; `make venv-torch` makes it")
    packages = sysconfig.get_path("purelib")
    code = f"import sys; sys.path.append({packages!r})\n{ADAPTERS}"
    done = subprocess.run(
        [str(PYTHON), "-c", code],
        cwd=layers.ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named 'stable_baselines3'" in done.stderr:
        pytest.skip("no Stable-Baselines3; `make venv-torch` installs it")
    assert done.returncode == 0, done.stderr

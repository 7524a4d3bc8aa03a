import dataclasses
import importlib.util
import json
import shutil

import numpy as np
import pytest

from jaxpolicy.collect.config import CollectConfig, DaggerConfig
from jaxpolicy.core.schema import InputError
from jaxpolicy.data import open_source, process
from jaxpolicy.data.config import DataConfig
from jaxpolicy.evaluation import plots
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.pipeline import dagger, dagger_rounds, pooled, stages
from jaxpolicy.pipeline import train as training
from jaxpolicy.sim import wrappers
from jaxpolicy.training import factory
from tests.fake_env import PointEnv
from tests.pipeline.sweep_test import experiment


class World(PointEnv):
    """PointEnv without its picture, which is slow to learn from; where the goal is stays hidden."""

    observation_specs = PointEnv.observation_specs[1:]

    def reset(self, rng):
        return _blind(super().reset(rng))

    def step(self, state, action):
        return _blind(super().step(state, action))


def _blind(state):
    return state.replace(obs={k: v for k, v in state.obs.items() if k != "image/top"})


def settings(rounds=2, **values):
    part = {
        "collect": CollectConfig(n_episodes=6, batch=6, tail_steps=3),
        "dagger": DaggerConfig(rounds=rounds, episodes_per_round=4, batch=4, eval_episodes=5),
        "evaluation": EvaluationConfig(n_episodes=6, batch=6, n_recorded=1),
        "data": DataConfig(split=(0.7, 0.3, 0.0)),
        "min_success": 0.0,
    }
    return experiment(**(part | values))


@pytest.fixture(scope="module")
def patched():
    """Every stage's world is World; reports, which have tests of their own, have no plots."""
    env = wrappers.EpisodeLimit(World(), 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "make_world", lambda config: env)
        patch.setattr(plots, "draw_all", lambda *args: {})
        yield env


@pytest.fixture(scope="module")
def killed(patched, tmp_path_factory):
    """A run of one round that was killed after labelling, before it trained again."""
    workdir = tmp_path_factory.mktemp("killed")
    real = training.run

    def train(config, directory, progress):
        if directory.name == "round_1":
            raise KeyboardInterrupt
        return real(config, directory, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "run", train)
        with pytest.raises(KeyboardInterrupt):
            dagger.run(settings(rounds=1), workdir)
    return workdir


def copied(killed, tmp_path):
    return shutil.copytree(killed, tmp_path / "run", symlinks=True)


@pytest.fixture(scope="module")
def ran(patched, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("dagger")
    return workdir, dagger.run(settings(), workdir)


def test_every_round_is_told(ran):
    workdir, found = ran
    told = json.loads((workdir / "dagger.json").read_text())
    rounds = told["rounds"]
    assert [r["round"] for r in rounds] == [0, 1, 2]
    assert [r["beta"] for r in rounds] == [1.0, 0.0, 0.0]
    assert [r["episodes"] for r in rounds] == [6, 4, 4]
    assert all(r["validation"]["n_episodes"] == 5 for r in rounds)
    assert rounds[1]["labelled"] == rounds[1]["steps"]
    assert rounds[1]["expert_steps"] == 0
    assert (rounds[1]["operator"], rounds[1]["learner_step"] > 0) == ("expert", True)
    assert found.runs[0]["rounds"] == rounds
    assert workdir / "success.png" in found.paths or not importlib.util.find_spec("matplotlib")
    assert not found.reasons


def test_rounds_are_run_directories(ran):
    workdir, _ = ran
    best = json.loads((workdir / "dagger.json").read_text())["best"]
    assert (workdir / "best").resolve() == (workdir / f"round_{best}").resolve()
    report = json.loads((workdir / "best" / "evaluation" / "report.json").read_text())
    assert report["n_episodes"] == 6
    for number in range(3):
        policy = factory.load_policy(workdir / f"round_{number}")
        assert [s.name for s in policy.policy_spec.observation] == ["proprio"]


def test_all_rounds_so_far_are_learned_from_step_by_step(ran):
    workdir, _ = ran
    config = json.loads((workdir / "round_2" / "config.json").read_text())
    weights = [entry["weight"] for entry in config["mixture"]]
    directory = workdir / "round_2"
    names = ("processed", "processed_1", "processed_2")
    parts = [process.load(directory / name) for name in names]
    assert weights == [p.lengths("train").sum() for p in parts]
    # Failed episodes are learned from: the learner knows nothing, so all fail.
    assert [p.counts["kept"] for p in parts] == [6, 4, 4]
    source = open_source(workdir / "dagger" / "round_1", "rlds")
    assert {source[i].metadata.success for i in range(4)} <= {False, True}
    assert {source[i].metadata.collection_method for i in range(4)} == {"dagger"}


def test_starts_of_rounds_differ(ran):
    workdir, _ = ran
    sources = [open_source(workdir / "dagger" / f"round_{i}", "rlds") for i in (1, 2)]
    starts = [s[i].observation["proprio"][0] for s in sources for i in range(4)]
    assert len(np.unique(np.stack(starts), axis=0)) == 8


def test_finished_rounds_are_not_done_again(ran, patched, monkeypatch):
    workdir, found = ran
    trained = []
    real = training.run
    monkeypatch.setattr(training, "run", lambda c, w, p: trained.append(w.name) or real(c, w, p))
    again = dagger.run(settings(), workdir)
    assert not trained
    assert again.groups == found.groups
    grown = dagger.run(settings(rounds=3), workdir)
    assert trained == ["round_3"]
    assert grown.runs[0]["rounds"][:3] == found.runs[0]["rounds"]


def test_a_killed_run_continues_in_its_round(killed, tmp_path):
    workdir = copied(killed, tmp_path)
    ledger = (workdir / "dagger" / "round_1" / "collection.json").read_text()
    found = dagger.run(settings(rounds=1), workdir)
    assert [r["round"] for r in found.runs[0]["rounds"]] == [0, 1]
    # What was labelled was not labelled again: its time is the same.
    assert (workdir / "dagger" / "round_1" / "collection.json").read_text() == ledger


def test_other_settings_are_refused(ran, patched):
    workdir, _ = ran
    changed = dataclasses.replace(settings().dagger, schedule="constant")
    with pytest.raises(InputError, match="dagger.schedule is first there and constant now"):
        dagger.run(settings(dagger=changed), workdir)
    with pytest.raises(InputError, match="horizon is 1 there and 2 now"):
        dagger.run(settings(horizon=2), workdir)


def test_seeds_share_demonstrations_and_are_pooled(patched, tmp_path):
    found = dagger.run(settings(rounds=1, seeds=2), tmp_path)
    assert [r["name"] for r in found.runs] == ["seed_0", "seed_1"]
    for name in ("seed_0", "seed_1"):
        assert (tmp_path / name / "dataset").resolve() == (tmp_path / "dataset").resolve()
        assert (tmp_path / name / "round_1" / "checkpoints").is_dir()
    (group,) = found.groups
    assert (group["n_seeds"], group["before"]["n_episodes"]) == (2, 12)
    assert (tmp_path / "best" / "checkpoints").is_dir()
    assert json.loads((tmp_path / "runs.json").read_text())["groups"][0]["n_seeds"] == 2


def test_seeds_are_pooled_by_hand():
    def run(before, after, seed):
        told = {"0": pooled.success(before, 10), "2": pooled.success(after, 10)}
        return {"name": f"seed_{seed}", "values": {}, "best": 2, "evaluations": told}

    (group,) = pooled.summarize_gains([run(5, 8, 0), run(6, 9, 1), run(4, 10, 2)])
    # 15 and 27 of 30: .5 and .9. Wilson of 27 of 30 is worked out in sweep_test.
    assert (group["before"]["n_success"], group["after"]["n_success"]) == (15, 27)
    assert group["gain"] == pytest.approx(0.4)
    assert group["after"]["success_ci95"] == pytest.approx([0.7438, 0.9654], abs=1e-3)


def test_no_dataset_is_lost_in_the_mixture():
    # 512 parts of 51,200 and 100 steps: 100.195 steps; the 100 are counted as so many.
    assert dagger_rounds._weights([51_200, 100]) == [51_200.0, 51_300 / 512]
    assert dagger_rounds._weights([700, 300]) == [700.0, 300.0]


def test_labelled_episodes_are_kept_however_they_went():
    data = DataConfig(format="lerobot", action_keys=("a",), cameras=("front",))
    found = dagger_rounds.labels_data(data)
    assert (found.format, found.action_keys, found.cameras) == ("rlds", (), ("front",))
    assert not found.cleaning.failed
    assert not found.cleaning.truncated
    assert data.cleaning.failed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": DataConfig(previous_action=True)}, "previous_action does not go with DAgger"),
        ({"seed": 5000}, "must be at most 4000"),
    ],
)
def test_what_has_no_meaning_is_refused(patched, tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        dagger.run(settings(**values), tmp_path)


class Nobody:
    """Never takes over."""

    def reset(self, n):
        self.n = n

    def act(self, observation):
        return np.zeros((self.n, 3), np.float32)

    def intervening(self):
        return np.zeros(self.n, bool)


def test_a_round_without_interventions_adds_no_data(killed, tmp_path):
    workdir = copied(killed, tmp_path)
    shutil.rmtree(workdir / "dagger")
    shutil.rmtree(workdir / "round_1")
    teacher = dagger.Teacher(Nobody(), "anna")
    found = dagger.run(settings(rounds=1), workdir, teacher=teacher)
    told = found.runs[0]["rounds"][1]
    assert (told["labelled"], told["steps"] > 0, told["operator"]) == (0, True, "anna")
    assert json.loads((workdir / "round_1" / "config.json").read_text())["mixture"] == []

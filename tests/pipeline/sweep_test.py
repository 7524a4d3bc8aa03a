import dataclasses
import json

import numpy as np
import pytest

from jaxpolicy.core.schema import InputError
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.pipeline import collect, sweep, words
from jaxpolicy.pipeline import evaluate as evaluation
from jaxpolicy.pipeline import run as road
from jaxpolicy.pipeline import train as training
from jaxpolicy.pipeline.experiment import ExperimentConfig
from tests.training import fixtures


def experiment(**values):
    """The tiny run of the training tests as an experiment."""
    tiny = fixtures.config()
    fields = {f.name: getattr(tiny, f.name) for f in dataclasses.fields(tiny)}
    return ExperimentConfig(**(fields | values))


# ------------------------------------------------------------------ grids


# ------------------------------------------------------------------ tables


# ------------------------------------------------------------------ runs


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two seeds, trained."""
    workdir = tmp_path_factory.mktemp("sweep")
    rlds_writer.write(workdir / "dataset", iter(fixtures.source()), fixtures.spec(), "tiny")
    return workdir, sweep.train(experiment(seeds=2), workdir)


def test_seeds_differ_and_share_their_data(swept):
    workdir, found = swept
    first, second = (r["score"] for r in found["runs"])
    assert first != second
    for run in ("seed_0", "seed_1"):
        for name in ("dataset", "processed", "cache"):
            assert (workdir / run / name).resolve() == (workdir / name).resolve()
        assert (workdir / run / "checkpoints" / "best").exists()
    assert json.loads((workdir / "config.json").read_text())["seeds"] == 2
    assert found == sweep.read(workdir)
    assert (workdir / "best").resolve().name == found["best"]


def test_finished_runs_are_not_redone(swept, monkeypatch):
    workdir, found = swept
    trained = []
    real = training.run
    monkeypatch.setattr(training, "run", lambda c, w, p: trained.append(w.name) or real(c, w, p))
    assert sweep.train(experiment(seeds=2), workdir) == found
    assert trained == []
    grown = sweep.train(experiment(seeds=3), workdir)
    assert trained == ["seed_2"]
    assert grown["runs"][:2] == found["runs"]


def test_success_is_measured_once(swept, monkeypatch):
    workdir, _ = swept
    evaluated = []

    def evaluate(config, directory, policy, progress):
        evaluated.append(directory.name)
        n = config.evaluation.n_episodes
        k = n - 1 - config.seed
        told = {"n_success": k, "n_episodes": n, "success_rate": k / n, "success_ci95": (0.1, 0.9)}
        return told, None

    monkeypatch.setattr(evaluation, "run", evaluate)
    config = experiment(seeds=2)
    found = sweep.evaluate(config, workdir)
    # 199 and 198 of 200 each.
    assert [g["n_success"] for g in found["groups"]] == [397]
    assert words.tell_success(found["groups"][0]).startswith("397/400 = 99.2% [")
    sweep.evaluate(config, workdir)
    assert evaluated == ["seed_0", "seed_1"]
    other = dataclasses.replace(config.evaluation, n_episodes=50)
    sweep.evaluate(dataclasses.replace(config, evaluation=other), workdir)
    assert evaluated == ["seed_0", "seed_1"] * 2


def test_evaluating_before_training(tmp_path, swept):
    config = experiment(seeds=2, dataset=str(swept[0] / "dataset"))
    with pytest.raises(InputError, match="seed_0: not trained yet"):
        sweep.evaluate(config, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_evaluating_a_sweep_that_is_not_finished_does_nothing(swept, monkeypatch):
    workdir, _ = swept

    def evaluate(*arguments):
        raise AssertionError("a run was evaluated")

    monkeypatch.setattr(evaluation, "run", evaluate)
    with pytest.raises(InputError, match="seed_3: not trained yet"):
        sweep.evaluate(experiment(seeds=4), workdir)


def test_the_gate_asks_for_the_pooled_success(swept, monkeypatch):
    workdir, _ = swept
    delivered = []
    rates = {0: 0.5, 1: 0.9}

    def evaluate(config, directory, policy, progress):
        rate = rates[config.seed]
        told = {"n_success": int(200 * rate), "n_episodes": 200, "success_rate": rate}
        return told | {"success_ci95": (0, 1)}, None

    monkeypatch.setattr(evaluation, "run", evaluate)
    monkeypatch.setattr(
        collect, "run", lambda *a: dict.fromkeys(("successes", "attempts", "steps"), 1)
    )
    monkeypatch.setattr(road, "deliver", lambda c, w, f, log: delivered.append(w.name) or [])
    config = experiment(seeds=2, evaluation=dataclasses.replace(experiment().evaluation, seed=1))
    # 280 of 400 is 70 %.
    assert sweep.run(dataclasses.replace(config, min_success=0.7), workdir).passed
    summary = sweep.run(dataclasses.replace(config, min_success=0.71), workdir)
    assert summary.reasons == (
        "success 70.0% is below the limit 71.0%, which --config.min_success sets",
    )
    assert [r[0] for r in summary.rows[2:]] == [
        f"seed_{k} {stage}" for k in (0, 1) for stage in ("train", "evaluate")
    ]
    scores = [r["score"] for r in sweep.read(workdir)["runs"]]
    assert delivered == [f"seed_{int(np.argmin(scores))}"] * 2


def test_a_cell_with_other_data_has_a_split_of_its_own(swept):
    workdir, _ = swept
    found = sweep.train(experiment(grid="data.proprio=true;data.split=(0.5,0.3,0.2)"), workdir)
    directory = workdir / found["best"]
    assert not (directory / "processed").is_symlink()
    assert (directory / "cache").is_symlink()


def test_runs_that_learn_in_worlds_have_no_data_to_process(tmp_path, monkeypatch):
    config = ExperimentConfig(algorithm="ppo", seeds=2)
    trained = []
    monkeypatch.setattr(sweep, "_train", lambda cell, *rest: trained.append(cell.name))
    monkeypatch.setattr(sweep, "_write", lambda *args: {})
    sweep.train(config, tmp_path)
    assert trained == ["seed_0", "seed_1"]

import dataclasses
import json

import numpy as np
import pytest

from jaxpolicy import pipeline, schema, sweep
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.experiment import ExperimentConfig
from jaxpolicy.schema import InputError
from tests.training import fixtures


def experiment(**values):
    """The tiny run of the training tests as an experiment."""
    tiny = fixtures.config()
    fields = {f.name: getattr(tiny, f.name) for f in dataclasses.fields(tiny)}
    return ExperimentConfig(**(fields | values))


# ------------------------------------------------------------------ grids


def test_grid_by_hand():
    text = "optimizer.learning_rate=1e-4, 3e-4; network.widths=(8, 16),(4,) ;loop.scan=on;a=true"
    assert sweep.parse_grid(text) == {
        "optimizer.learning_rate": (1e-4, 3e-4),
        "network.widths": ((8, 16), (4,)),
        "loop.scan": ("on",),
        "a": (True,),
    }
    assert sweep.parse_grid(" ") == {}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("horizon", "cannot read 'horizon'; write key=value"),
        ("horizon=1,,2", "cannot read 'horizon=1,,2'"),
        ("horizon=1;", "cannot read ''"),
        ("=1", "cannot read '=1'"),
        ("horizon=1;horizon=2", "names 'horizon' twice"),
        ("seed=1,2", "cannot vary 'seed'"),
        ("env.name=lift,stack", "cannot vary 'env.name'"),
        ("optimizer.lr=1e-3", "no key 'lr'; known keys: name, learning_rate"),
        ("optimiser.learning_rate=1e-3", "no key 'optimiser'; did you mean 'optimizer'"),
        ("seed.x=1", "cannot vary 'seed.x'"),
        ("horizon.x=1", "horizon is a value, not a section"),
        ("horizon=two", "config.horizon must be int, got str 'two'"),
        ("n_action_steps=2", r"n_action_steps \(2\) exceeds horizon"),
        ("network.hidden=4,4", "the same directory name"),
    ],
)
def test_bad_grids_are_explained(grid, message):
    with pytest.raises(InputError, match=message):
        sweep.cells(experiment(grid=grid))


def test_cells_are_combinations_with_seeds():
    config = experiment(grid="optimizer.learning_rate=1e-3,1e-2;network.hidden=8", seeds=2, seed=5)
    found = sweep.cells(config)
    assert [c.name for c in found] == [
        "optimizer.learning_rate=0.001,network.hidden=8/seed_5",
        "optimizer.learning_rate=0.001,network.hidden=8/seed_6",
        "optimizer.learning_rate=0.01,network.hidden=8/seed_5",
        "optimizer.learning_rate=0.01,network.hidden=8/seed_6",
    ]
    last = found[-1].config
    assert (last.optimizer.learning_rate, last.network.hidden, last.seed) == (0.01, 8, 6)
    assert not sweep.is_sweep(last)
    assert schema.to_mapping(last.data) == schema.to_mapping(config.data)


def test_seeds_alone():
    assert [c.name for c in sweep.cells(experiment(seeds=2))] == ["seed_0", "seed_1"]
    assert not sweep.is_sweep(experiment())
    with pytest.raises(InputError, match="seeds must be at least 1"):
        experiment(seeds=0)


# ------------------------------------------------------------------ tables


def row(seed, score, k=None, n=10, **values):
    success = {"n_success": k, "n_episodes": n if k is not None else None}
    success |= {"success_rate": None if k is None else k / n, "success_ci95": None}
    return {"run": f"{values}{seed}", "values": values, "score": score, "seconds": 2.0} | success


def test_seeds_are_pooled_by_hand():
    found = sweep.summarize([row(0, 0.3, 9), row(1, 0.2, 8), row(2, 0.4, 10)])
    (group,) = found["groups"]
    # 27 of 30; rates .9 .8 1.0: mean .9, sample deviation .1.
    assert (group["n_success"], group["n_episodes"], group["n_seeds"]) == (27, 30, 3)
    assert group["mean"] == pytest.approx(0.9)
    assert group["std"] == pytest.approx(0.1)
    assert group["score"] == pytest.approx(0.3)
    # Wilson: z = 1.96, (.9 + .0640 -+ 1.96 sqrt(.003 + .001067)) / 1.1280.
    assert group["success_ci95"] == pytest.approx((0.7438, 0.9654), abs=1e-3)
    # The best run has the smallest validation loss, not the most successes.
    assert found["best"] == "{}1"
    assert sweep.summarize([row(0, 0.3, 9), row(1, 0.2, 8)], "max")["best"] == "{}0"


def test_order_of_groups():
    rows = [row(0, 0.1, 5, x=1), row(0, 0.3, 9, x=2), row(0, 0.2, 7, x=3)]
    order = [g["values"]["x"] for g in sweep.summarize(rows)["groups"]]
    assert order == [2, 3, 1]
    # Not all are evaluated: by the monitored metric.
    unfinished = [*rows[:2], row(0, 0.2, x=3)]
    assert [g["values"]["x"] for g in sweep.summarize(unfinished)["groups"]] == [1, 3, 2]
    unvalidated = [row(0, None, x=1), row(0, 0.5, x=2)]
    assert [g["values"]["x"] for g in sweep.summarize(unvalidated)["groups"]] == [2, 1]


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
    real = pipeline.train
    monkeypatch.setattr(pipeline, "train", lambda c, w, p: trained.append(w.name) or real(c, w, p))
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

    monkeypatch.setattr(pipeline, "evaluate", evaluate)
    config = experiment(seeds=2)
    found = sweep.evaluate(config, workdir)
    # 199 and 198 of 200 each.
    assert [g["n_success"] for g in found["groups"]] == [397]
    assert sweep.tell(found["groups"][0]).startswith("397/400 = 99.2% [")
    sweep.evaluate(config, workdir)
    assert evaluated == ["seed_0", "seed_1"]
    other = dataclasses.replace(config.evaluation, n_episodes=50)
    sweep.evaluate(dataclasses.replace(config, evaluation=other), workdir)
    assert evaluated == ["seed_0", "seed_1"] * 2


def test_evaluating_before_training(tmp_path, swept):
    config = experiment(seeds=2, dataset=str(swept[0] / "dataset"))
    with pytest.raises(InputError, match="not trained yet"):
        sweep.evaluate(config, tmp_path)


def test_the_gate_asks_for_the_pooled_success(swept, monkeypatch):
    workdir, _ = swept
    delivered = []
    rates = {0: 0.5, 1: 0.9}

    def evaluate(config, directory, policy, progress):
        rate = rates[config.seed]
        told = {"n_success": int(200 * rate), "n_episodes": 200, "success_rate": rate}
        return told | {"success_ci95": (0, 1)}, None

    monkeypatch.setattr(pipeline, "evaluate", evaluate)
    monkeypatch.setattr(
        pipeline, "collect", lambda *a: dict.fromkeys(("successes", "attempts", "steps"), 1)
    )
    monkeypatch.setattr(pipeline, "deliver", lambda c, w, f, log: delivered.append(w.name) or [])
    config = experiment(seeds=2, evaluation=dataclasses.replace(experiment().evaluation, seed=1))
    # 280 of 400 is 70 %.
    assert sweep.run(dataclasses.replace(config, min_success=0.7), workdir).passed
    summary = sweep.run(dataclasses.replace(config, min_success=0.71), workdir)
    assert summary.reasons == ("success 70.0% is below 71.0%",)
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

import dataclasses
import functools
import json
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.core import interruption
from jaxpolicy.core.specs import InputError
from jaxpolicy.training import checkpoint, factory, guard, journal, loop, metrics, prepare
from jaxpolicy.training.guard import DivergenceError, GuardConfig, Recovery
from tests.training import fixtures


class Interrupted(Exception):
    """Stands for a run that ends before its time."""


def interrupt_at(step):
    """An in-loop evaluation that stops the run."""

    def evaluate(algorithm, policy_spec, params, now):
        if now >= step:
            raise Interrupted
        return {}

    return evaluate


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return fixtures.train(fixtures.config(), tmp_path_factory.mktemp("unbroken"))


# ------------------------------------------------------------------ a whole run


def test_a_run_learns_and_tells(tmp_path):
    config = fixtures.config(steps=60, steps_per_dispatch=20, eval_every=20, tensorboard=True)
    config = fixtures.change(config, "optimizer", learning_rate=0.03)
    result = fixtures.train(config, tmp_path)
    rows = metrics.read(tmp_path)
    train = [r for r in rows if "train/loss" in r]
    val = [r for r in rows if "val/loss" in r]
    assert [r["step"] for r in train] == [r["step"] for r in val] == [20, 40, 60]
    assert val[-1]["val/loss"] < 0.5 * val[0]["val/loss"]
    assert {"val/action_error_m", "val/action_error_rad"} <= set(val[0])
    assert {"steps_per_s", "data_wait_share", "train/grad_norm"} <= set(train[0])
    assert result.step == 60
    assert not result.stopped_early
    assert result.steps_per_second > 0
    assert set(result.shares) == set(journal.PARTS)
    assert sum(result.shares.values()) == pytest.approx(1)
    assert all(share >= 0 for share in result.shares.values())
    assert list((tmp_path / "tensorboard").iterdir())
    assert json.loads((tmp_path / "config.json").read_text())["loop"]["steps"] == 60


def test_best_is_the_smallest_validation_loss(tmp_path):
    config = fixtures.config(steps=24, max_to_keep=9)
    config = fixtures.change(config, "optimizer", learning_rate=0.5, schedule="constant")
    result = fixtures.train(config, tmp_path)
    val = {r["step"]: r["val/loss"] for r in metrics.read(tmp_path) if "val/loss" in r}
    assert result.best_step == min(val, key=val.get)
    assert checkpoint.resolve_step(tmp_path) == result.best_step


def test_scan_and_single_steps_agree(tmp_path, unbroken):
    result = fixtures.train(fixtures.config(scan="on"), tmp_path)
    fixtures.assert_close(result.params, unbroken.params, 1e-6)
    assert result.metrics["val/loss"] == pytest.approx(unbroken.metrics["val/loss"], rel=1e-5)


def test_host_and_device_loaders_agree(tmp_path, unbroken):
    result = fixtures.train(fixtures.change(fixtures.config(), "data", loader="host"), tmp_path)
    fixtures.assert_close(result.params, unbroken.params, 1e-6)


def test_validation_is_the_mean_over_batches(tmp_path):
    config = fixtures.config(eval_batches=2)
    data = fixtures.prepared(config, tmp_path, fixtures.source())
    result = loop.train(config, tmp_path, data)
    losses = [
        float(result.algorithm.eval_step(result.state.params, data.val_loader.batch(i))["loss"])
        for i in range(2)
    ]
    assert result.metrics["val/loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_no_validation_data(tmp_path):
    config = fixtures.change(fixtures.config(), "data", split=(1.0, 0.0, 0.0))
    result = fixtures.train(config, tmp_path)
    assert result.best_step == result.step == 12
    assert "val/loss" not in result.metrics


# ------------------------------------------------------------------ early stopping


def test_early_stopping_restores_the_best(tmp_path):
    # A learning rate that only makes things worse after a while.
    config = fixtures.config(steps=4000, patience=2, eval_every=2, steps_per_dispatch=2)
    config = fixtures.change(config, "optimizer", learning_rate=1.0, schedule="constant")
    result = fixtures.train(config, tmp_path)
    assert result.stopped_early
    assert result.step == result.best_step + 2 * 2
    kept = checkpoint.load_params(tmp_path, result.best_step, result.params)
    fixtures.assert_same_bits(result.params, kept)
    again = fixtures.train(config, tmp_path)
    assert (again.step, again.best_step, again.stopped_early) == (
        result.step,
        result.best_step,
        True,
    )


def test_monitoring_an_in_loop_evaluation(tmp_path):
    success = {4: 0.5, 8: 0.9, 12: 0.7}
    config = fixtures.config(monitor="eval/success", monitor_mode="max")
    result = fixtures.train(
        config, tmp_path, evaluate=lambda a, spec, params, step: {"success": success[step]}
    )
    assert result.best_step == 8
    rows = [r["eval/success"] for r in metrics.read(tmp_path) if "eval/success" in r]
    assert rows == [0.5, 0.9, 0.7]


def test_monitor_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match=r"loop.monitor must be one of .*val/loss.*val/los'"):
        fixtures.train(fixtures.config(monitor="val/los"), tmp_path)
    with pytest.raises(InputError, match="needs in-loop evaluation"):
        fixtures.train(fixtures.config(monitor="eval/success"), tmp_path)


def test_patience_without_validation_data(tmp_path):
    config = fixtures.change(fixtures.config(patience=3), "data", split=(1.0, 0.0, 0.0))
    with pytest.raises(InputError, match="loop.patience needs validation data"):
        fixtures.train(config, tmp_path)


# ------------------------------------------------------------------ divergence


# Learning rates from which on a broken algorithm breaks; one recovery goes below.
LIMIT = 1e-3


def wild(rate=1e30, **loop_values):
    """Steps so large that the loss overflows."""
    config = fixtures.change(fixtures.config(**loop_values), "optimizer", clip_norm=0.0)
    return fixtures.change(
        config, "optimizer", name="adam", schedule="constant", learning_rate=rate
    )


def test_divergence_stops_with_a_clear_error(tmp_path):
    config = wild(guard=GuardConfig(tries=0))
    with pytest.raises(DivergenceError, match=r"training diverged: .* is (nan|inf) at step \d+"):
        fixtures.train(config, tmp_path)
    # Nothing that is not finite was saved.
    for step in checkpoint_steps(tmp_path):
        assert math.isfinite(checkpoint.load_assets(tmp_path, step)["best"]["score"])


def test_a_learning_rate_that_is_too_large_is_lowered(tmp_path):
    config = wild(guard=GuardConfig(tries=1, lr_factor=1e-32))
    result = fixtures.train(config, tmp_path)
    (recovery,) = result.recoveries
    assert (recovery.learning_rate, recovery.back_to) == (1e30, 0)
    assert result.step == 12
    assert all(np.isfinite(x).all() for x in fixtures.leaves(result.state))
    rows = metrics.read(tmp_path)
    train = [r for r in rows if "train/loss" in r]
    assert [(r["step"], r["recoveries"]) for r in train] == [(4, 1), (8, 1), (12, 1)]
    # The configuration stays what was asked for; the lower rate follows from the recoveries.
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["learning_rate"] == 1e30
    assert fixtures.train(config, tmp_path).recoveries == result.recoveries


def test_it_gives_up_after_so_many_recoveries(tmp_path):
    config = wild(guard=GuardConfig(tries=2, lr_factor=0.5))
    with pytest.raises(DivergenceError) as caught:
        fixtures.train(config, tmp_path)
    assert "the learning rate was 2.5e+29 by then, after 2 recoveries" in str(caught.value)
    assert "with 1e+30; " in str(caught.value)
    assert "with 5e+29. To go on: lower optimizer.learning_rate" in str(caught.value)


def broken(monkeypatch, change):
    """Learning rates of LIMIT and more have their train_step results changed."""
    make = factory.make_algorithm

    def make_broken(config, *args):
        algorithm = make(config, *args)
        if config.optimizer.learning_rate < LIMIT:
            return algorithm
        step = functools.partial(_changed, algorithm.train_step, change)
        return algorithm._replace(train_step=step)

    monkeypatch.setattr(factory, "make_algorithm", make_broken)


def _changed(train_step, change, state, batch):
    new, found = train_step(state, batch)
    return change(state.step, new, found)


def nan_loss(at, step, state, found):
    """The loss of step `at` is NaN."""
    return state, found | {"loss": jnp.where(step == at, jnp.nan, found["loss"])}


def nan_parameters(at, step, state, found):
    """Update number `at`, the first being 1, breaks the parameters but no metric before it."""
    spoil = jnp.where(step + 1 == at, jnp.nan, 0.0)
    network = jax.tree.map(lambda x: x + spoil, state.params["network"])
    return state._replace(params=state.params | {"network": network}), found


def large_kl(at, step, state, found):
    """Update `at` and those after it go too far."""
    return state, found | {"kl": jnp.where(step >= at, 1.0, 0.01)}


def without_validation(**loop_values):
    """Without validation, nothing but the guard looks at the parameters."""
    return fixtures.change(fixtures.config(**loop_values), "data", split=(1.0, 0.0, 0.0))


@pytest.mark.parametrize("scan", ["on", "off"])
def test_a_recovery_goes_on_from_the_newest_good_checkpoint(tmp_path, monkeypatch, scan):
    broken(monkeypatch, functools.partial(nan_loss, 6))
    result = fixtures.train(fixtures.config(scan=scan), tmp_path)
    assert result.recoveries == (Recovery(6, "loss is nan", 3e-3, 4),)
    rows = metrics.read(tmp_path)
    assert [r.get("recoveries") for r in rows if "train/loss" in r] == [None, 1, 1]
    assert [r["step"] for r in rows] == [4, 4, 8, 8, 12, 12]


def test_noise_and_learning_rate_after_a_recovery(tmp_path, monkeypatch):
    """As a run by hand: 4 updates, another key, then 8 updates at a tenth of the rate."""
    config = fixtures.config(scan="off")
    data = fixtures.prepared(config, tmp_path, fixtures.source())
    slow = fixtures.change(config, "optimizer", learning_rate=3e-3 * 0.1)
    first, second = (
        factory.make_algorithm(c, data.policy_spec, data.norm, 12) for c in (config, slow)
    )
    state = first.init(jax.random.key(0), factory.example_batch(data.policy_spec))
    batch = functools.partial(_batch, config, data.train_loader)
    for step in range(4):
        state, _ = jax.jit(first.train_step)(state, batch(step))
    state = state._replace(key=jax.random.fold_in(state.key, 1))
    for step in range(4, 12):
        state, _ = jax.jit(second.train_step)(state, batch(step))
    broken(monkeypatch, functools.partial(nan_loss, 6))
    result = fixtures.train(config, tmp_path)
    fixtures.assert_close(result.state, state, 1e-6)


def _batch(config, loader, step):
    fetch = loop.inputs.make_fetch(loader, config.n_obs_steps, config.horizon)
    arrays = dict(loader.arrays)
    return fetch(arrays, loader.indices(step) if loader.mode == "device" else loader.batch(step))


def test_a_checkpoint_with_a_broken_loss_is_passed_over(tmp_path, monkeypatch):
    # The loss of step 8 is that of the checkpoint after 8 updates.
    broken(monkeypatch, functools.partial(nan_loss, 8))
    result = fixtures.train(fixtures.config(max_to_keep=2), tmp_path)
    assert result.recoveries == (Recovery(8, "loss is nan", 3e-3, 4),)


def test_broken_parameters_are_never_saved(tmp_path, monkeypatch):
    broken(monkeypatch, functools.partial(nan_parameters, 6))
    result = fixtures.train(without_validation(checkpoint_every=3), tmp_path)
    assert result.recoveries == (Recovery(6, "a parameter is NaN or infinite", 3e-3, 3),)


def test_nothing_is_saved_before_all_metrics_were_looked_at(tmp_path, monkeypatch):
    saved = []
    save = checkpoint.Checkpointer.save

    def note(self, step, *args):
        saved.append(step)
        save(self, step, *args)

    monkeypatch.setattr(checkpoint.Checkpointer, "save", note)
    # The update before the checkpoint diverges, and metrics are one dispatch late.
    broken(monkeypatch, functools.partial(nan_loss, 5))
    config = without_validation(steps_per_dispatch=1, checkpoint_every=6)
    result = fixtures.train(config, tmp_path)
    assert result.recoveries == (Recovery(5, "loss is nan", 3e-3, 0),)
    assert saved == [6, 12]


def test_policies_that_move_too_far(tmp_path, monkeypatch):
    # Dispatches of 4: the mean of (.01, .01, 1, 1) is above .1, and was noticed at step 8.
    broken(monkeypatch, functools.partial(large_kl, 6))
    result = fixtures.train(fixtures.config(guard=GuardConfig(max_kl=0.1)), tmp_path)
    (recovery,) = result.recoveries
    assert (recovery.step, recovery.back_to) == (8, 4)
    assert recovery.reason == "train/kl is 0.505 (loop.guard.max_kl=0.1)"


def test_a_collapse_goes_back_to_the_best(tmp_path):
    # Medians of three: .8 at 6, .9 at 8, .8 at 10, .1 at 12; the top was reached at 4 and 8.
    success = iter([0.8, 0.9, 0.8, 0.9, 0.1, 0.1, 0.7, 0.7])
    config = fixtures.config(
        steps=12,
        eval_every=2,
        monitor="eval/success",
        monitor_mode="max",
        guard=GuardConfig(max_drop=0.5),
    )
    result = fixtures.train(config, tmp_path, evaluate=lambda *_: {"success": next(success)})
    (recovery,) = result.recoveries
    assert (recovery.step, recovery.back_to) == (12, 8)
    rows = [r["eval/success"] for r in metrics.read(tmp_path) if "eval/success" in r]
    assert rows == [0.8, 0.9, 0.8, 0.9, 0.7, 0.7]
    assert result.best_step == 8


def test_a_score_that_is_not_finite(tmp_path):
    success = iter([0.8, float("nan"), 0.9, 0.9])
    config = fixtures.config(monitor="eval/success", monitor_mode="max")
    result = fixtures.train(config, tmp_path, evaluate=lambda *_: {"success": next(success)})
    assert result.recoveries == (Recovery(8, "eval/success is nan", 3e-3, 4),)


def test_watching_a_metric_that_never_comes(tmp_path):
    config = fixtures.config(guard=GuardConfig(max_drop=0.5))
    with pytest.raises(InputError, match="max_drop of eval/success needs in-loop evaluation"):
        fixtures.train(config, tmp_path)
    config = fixtures.config(guard=GuardConfig(max_drop=0.5, metric="train/retrun"))
    with pytest.raises(InputError, match=r"guard.metric must be one of .*train/loss"):
        fixtures.train(config, tmp_path)


@pytest.mark.parametrize(("killed_at", "resumed_from"), [(8, 4), (12, 8)])
def test_killed_after_a_recovery(tmp_path, monkeypatch, killed_at, resumed_from):
    # At 8 no checkpoint knows of the recovery yet, so it is repeated; at 12 one does.
    broken(monkeypatch, functools.partial(nan_loss, 6))
    config = fixtures.config(max_to_keep=2)
    whole = fixtures.train(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fixtures.train(config, tmp_path / "parts", evaluate=interrupt_at(killed_at))
    rest = fixtures.train(config, tmp_path / "parts")
    assert rest.resumed_from == resumed_from
    assert rest.recoveries == whole.recoveries
    fixtures.assert_same_bits(rest.state, whole.state)
    fixtures.assert_same_bits(rest.params, whole.params)
    assert without_times(tmp_path / "parts") == without_times(tmp_path / "whole")


def checkpoint_steps(workdir):
    return [int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()]


# ------------------------------------------------------------------ resuming


@pytest.mark.parametrize("scan", ["on", "off"])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, scan):
    config = fixtures.config(scan=scan, checkpoint_every=6)
    whole = fixtures.train(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fixtures.train(config, tmp_path / "parts", evaluate=interrupt_at(8))
    rest = fixtures.train(config, tmp_path / "parts")
    assert 0 < rest.resumed_from < 8
    fixtures.assert_same_bits(rest.state, whole.state)
    fixtures.assert_same_bits(rest.params, whole.params)
    assert rest.best_step == whole.best_step
    assert without_times(tmp_path / "parts") == without_times(tmp_path / "whole")


def without_times(workdir):
    timed = ("steps_per_s", "data_wait_share")
    return [{k: v for k, v in r.items() if k not in timed} for r in metrics.read(workdir)]


def test_a_finished_run_returns_at_once(tmp_path):
    first = fixtures.train(fixtures.config(), tmp_path)
    again = fixtures.train(fixtures.config(), tmp_path)
    assert again.resumed_from == again.step == 12
    fixtures.assert_same_bits(again.params, first.params)
    assert len(metrics.read(tmp_path)) == 6


def test_bookkeeping_may_change_on_resume(tmp_path):
    fixtures.train(fixtures.config(), tmp_path)
    config = dataclasses.replace(fixtures.config(max_to_keep=5, devices=2), name="renamed")
    assert fixtures.train(config, tmp_path).resumed_from == 12


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda c: fixtures.change(c, "network", hidden=8), "network.hidden is 16 there and 8 now"),
        (lambda c: dataclasses.replace(c, seed=7), "seed is 0 there and 7 now"),
        (lambda c: fixtures.change(c, "loop", patience=9), "loop.patience is 0 there and 9 now"),
    ],
)
def test_another_configuration_is_refused(tmp_path, unbroken_copy, change, key):
    with pytest.raises(InputError, match=f"another configuration: {key}; use another --workdir"):
        fixtures.train(change(fixtures.config()), unbroken_copy)
    assert json.loads((unbroken_copy / "config.json").read_text())["seed"] == 0


@pytest.fixture(scope="module")
def unbroken_copy(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("other")
    fixtures.train(fixtures.config(), workdir)
    return workdir


def test_another_dataset_is_refused(tmp_path):
    fixtures.train(fixtures.config(), tmp_path / "run")
    data = fixtures.prepared(fixtures.config(), tmp_path, fixtures.source(offset=100))
    with pytest.raises(InputError, match="trained on another dataset"):
        loop.train(fixtures.config(), tmp_path / "run", data)


def test_unwritable_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    data = fixtures.prepared(fixtures.config(), tmp_path, fixtures.source())
    with pytest.raises(
        InputError, match=r"--workdir=.*file/run cannot be written: Not a directory"
    ):
        loop.train(fixtures.config(), tmp_path / "file" / "run", data)
    with pytest.raises(InputError, match="cannot be written"):
        loop.fit(fixtures.config(), tmp_path / "file")


# ------------------------------------------------------------------ devices


def test_one_and_eight_devices_agree(tmp_path):
    config = fixtures.config(steps=8)
    episodes = fixtures.source(images=True)
    one, eight = (
        fixtures.train(fixtures.change(config, "loop", devices=n), tmp_path / str(n), episodes)
        for n in (1, 8)
    )
    assert len(jax.tree.leaves(eight.state.params)[0].sharding.device_set) == 8
    fixtures.assert_close(one.state.params, eight.state.params, 1e-5)
    assert one.metrics["val/loss"] == pytest.approx(eight.metrics["val/loss"], abs=1e-5)


def test_eight_devices_scanned(tmp_path, unbroken):
    result = fixtures.train(fixtures.config(scan="on", devices=8), tmp_path)
    fixtures.assert_close(result.params, unbroken.params, 1e-5)


def test_batch_size_must_fit_the_devices(tmp_path):
    with pytest.raises(InputError, match=r"loop.batch_size \(12\) must be a multiple of the 8"):
        fixtures.train(fixtures.config(batch_size=12, devices=8), tmp_path)


# ------------------------------------------------------------------ compiled programs


def test_compilation_cache_directory(tmp_path):
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    try:
        loop.enable_compilation_cache(tmp_path / "programs")
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "programs")
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.mark.parametrize("mode", ["stream", "host", "device"])
def test_a_run_keeps_the_order_of_its_samples(mode):
    # Streaming has another order than the two others, which have the same.
    loader = types.SimpleNamespace(mode=mode)
    data = prepare.Prepared(loader, None, None, {}, "", ())
    loop._check_order(data, {"streamed": mode == "stream"})
    with pytest.raises(InputError, match="samples would come in another order; resume with"):
        loop._check_order(data, {"streamed": mode != "stream"})


# ------------------------------------------------------------------ longer runs


def test_a_finished_run_goes_on_for_longer(tmp_path, capsys):
    fixtures.train(fixtures.config(), tmp_path)
    result = fixtures.train(fixtures.config(steps=20, progress=True), tmp_path)
    assert (result.resumed_from, result.step) == (12, 20)
    steps = [r["step"] for r in metrics.read(tmp_path) if "train/loss" in r]
    assert steps == [4, 8, 12, 16, 20]
    assert json.loads((tmp_path / "config.json").read_text())["loop"]["steps"] == 20
    told = [line for line in capsys.readouterr().err.splitlines() if "instead of" in line]
    assert told == [
        "20 updates instead of 12: goes on from update 12; the learning rate is that of a cosine "
        "schedule over 20 updates from there on"
    ]


def test_with_a_constant_rate_a_longer_run_is_the_unbroken_one(tmp_path):
    constant = fixtures.change(fixtures.config(), "optimizer", schedule="constant")
    longer = fixtures.change(constant, "loop", steps=20)
    fixtures.train(constant, tmp_path / "grown")
    grown = fixtures.train(longer, tmp_path / "grown")
    whole = fixtures.train(longer, tmp_path / "whole")
    fixtures.assert_same_bits(grown.state, whole.state)
    assert grown.best_step == whole.best_step


def test_a_run_cannot_become_shorter_than_it_is(tmp_path, unbroken_copy):
    with pytest.raises(InputError, match="holds a run of 12 updates and 8 are asked for"):
        fixtures.train(fixtures.config(steps=8), unbroken_copy)


def test_who_was_out_of_patience_gets_as_much_again(tmp_path):
    # The score gets worse at every validation, so patience ends after two more.
    def worse(algorithm, policy_spec, params, step):
        return {"score": float(step)}

    settings = {"eval_every": 4, "monitor": "eval/score", "patience": 2}
    first = fixtures.train(fixtures.config(steps=40, **settings), tmp_path, evaluate=worse)
    assert (first.step, first.stopped_early) == (12, True)
    again = fixtures.train(fixtures.config(steps=40, **settings), tmp_path, evaluate=worse)
    assert again.step == 12
    more = fixtures.train(fixtures.config(steps=44, **settings), tmp_path, evaluate=worse)
    assert (more.resumed_from, more.step, more.best_step) == (12, 20, 4)


# ------------------------------------------------------------------ interruptions


@pytest.fixture
def signals(monkeypatch):
    """A signal that comes when it is called for."""
    state = interruption._State()
    monkeypatch.setattr(interruption, "_STATE", state)
    return state


def signalled_at(signals, at, during):
    """An in-loop evaluation in which a signal comes at step `at`."""

    def evaluate(algorithm, policy_spec, params, step):
        if step == at:
            signals.signum = 2
        if during:
            interruption.check()
        return {}

    return evaluate


@pytest.mark.parametrize("during", [True, False])
def test_an_interrupted_validation_is_made_up_for(tmp_path, signals, during):
    watch = signalled_at(signals, 0, during)
    whole = fixtures.train(fixtures.config(), tmp_path / "whole", evaluate=watch)
    watch = signalled_at(signals, 8, during)
    with pytest.raises(interruption.Interrupted):
        fixtures.train(fixtures.config(), tmp_path / "broken", evaluate=watch)
    signals.signum = 0
    watch = signalled_at(signals, 0, during)
    again = fixtures.train(fixtures.config(), tmp_path / "broken", evaluate=watch)
    assert again.resumed_from == 8
    fixtures.assert_same_bits(again.state, whole.state)
    fixtures.assert_same_bits(again.params, whole.params)
    assert again.best_step == whole.best_step
    assert without_times(tmp_path / "broken") == without_times(tmp_path / "whole")


def test_an_interrupted_dispatch_is_saved(tmp_path, signals, monkeypatch):
    config = fixtures.config(steps=24, eval_every=12)
    whole = fixtures.train(config, tmp_path / "whole")
    real = guard.check_finite

    def look(rows, step):
        signals.signum = 2 if step == 0 else signals.signum
        real(rows, step)

    with monkeypatch.context() as patch:
        patch.setattr(guard, "check_finite", look)
        with pytest.raises(interruption.Interrupted):
            fixtures.train(config, tmp_path / "broken")
    signals.signum = 0
    again = fixtures.train(config, tmp_path / "broken")
    assert 0 < again.resumed_from < 24
    assert again.resumed_from % 12
    fixtures.assert_same_bits(again.state, whole.state)
    assert again.best_step == whole.best_step

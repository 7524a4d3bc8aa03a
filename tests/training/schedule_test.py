from jaxpolicy.training import schedule
from jaxpolicy.training.schedule import Schedule
from tests.training import fixtures


def test_dispatch_plan_by_hand():
    # Ends: dispatch 4, 8, 12, 16; validation 6, 12; checkpoint 5, 10, 15; end 17.
    times = Schedule(total=17, eval_every=6, checkpoint_every=5, dispatch=4)
    plan = list(schedule.dispatch_plan(times, 0))
    stops = [start + n for start, n in plan]
    assert stops == [4, 5, 6, 8, 10, 12, 15, 16, 17]
    assert [start for start, _ in plan] == [0, *stops[:-1]]


def test_dispatch_plan_resumes_into_the_same_dispatches():
    times = Schedule(total=17, eval_every=6, checkpoint_every=5, dispatch=4)
    plan = list(schedule.dispatch_plan(times, 0))
    assert list(schedule.dispatch_plan(times, 10)) == [p for p in plan if p[0] >= 10]


def test_epochs_become_steps(tmp_path):
    config = fixtures.config(epochs=2, eval_every=0)
    data = fixtures.prepared(config, tmp_path, fixtures.source())
    epoch = data.train_loader.batches_per_epoch
    times = schedule.make_schedule(config.loop, data)
    assert times == Schedule(2 * epoch, epoch, epoch, 4)


def test_an_in_loop_evaluation_needs_no_validation_data(tmp_path):
    config = fixtures.change(fixtures.config(), "data", split=(1.0, 0.0, 0.0))
    data = fixtures.prepared(config, tmp_path, fixtures.source())
    assert schedule.make_schedule(config.loop, data).eval_every == 0
    assert schedule.make_schedule(config.loop, data, evaluates=True).eval_every == 4


def test_events_by_hand():
    times = Schedule(total=17, eval_every=6, checkpoint_every=5, dispatch=4)
    assert [s for s in range(1, 18) if schedule.has_event(times, s)] == [5, 6, 10, 12, 15, 17]
    assert schedule.is_due(17, 6, 17)
    assert not schedule.is_due(17, 0, 17)

"""The runtime: history, receding horizon, noise, checks, counters, fixed rate."""

import dataclasses

import numpy as np
import pytest

from jaxpolicy.core.specs import InputError
from jaxpolicy.deploy import PolicyRuntime, run
from tests.deploy import handmade


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return handmade.write(tmp_path_factory.mktemp("export"))


def quiet(bundle, **options):
    """A runtime whose noise is zero, so that actions can be worked out."""
    runtime = PolicyRuntime(bundle, **options)
    backend = runtime._backend
    runtime._backend = lambda window, noise: backend(
        window, {k: np.zeros_like(v) for k, v in noise.items()}
    )
    return runtime


def test_receding_horizon(bundle):
    runtime = quiet(bundle)
    runtime.reset(2)
    first = runtime.act(handmade.observation((0.04, 1, 0), (0.25, 0.36, 0)))
    # Chunk of step 0: sqrt(proprio) + 0.1 h.
    np.testing.assert_allclose(first, [[0.2, 1.0], [0.5, 0.6]], rtol=1e-6)
    # n_action_steps = 2: step 1 executes h = 1 of the same chunk.
    second = runtime.act(handmade.observation((0.81, 1, 0), (0.81, 1, 0)))
    np.testing.assert_allclose(second, [[0.3, 1.1], [0.6, 0.7]], rtol=1e-6)
    # Step 2 predicts again from the newest observation.
    third = runtime.act(handmade.observation((0.64, 0, 0), (0.49, 0, 0)))
    np.testing.assert_allclose(third, [[0.8, 0.0], [0.7, 0.0]], rtol=1e-6)
    counters = runtime.counters
    assert (counters.steps, counters.predictions, counters.held) == (3, 2, 0)
    assert counters.latency_ms["p50"] > 0


def test_temporal_ensemble(tmp_path):
    bundle = handmade.write(tmp_path / "export", n_action_steps=1, temporal_ensemble=np.log(2.0))
    runtime = quiet(bundle)
    runtime.reset(1)
    # Chunks sqrt(x) + 0.1 h of x = .04, .25, .16: (.2, .3, .4), (.5, .6, .7), (.4, ...).
    # Weights 1, 1/2, 1/4 from the oldest on: .2, (.3 + .5/2) / 1.5, (.4 + .6/2 + .4/4) / 1.75.
    found = [runtime.act(handmade.observation((x, 0, 0)))[0, 0] for x in (0.04, 0.25, 0.16)]
    np.testing.assert_allclose(found, [0.2, 0.55 / 1.5, 0.8 / 1.75], rtol=1e-6)
    assert runtime.counters.predictions == 3
    # A new episode remembers nothing.
    runtime.reset(1)
    again = runtime.act(handmade.observation((0.25, 0, 0)))
    np.testing.assert_allclose(again[0, 0], 0.5, rtol=1e-6)


def test_actions_are_clipped_to_the_limits(bundle):
    runtime = quiet(bundle)
    runtime.reset(1)
    # sqrt(9) = 3 > 1 and sqrt(16) = 4 > 2.
    action = runtime.act(handmade.observation((9, 16, 0)))
    np.testing.assert_array_equal(action, [[1, 2]])
    assert runtime.counters.clipped == 1


def test_nan_actions_are_held_and_counted(bundle):
    runtime = quiet(bundle)
    runtime.reset(1)
    for _ in range(2):
        runtime.act(handmade.observation((0.25, 1, 0)))
    # sqrt(-1) is NaN: no motion, gripper as before (sqrt(1) + 0.1).
    action = runtime.act(handmade.observation((-1, 1, 0)))
    np.testing.assert_allclose(action, [[0, 1.1]], rtol=1e-6)
    assert runtime.counters.held == 1


def test_nan_at_the_first_step_is_an_error(bundle):
    runtime = PolicyRuntime(bundle)
    with pytest.raises(InputError, match="nothing safe to hold"):
        runtime.act(handmade.observation((-1, 1, 0)))


def test_noise_depends_on_the_seed_alone(bundle):
    def actions(seed):
        runtime = PolicyRuntime(bundle, seed=seed)
        runtime.reset(1)
        return np.stack([runtime.act(handmade.observation((0.2, 1, 0))) for _ in range(4)])

    np.testing.assert_array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))
    # Two predictions of one run draw different noise.
    assert not np.array_equal(actions(1)[0], actions(1)[2])


def test_absent_mask_means_there(bundle):
    window = {}
    runtime = PolicyRuntime(bundle)
    runtime._backend = lambda w, noise: window.update(w) or np.zeros((1, 3, 2), np.float32)
    runtime.act(handmade.observation((1, 1, 1)))
    np.testing.assert_array_equal(window["mask/wrist"], np.ones((1, 2), bool))


def test_history_starts_with_repetition(bundle):
    seen = []
    runtime = PolicyRuntime(bundle)
    runtime._backend = lambda w, _: seen.append(w["proprio"]) or np.zeros((1, 3, 2), np.float32)
    for i in range(3):
        runtime.act(handmade.observation((i, i, i)))
    # Predictions happen at steps 0 and 2 with windows (0, 0) and (1, 2).
    np.testing.assert_array_equal(np.stack(seen)[:, 0, :, 0], [[0, 0], [1, 2]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proprio": None}, "step 0: the observation lacks 'proprio'"),
        ({"proprio": np.full((1, 3), np.nan, np.float32)}, "step 0: 'proprio' holds NaN"),
        ({"proprio": np.zeros((1, 3))}, "must be float32, got float64"),
        ({"proprio": np.zeros((1, 4), np.float32)}, "must have shape"),
        ({"proprio": np.zeros((2, 3), np.float32)}, r"must be \[1, 3\], got \[2, 3\]"),
        ({"image/wrist": np.zeros((1, 4, 4, 3), np.uint8)}, "'image/wrist' must have shape"),
    ],
)
def test_wrong_observation(bundle, change, message):
    runtime = PolicyRuntime(bundle)
    changed = handmade.observation((1, 1, 1)) | change
    with pytest.raises(InputError, match=message):
        runtime.act({k: v for k, v in changed.items() if v is not None})


def test_wrong_number_of_elements_names_those_there_should_be(tmp_path):
    bundle = handmade.write(tmp_path)
    spec = dataclasses.replace(handmade.PROPRIO, unit="rad", names=("a", "b", "c"))
    arrays = (handmade.CAMERA, handmade.MASK, spec)
    handmade.edit_manifest(bundle, observation=[s.to_dict() for s in arrays])
    runtime = PolicyRuntime(bundle)
    wrong = handmade.observation((1, 1, 1)) | {"proprio": np.zeros((1, 4), np.float32)}
    with pytest.raises(InputError, match=r"its elements are a \(rad\), b \(rad\), c \(rad\)"):
        runtime.act(wrong)
    wrong["proprio"] = np.array([[0, np.nan, 0]], np.float32)
    with pytest.raises(InputError, match="'proprio' holds NaN or infinite values in b$"):
        runtime.act(wrong)


def test_no_environment(bundle):
    with pytest.raises(InputError, match="at least 1"):
        PolicyRuntime(bundle).reset(0)


class FakeClock:
    """Time passes when somebody sleeps or works."""

    def __init__(self):
        self.time = 100.0
        self.slept = []

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds


class FakeRobot:
    """Takes `work[i]` seconds to observe at step i."""

    def __init__(self, clock, work):
        self.clock, self.work = clock, list(work)
        self.started, self.actions = [], []

    def observe(self):
        self.started.append(self.clock.time - 100.0)
        self.clock.time += self.work.pop(0)
        step = handmade.observation((0.25, 1, 0))
        return {k: v[0] for k, v in step.items()}

    def apply(self, action):
        self.actions.append(action)


def test_loop_keeps_its_rate_without_drift(bundle):
    clock = FakeClock()
    robot = FakeRobot(clock, [0.01, 0.02, 0.03, 0.04])
    report = run(robot, quiet(bundle), 4, clock)
    # 20 Hz: steps start at multiples of 0.05 s whatever the work takes.
    np.testing.assert_allclose(robot.started, [0.0, 0.05, 0.10, 0.15], atol=1e-9)
    assert (report.steps, report.overruns, report.skipped) == (4, 0, 0)
    assert robot.actions[0].shape == (2,)
    # Median of 10, 20, 30, 40 ms.
    assert report.work_ms["p50"] == pytest.approx(25.0)


def test_a_late_step_is_counted_and_caught_up(bundle):
    clock = FakeClock()
    robot = FakeRobot(clock, [0.07, 0.01, 0.01])
    report = run(robot, quiet(bundle), 3, clock)
    # The second starts at once (0.07) and the third is back on the grid (0.10).
    np.testing.assert_allclose(robot.started, [0.0, 0.07, 0.10], atol=1e-9)
    assert (report.overruns, report.skipped) == (1, 0)


def test_a_stall_skips_periods_and_never_bursts(bundle):
    clock = FakeClock()
    robot = FakeRobot(clock, [0.18, 0.01, 0.01, 0.01])
    report = run(robot, quiet(bundle), 4, clock)
    # Ends at 0.18, in the fourth period: 0.05, 0.10 and 0.15 are gone but one, which
    # starts late; the next start on the grid is 0.20.
    np.testing.assert_allclose(robot.started, [0.0, 0.18, 0.20, 0.25], atol=1e-9)
    assert (report.overruns, report.skipped) == (1, 2)
    assert min(clock.slept) >= 0


def test_loop_reports_the_counters(bundle):
    clock = FakeClock()
    report = run(FakeRobot(clock, [0.0] * 5), quiet(bundle), 5, clock)
    # 5 steps, a prediction every second one.
    assert (report.counters.steps, report.counters.predictions) == (5, 3)

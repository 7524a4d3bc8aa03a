

from jaxpolicy.pipeline import words
from jaxpolicy.training import loop


def test_time_is_told_in_parts():
    shares = dict.fromkeys(("start", "data", "step", "eval", "checkpoint", "profile"), 0.0)
    shares |= {"start": 0.25, "step": 0.75}
    result = loop.FitResult(
        {}, 8, 8, {"val/loss": 0.5}, None, None, None, 0, False, 12.0, 3.0, shares
    )
    assert words.tell_train((result, {})) == (
        "8 steps at 3/s, validation loss 5.00e-01; "
        "12 s of which 25% starting and compiling, 75% in steps, 0% waiting for data"
    )


def test_worlds_without_a_success_predicate_are_told_by_their_return():
    latency = {"p50": 1.0, "p95": 2.0}
    told = {"n_success": None, "success_rate": None, "success_ci95": None, "n_episodes": 8}
    told |= {"avg_sum_reward": -12.25, "latency_ms": latency}
    line = "return -12.25, the mean of 8 episodes, latency p50 1.0 ms, p95 2.0 ms"
    assert words.tell_evaluate((told, None)) == line

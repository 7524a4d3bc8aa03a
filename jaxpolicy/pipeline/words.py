"""What is told of every stage, for people: one line each."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxpolicy.core.counting import counted
from jaxpolicy.core.specs import ArraySpec, PolicyManifest
from jaxpolicy.data.process import Processed
from jaxpolicy.data.splits import PARTS
from jaxpolicy.evaluation import offline
from jaxpolicy.training import loop

__all__ = [
    "tell_collect",
    "tell_evaluate",
    "tell_export",
    "tell_labelled",
    "tell_manifest",
    "tell_process",
    "tell_round",
    "tell_run",
    "tell_success",
    "tell_train",
]

_SHARES = (
    ("start", "starting and compiling"),
    ("step", "in steps"),
    ("data", "waiting for data"),
    ("eval", "in validation"),
    ("checkpoint", "saving"),
    ("profile", "tracing"),
)
# Rule that drops episodes -> what is told of them.
RULES_TOLD = {
    "failed": "failed",
    "corrupt": "unreadable",
    "truncated": "cut short",
    "duplicate": "seen before",
    "idle": "without motion",
    "outlier": "far out of range",
}
_ERROR_KEYS = (("val/action_error_m", "m"), ("val/action_error_rad", "rad"))


def tell_collect(ledger: Mapping[str, Any]) -> str:
    """One line about a collection."""
    made = (
        counted(ledger["successes"], "demonstration"),
        f"in {counted(ledger['attempts'], 'attempt')},",
        counted(ledger["steps"], "step"),
    )
    return " ".join(made)


def tell_process(processed: Sequence[Processed]) -> str:
    """One line about what was processed."""
    counts = {k: sum(p.counts[k] for p in processed) for k in processed[0].counts}
    parts = " / ".join(f"{counts[p]} {p}" for p in PARTS)
    applied = {told: counts[rule] for rule, told in RULES_TOLD.items() if counts[rule]}
    if len(applied) == 1:
        why = f" ({next(iter(applied))})"
    else:
        why = f" ({', '.join(f'{n} {told}' for told, n in applied.items())})" if applied else ""
    n_dropped = counts["found"] - counts["kept"]
    return f"{counted(counts['kept'], 'episode')} kept, {n_dropped} dropped{why}; {parts}"


def tell_train(trained: tuple[loop.FitResult, Mapping[str, offline.ActionErrors]]) -> str:
    """One line about a training run."""
    result, _ = trained
    loss = result.metrics.get("val/loss")
    validation = "" if loss is None else f", validation loss {loss:.2e}"
    errors = [f"{result.metrics[k]:.2g} {u}" for k, u in _ERROR_KEYS if k in result.metrics]
    error = f", action error {' / '.join(errors)}" if errors else ""
    parts = [(k, name) for k, name in _SHARES if k == "data" or result.shares[k] >= 0.005]
    shares = ", ".join(f"{result.shares[k]:.0%} {name}" for k, name in parts)
    time_told = f"{result.seconds:.0f} s of which {shares}"
    done = f"{counted(result.step, 'step')}{_pace(result.steps_per_second)}"
    return f"{done}{validation}{error}; {time_told}"


def _pace(per_second: float) -> str:
    """' at 36/s', ' at 4.2 s each'; nothing where no second dispatch gave it."""
    if per_second <= 0.0:
        return ""
    if per_second < 1.0:
        return f" at {1.0 / per_second:.2g} s each"
    return f" at {per_second:.2g}/s" if per_second < 10.0 else f" at {per_second:.0f}/s"


def tell_evaluate(evaluated: tuple[Mapping[str, Any], Any]) -> str:
    """One line about an evaluation."""
    told = evaluated[0]
    p50, p95 = (told["latency_ms"][k] for k in ("p50", "p95"))
    return f"{_outcome(told)}, latency p50 {p50:.1f} ms, p95 {p95:.1f} ms"


def _outcome(told: Mapping[str, Any]) -> str:
    """Success, or the return where the world has no success predicate."""
    if told["n_success"] is None:
        n = counted(told["n_episodes"], "episode")
        return f"return {told['avg_sum_reward']:.2f}, the mean of {n}"
    return f"success {tell_success(told)}"


def tell_export(exported: tuple[PolicyManifest, Mapping[str, Any]]) -> str:
    """One line about an export."""
    checks = exported[1]
    errors = ", ".join(f"|JAX - {k}| {v:.1e}" for k, v in checks["parity"]["value"].items())
    sizes = ", ".join(f"{k} {v / 1e6:.2f} MB" for k, v in checks["size_bytes"]["value"].items())
    return f"{errors}; {sizes}"


def tell_manifest(manifest: PolicyManifest) -> tuple[str, ...]:
    """What a controller gives and gets: one line per input, one for the action."""
    action, steps = manifest.action, manifest.n_obs_steps
    told = [
        f"input {s.name}: {s.dtype} {[steps, *s.shape]}{_elements(s)}" for s in manifest.observation
    ]
    columns = zip(action.names, action.minimum, action.maximum, action.units, strict=True)
    limits = ", ".join(
        f"{n} {a:.3g} to {b:.3g} {u}".removesuffix(" 1").rstrip() for n, a, b, u in columns
    )
    source = f" (limits from: {action.limits_from})" if action.limits_from else ""
    return (*told, f"output action: {action.kind} at {action.control_hz:g} Hz, {limits}{source}")


def _elements(spec: ArraySpec) -> str:
    return f", {spec.describe()}" if spec.names else ""


def tell_run(result: Mapping[str, Any]) -> str:
    """One line about a run of a sweep."""
    training, evaluation = result["training"], result["evaluation"]
    score = training["score"]
    validation = "" if score is None else f", {result['config']['loop']['monitor']} {score:.3g}"
    told = f"{counted(training['steps'], 'step')} in {training['seconds']:.0f} s{validation}"
    return f"success {tell_success(evaluation)}" if evaluation else told


def tell_success(found: Mapping[str, Any]) -> str:
    """'198/200 = 99.0% [96.4%, 99.7%]', "-" where nothing was evaluated."""
    if found["success_rate"] is None:
        return "-"
    low, high = found["success_ci95"]
    rate = f"{found['n_success']}/{found['n_episodes']} = {found['success_rate']:.1%}"
    return f"{rate} [{low:.1%}, {high:.1%}]"


def tell_round(told: Mapping[str, Any]) -> tuple[str, ...]:
    """A round for people: number, beta, episodes, success and expert's share, steps, validation."""
    n, k = told["episodes"], told["n_success"]
    success = "-" if k is None else f"{k}/{n} = {k / n:.0%}"
    share = "-" if not told["steps"] else f"{told['expert_steps'] / told['steps']:.0%}"
    counts = (str(told["round"]), f"{told['beta']:.2g}", str(n))
    return (*counts, success, share, str(told["labelled"]), tell_success(told["validation"]))


def tell_labelled(told: Mapping[str, Any]) -> str:
    """One line about what a round of DAgger labelled."""
    return (
        f"{counted(told['labelled'], 'step')} of {counted(told['episodes'], 'episode')}, of which "
        f"{told['n_success']} succeeded; beta {told['beta']:.2g}"
    )

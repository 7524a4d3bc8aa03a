"""What is told of every stage, for people: one line each."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxpolicy.core.specs import ArraySpec, PolicyManifest
from jaxpolicy.data.cleaning import RULES
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
_ERROR_KEYS = (("val/action_error_m", "m"), ("val/action_error_rad", "rad"))


def tell_collect(ledger: Mapping[str, Any]) -> str:
    """One line about a collection."""
    return (
        f"{ledger['successes']} demonstrations in {ledger['attempts']} attempts, "
        f"{ledger['steps']} steps"
    )


def tell_process(processed: Sequence[Processed]) -> str:
    """One line about what was processed."""
    counts = {k: sum(p.counts[k] for p in processed) for k in processed[0].counts}
    parts = " / ".join(f"{counts[p]} {p}" for p in PARTS)
    dropped = ", ".join(f"{counts[rule]} {rule}" for rule in RULES if counts[rule])
    told = f" ({dropped})" if dropped else ""
    n_dropped = counts["found"] - counts["kept"]
    return f"{counts['kept']} episodes kept, {n_dropped} dropped{told}; {parts}"


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
    rate = f"{result.step} steps at {result.steps_per_second:.0f}/s"
    return f"{rate}{validation}{error}; {time_told}"


def tell_evaluate(evaluated: tuple[Mapping[str, Any], Any]) -> str:
    """One line about an evaluation."""
    told = evaluated[0]
    p50, p95 = (told["latency_ms"][k] for k in ("p50", "p95"))
    return f"{_outcome(told)}, latency p50 {p50:.1f} ms, p95 {p95:.1f} ms"


def _outcome(told: Mapping[str, Any]) -> str:
    """Success, or the return where the world has no success predicate."""
    if told["n_success"] is None:
        return f"return {told['avg_sum_reward']:.2f}, the mean of {told['n_episodes']} episodes"
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
    told = f"{training['steps']} steps in {training['seconds']:.0f} s{validation}"
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
        f"{told['labelled']} steps of {told['episodes']} episodes, of which "
        f"{told['n_success']} succeeded; beta {told['beta']:.2g}"
    )

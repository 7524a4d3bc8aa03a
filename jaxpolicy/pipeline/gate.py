"""Whether a policy, and the artefacts made of it, are good enough, and why not."""

from collections.abc import Mapping
from typing import Any

from jaxpolicy.pipeline.experiment import ExperimentConfig

__all__ = ["artefact_reasons", "success_reasons"]


def success_reasons(config: ExperimentConfig, rate: float | None) -> list[str]:
    """Why a success rate, None where the world knows of no success, is not good enough."""
    if rate is None and config.min_success > 0:
        return [
            f"'{config.env.name}' has no success predicate, and min_success asks for "
            f"{config.min_success:.1%}; --config.min_success=0 asks for none"
        ]
    if rate is None or rate >= config.min_success:
        return []
    return [
        f"success {rate:.1%} is below the limit {config.min_success:.1%}, which "
        "--config.min_success sets"
    ]


def artefact_reasons(
    found: Mapping[str, Any],
    checks: Mapping[str, Any],
    driven: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Why artefacts are not as good as what was evaluated; empty where they are.

    Args:
      found: report of the JAX policy's evaluation; where the world has no success predicate,
        only the artefacts' outputs are compared.
      checks: export's checklist.
      driven: report by format of the artefacts' evaluations.
    """
    reasons = []
    if not checks["parity"]["passed"]:
        parity = checks["parity"]
        worst = ", ".join(f"{kind} by {error:.2g}" for kind, error in parity["value"].items())
        reasons.append(
            f"artefacts differ from JAX: {worst}; the limit is {parity['limit']:g}, which "
            "--config.export.tolerance sets"
        )
    if found["success_ci95"] is None:
        return reasons
    low, high = found["success_ci95"]
    for kind, told in driven.items():
        if told["success_rate"] < low:
            reasons.append(
                f"{kind} success {told['success_rate']:.1%} lies below the JAX policy's "
                f"interval [{low:.1%}, {high:.1%}]"
            )
    return reasons

"""Configuration of exporting a policy."""

import dataclasses

from jaxpolicy.core.specs import InputError

__all__ = ["FORMATS", "ExportConfig"]

FORMATS = ("onnx", "tflite")


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What to export and how to judge it.

    Attributes:
      formats: artefacts to write, among FORMATS.
      tolerance: largest |JAX - artefact| allowed, in the action's physical units.
      n_golden: recorded observations kept in the bundle and compared, at most.
      latency_runs: timed predictions per artefact (batch 1); 0: not timed.
      latency_budget_ms: p95 that the deployment checklist asks for.
      threads: CPU threads of each runtime while verifying and timing.
    """

    formats: tuple[str, ...] = FORMATS
    tolerance: float = 1e-4
    n_golden: int = 256
    latency_runs: int = 200
    latency_budget_ms: float = 50.0
    threads: int = 1

    def __post_init__(self) -> None:
        unknown = sorted(set(self.formats) - set(FORMATS))
        if unknown or not self.formats:
            raise InputError(f"export.formats must be among {FORMATS}, got {self.formats}")
        if self.n_golden < 1 or self.threads < 1 or self.latency_runs < 0:
            raise InputError("export needs n_golden >= 1, threads >= 1 and latency_runs >= 0")
        if not self.tolerance > 0 or not self.latency_budget_ms > 0:
            raise InputError("export.tolerance and export.latency_budget_ms must be positive")

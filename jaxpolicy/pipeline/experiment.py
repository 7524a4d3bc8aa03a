"""The schema of a whole experiment: every stage's configuration in one record.

`configs/*.py` return it as a ConfigDict, `launch/` turns flags back into it, and a
run directory keeps it as config.json.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from jaxpolicy.collect.config import CollectConfig, DaggerConfig
from jaxpolicy.core import schema
from jaxpolicy.core.schema import InputError
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.export.config import ExportConfig
from jaxpolicy.training.config import TrainConfig

__all__ = ["ExperimentConfig", "from_mapping", "load"]


@dataclasses.dataclass(frozen=True)
class ExperimentConfig(TrainConfig):
    """TrainConfig plus the stages before and after training.

    Attributes:
      collect: how demonstrations are made when `dataset` is "".
      dagger: rounds of relabelling, see pipeline/dagger.py.
      evaluation: closed-loop evaluation.
      export: artefacts to write.
      min_success: share of successes that the pipeline's gate asks for.
      seeds: runs with the seeds `seed`, `seed` + 1, ..., see pipeline/sweep.py.
      grid: further runs, one for each combination of values, "" for none:
        "optimizer.learning_rate=1e-4,3e-4;network.size=tiny,small", see pipeline/sweep.py.
    """

    collect: CollectConfig = dataclasses.field(default_factory=CollectConfig)
    dagger: DaggerConfig = dataclasses.field(default_factory=DaggerConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)
    min_success: float = 0.8
    seeds: int = 1
    grid: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.min_success <= 1.0:
            raise InputError(f"config.min_success must be in [0, 1], got {self.min_success}")
        if self.seeds < 1:
            raise InputError(f"config.seeds must be at least 1, got {self.seeds}")


def from_mapping(value: Any, where: str = "config") -> ExperimentConfig:
    """Nested mapping -> ExperimentConfig.

    Raises:
      InputError: unknown key (names the nearest), missing key or wrong type.
    """
    return schema.from_mapping(ExperimentConfig, value, where)


def load(workdir: str | os.PathLike[str]) -> ExperimentConfig:
    """The configuration a run directory was made with.

    Raises:
      InputError: no config.json there, or it does not fit the schema.
    """
    path = Path(workdir) / "config.json"
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as e:
        raise InputError(f"{path} not found: --workdir must be a directory made by training") from e
    except ValueError as e:
        raise InputError(f"{path} is not valid JSON: {e}") from e
    return from_mapping(value, str(path))

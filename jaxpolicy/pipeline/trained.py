"""What of a run's configuration may be different once its policy is trained."""

from collections.abc import Sequence

from jaxpolicy.core.schema import InputError
from jaxpolicy.pipeline import grid, overrides
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training.run_directory import FREE_KEYS

__all__ = ["AFTER", "WORLD", "override"]

# What is measured, what is written, and what is asked of it.
JUDGED = ("evaluation", "export", "min_success")
# What a policy may be tested under that it was not trained in: what it sees and does stays.
WORLD = (
    "env.backend",
    "env.episode_length",
    "env.name",
    "env.objects",
    "env.randomization",
    "env.shadows",
)
# What is said of the robot, for the artefact alone.
STATED = tuple(
    f"data.{key}"
    for key in ("action_minimum", "action_maximum", "proprio_names", "proprio_units")
)
# How long a run lasts; it may go on.
LONGER = ("loop.epochs", "loop.steps")
# And what has no part in what a run learns.
AFTER = (*JUDGED, *LONGER, "loop.rollouts", *FREE_KEYS, *STATED)


def override(
    config: ExperimentConfig, given: Sequence[tuple[str, str]], where: str = "config"
) -> ExperimentConfig:
    """The configuration of a trained run with other values of what comes after training.

    Raises:
      InputError: a value that differs would need other parameters; see also overrides.apply.
    """
    changed = overrides.apply(config, given, where)
    # Runs of a sweep are compared in the world that the sweep names.
    world = () if grid.is_sweep(config) else WORLD
    before, after = (dict(overrides.keys(c)) for c in (config, changed))
    for key in after:
        free = any(f"{key}.".startswith(f"{k}.") for k in (*AFTER, *world))
        if before.get(key) != after[key] and not free:
            raise InputError(
                f"--config.{key}: the policy was trained with {before.get(key)!r}, and "
                f"{after[key]!r} needs another one; train anew in another --workdir. What may "
                f"change after training: {', '.join((*JUDGED, *STATED, *LONGER, *world))}"
            )
    return changed

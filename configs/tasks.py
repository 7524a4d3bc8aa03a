"""Worlds and demonstrations, the same for every method that learns from demonstrations.

`configs/bc.py` and `configs/diffusion.py` take a task from here and add the method.
"""

from dataclasses import replace
from typing import Any

from jaxpolicy.collect.config import CollectConfig
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.export.config import ExportConfig
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.sim.config import EnvConfig

__all__ = ["TASKS", "debug"]


def _task(
    name: str, cameras: tuple[str, ...], robot: str = "panda", **collect: Any
) -> ExperimentConfig:
    """Scripted demonstrations with disturbances, seen at 64 x 64 pixels."""
    disturbed = CollectConfig(n_episodes=600, execution_noise=0.1, bump_probability=0.03)
    return ExperimentConfig(
        env=EnvConfig(name=name, robot=robot, cameras=cameras, image_size=64),
        collect=replace(disturbed, **collect),
        evaluation=EvaluationConfig(n_episodes=200),
        min_success=0.9,
    )


_BOTH = ("front", "wrist")
_TASKS = {
    "reach": _task("reach", _BOTH, n_episodes=200),
    "push": _task("push", _BOTH),
    # A corner is grasped now and then, and more often from afar: the policy must know how to
    # try again.
    "lift": _task("lift", ("wrist",), misgrasp_probability=0.01),
    "lift_front": _task("lift", ("front",), n_episodes=1000, misgrasp_probability=0.015),
    "lift_ur5e": _task("lift", ("wrist",), robot="ur5e", misgrasp_probability=0.01),
    "pick_place": _task("pick_place", _BOTH),
    # A cube that shakes as much as elsewhere is never still enough to be let go.
    "stack": _task("stack", _BOTH, n_episodes=700, execution_noise=0.06, bump_probability=0.05),
    # Pushed off course, the expert would show how to get round the post after all.
    "detour": _task("detour", ("wrist",), n_episodes=200, bump_probability=0.0),
    "pick_by_instruction": _task("pick_by_instruction", ("wrist",)),
    "open_drawer": _task("open_drawer", _BOTH, n_episodes=400),
}
TASKS = {name: replace(task, name=name) for name, task in _TASKS.items()}


def debug(config: ExperimentConfig) -> ExperimentConfig:
    """Every stage in about a minute; the policy is not expected to work."""
    loop = replace(config.loop, steps=20, epochs=0, batch_size=16, patience=0)
    return replace(
        config,
        collect=replace(config.collect, n_episodes=12, batch=12),
        loop=replace(loop, steps_per_dispatch=10, eval_every=10),
        evaluation=EvaluationConfig(n_episodes=8, batch=8, n_recorded=2),
        export=ExportConfig(n_golden=8),
        min_success=0.0,
    )

"""Worlds and demonstrations, the same for every method that learns from demonstrations.

`configs/bc.py` and `configs/diffusion.py` take a task from here and add the method.
"""

from dataclasses import replace

from jaxpolicy.collect.config import CollectConfig
from jaxpolicy.evaluation.config import EvaluationConfig
from jaxpolicy.experiment import ExperimentConfig
from jaxpolicy.export.config import ExportConfig
from jaxpolicy.sim.config import EnvConfig

__all__ = ["TASKS", "debug"]


def _task(name: str, n_episodes: int, *cameras: str, robot: str = "panda") -> ExperimentConfig:
    """Scripted demonstrations with disturbances, seen at 64 x 64 pixels."""
    return ExperimentConfig(
        env=EnvConfig(name=name, robot=robot, cameras=cameras, image_size=64),
        collect=CollectConfig(n_episodes, execution_noise=0.1, bump_probability=0.03),
        evaluation=EvaluationConfig(n_episodes=200),
        min_success=0.9,
    )


_TASKS = {
    "reach": _task("reach", 200, "front", "wrist"),
    "push": _task("push", 600, "front", "wrist"),
    "lift": _task("lift", 600, "wrist"),
    "lift_front": _task("lift", 600, "front"),
    "lift_ur5e": _task("lift", 600, "wrist", robot="ur5e"),
    "pick_place": _task("pick_place", 600, "front", "wrist"),
    "stack": _task("stack", 600, "front", "wrist"),
    "detour": _task("detour", 200, "wrist"),
    "pick_by_instruction": _task("pick_by_instruction", 600, "front", "wrist"),
    "open_drawer": _task("open_drawer", 400, "front", "wrist"),
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

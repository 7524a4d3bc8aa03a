"""Simulated worlds: physics, robots, tasks and pixels, all within `jit` and `vmap`."""

import dataclasses
from collections.abc import Callable
from typing import Any

from brax.envs.base import Env

from jaxpolicy.core.registry import Registry
from jaxpolicy.core.specs import InputError
from jaxpolicy.sim.config import EnvConfig, override
from jaxpolicy.sim.tasks.base import ManipulationEnv
from jaxpolicy.sim.tasks.detour import Detour
from jaxpolicy.sim.tasks.lift import Lift
from jaxpolicy.sim.tasks.open_drawer import OpenDrawer
from jaxpolicy.sim.tasks.pick_by_instruction import PickByInstruction
from jaxpolicy.sim.tasks.pick_place import PickPlace
from jaxpolicy.sim.tasks.push import Push
from jaxpolicy.sim.tasks.reach import Reach
from jaxpolicy.sim.tasks.stack import Stack

__all__ = ["ENVIRONMENTS", "EnvConfig", "make", "make_world"]

_TASKS: dict[str, Callable[[EnvConfig], ManipulationEnv]] = {
    "reach": Reach,
    "push": Push,
    "lift": Lift,
    "pick_place": PickPlace,
    "stack": Stack,
    "detour": Detour,
    "pick_by_instruction": PickByInstruction,
    "open_drawer": OpenDrawer,
}
ENVIRONMENTS: Registry[Callable[[EnvConfig], ManipulationEnv]] = Registry("task", _TASKS, Callable)


def make(name: str, **overrides: Any) -> ManipulationEnv:
    """One bare environment: no pixels, no episode limit, not vectorised.

    Args:
      name: a key of ENVIRONMENTS.
      **overrides: fields of EnvConfig.
    """
    if name not in ENVIRONMENTS:
        raise InputError(
            f"unknown env.name '{name}'; known: {', '.join(ENVIRONMENTS)}; make_world also "
            "takes gymnasium:ID, brax:NAME and mjcf:PATH"
        )
    config = override(EnvConfig(name=name), overrides)
    if config.settings and name in ENVIRONMENTS.own:
        raise InputError(f"env.settings are for tasks of plug-ins; '{name}' has none")
    return ENVIRONMENTS[name](config)


def make_world(config: EnvConfig) -> Env:
    """The environment of a configuration with its pixels and episode limit, for `vmap`.

    A name with a prefix (see EnvConfig.name) gives a world that others made; those of
    Gymnasium are not functional, so drive them through `worlds.open_worlds`.
    """
    from jaxpolicy.sim import adapters, wrappers

    if ":" in config.name:
        return adapters.make(config)
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    env: Env = make(fields.pop("name"), **fields)
    if config.cameras:
        env = wrappers.Pixels(env, config.cameras, config.image_size, config.shadows)
    return wrappers.EpisodeLimit(env, config.episode_length or env.unwrapped.default_length)

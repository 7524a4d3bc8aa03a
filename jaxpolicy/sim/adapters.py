"""Worlds that others made, by name: `gymnasium:ID`, `brax:NAME` and `mjcf:PATH`."""

import dataclasses
from collections.abc import Callable
from typing import Any

from brax.envs.base import Env

from jaxpolicy.core.specs import InputError
from jaxpolicy.sim import wrappers
from jaxpolicy.sim.config import EnvConfig
from jaxpolicy.sim.gymnasium.world import GymnasiumWorld
from jaxpolicy.sim.mjcf import MjcfWorld

__all__ = ["ADAPTERS", "make"]

BRAX_LENGTH = 1000  # the default of brax.envs.create


def make(config: EnvConfig) -> Any:
    """The world of a name with a prefix, with its pixels and time limit.

    Raises:
      InputError: an unknown prefix, a field that does not apply to such a world and is not
        at its default, or what the adapter says.
    """
    prefix, _, name = config.name.partition(":")
    if prefix not in ADAPTERS:
        known = ", ".join(f"{p}:" for p in ADAPTERS)
        raise InputError(f"unknown prefix in env.name '{config.name}'; known: {known}")
    adapter, fields = ADAPTERS[prefix]
    ignored = [k for k in _changed(config) if k not in ("name", *fields)]
    if ignored:
        raise InputError(
            f"env.{ignored[0]} does not apply to '{config.name}'; leave it at its default "
            f"(what applies: {', '.join(fields)})"
        )
    return adapter(config, name)


def _changed(config: EnvConfig) -> list[str]:
    """Fields that are not at their defaults."""
    plain, names = EnvConfig(), [f.name for f in dataclasses.fields(EnvConfig)]
    return [k for k in names if getattr(config, k) != getattr(plain, k)]


def _gymnasium(config: EnvConfig, name: str) -> GymnasiumWorld:
    changed = _changed(config)
    return GymnasiumWorld(
        name,
        config.episode_length,
        config.cameras if "cameras" in changed else (),
        config.image_size,
        config.workers,
        config.control_hz if "control_hz" in changed else None,
    )


def _brax(config: EnvConfig, name: str) -> Env:
    if config.cameras and "cameras" in _changed(config):
        raise InputError(f"'{config.name}' has no camera '{config.cameras[0]}'; it has none")
    return wrappers.EpisodeLimit(wrappers.from_brax(name), config.episode_length or BRAX_LENGTH)


def _mjcf(config: EnvConfig, path: str) -> Env:
    if not config.episode_length:
        raise InputError(f"'{config.name}' has no time limit of its own; set env.episode_length")
    env: Env = MjcfWorld(path, config.control_hz, config.backend, config.workers)
    known = env.scene.cameras if hasattr(env, "scene") else ()
    if "cameras" in _changed(config) or set(config.cameras) <= set(known):
        env = _with_cameras(env, config)
    return wrappers.EpisodeLimit(env, config.episode_length)


def _with_cameras(env: Env, config: EnvConfig) -> Env:
    if not config.cameras:
        return env
    if not hasattr(env, "scene"):
        raise InputError(f"'{config.name}' cannot be drawn: {env.not_drawn}")
    return wrappers.Pixels(env, config.cameras, config.image_size, config.shadows)


_DRAWN = ("cameras", "image_size")
# Prefix -> (what makes the world, fields of EnvConfig that apply to it).
ADAPTERS: dict[str, tuple[Callable[[EnvConfig, str], Any], tuple[str, ...]]] = {
    "gymnasium": (_gymnasium, ("episode_length", "control_hz", "workers", *_DRAWN)),
    "brax": (_brax, ("episode_length", "cameras")),
    "mjcf": (
        _mjcf,
        ("episode_length", "control_hz", "workers", "backend", "shadows", *_DRAWN),
    ),
}

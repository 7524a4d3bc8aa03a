"""Parts from outside: entry points of installed distributions, and modules that a user names.

Nothing is loaded before `load` or `use` is called. Two ways lead into the registries:

    --plugin=MODULE      a dotted name or the path of a .py file, which defines PLUGIN,
                         a core.registry.Plugin
    entry points         of the groups `jaxpolicy.<field of Plugin>`, such as
                         [jaxpolicy.backbones]  strided = my_package.networks:make_strided

`use` also writes into a configuration what its run needs, so that later stages of the run
find it again. docs/plugins.md shows every kind of part.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from absl import logging

from jaxpolicy import data, sim
from jaxpolicy.core import schema, text
from jaxpolicy.core.registry import Plugin, Registry
from jaxpolicy.core.schema import InputError
from jaxpolicy.deploy import backends
from jaxpolicy.networks import encoder, heads
from jaxpolicy.sim import robots
from jaxpolicy.training import factory
from jaxpolicy.training.config import TrainConfig

__all__ = ["REGISTRIES", "load", "use"]

Config = TypeVar("Config", bound=TrainConfig)

# Field of Plugin -> the registry that it fills.
REGISTRIES: Mapping[str, Registry[Any]] = {
    "algorithms": factory.ALGORITHMS,
    "backbones": encoder.BACKBONES,
    "formats": data.SOURCES,
    "heads": heads.HEADS,
    "robots": robots.ROBOTS,
    "runtimes": backends.BACKENDS,
    "tasks": sim.ENVIRONMENTS,
    "text_encoders": text.ENCODERS,
    "writers": data.WRITERS,
}
GROUP = "jaxpolicy."
_PINNED = "=="  # between the name and the version of a distribution


def use(
    config: Config,
    modules: Sequence[str] = (),
    registries: Mapping[str, Registry[Any]] = REGISTRIES,
) -> Config:
    """Loads what `config` needs and `modules`; the configuration that says so.

    Args:
      config: whose `plugins` are loaded.
      modules: further ones, as in --plugin.
      registries: what is filled.

    Returns:
      `config` whose `plugins` are all these modules, and the installed distributions whose
      parts it names.

    Raises:
      InputError: one cannot be found or loaded, or brings a name that is taken; or settings
        that a plug-in's algorithm or backbone does not accept.
    """
    recorded = [p for p in config.plugins if _PINNED in p]
    for distribution in recorded:
        _check_installed(distribution)
    named = [_absolute(p) for p in (*config.plugins, *modules) if _PINNED not in p]
    wanted = tuple(dict.fromkeys(named))
    load(wanted, registries)
    _check_settings(config, registries)
    return dataclasses.replace(config, plugins=(*wanted, *_distributions(config, registries)))


def _check_settings(config: TrainConfig, registries: Mapping[str, Registry[Any]]) -> None:
    """Raises InputError where parts that were added do not accept their settings."""
    algorithms, backbones = registries["algorithms"], registries["backbones"]
    if config.algorithm in algorithms.origins:
        schema.from_mapping(algorithms[config.algorithm].config, config.settings, "config.settings")
    if config.network.backbone in backbones.origins:
        backbones[config.network.backbone](config.network)


def load(
    modules: Sequence[str] = (), registries: Mapping[str, Registry[Any]] = REGISTRIES
) -> tuple[str, ...]:
    """Adds the parts of all installed distributions, then those of `modules`.

    What is there already is left alone, so it may be called again.

    Args:
      modules: dotted names of modules, or paths of .py files; each defines PLUGIN.
      registries: what is filled.

    Returns:
      Where all added parts come from: modules, paths, and distributions with their versions.

    Raises:
      InputError: a module or entry point cannot be loaded, or brings a name that is taken.
    """
    for field, registry in registries.items():
        for entry in metadata.entry_points(group=GROUP + field):
            _add_entry(registry, entry)
    for module in modules:
        if module not in _origins(registries):
            _add_module(registries, _absolute(module))
    return tuple(dict.fromkeys(_origins(registries)))


def _origins(registries: Mapping[str, Registry[Any]]) -> list[str]:
    return [origin for registry in registries.values() for origin in registry.origins.values()]


# ---------------------------------------------------------------------- entry points


def _add_entry(registry: Registry[Any], entry: metadata.EntryPoint) -> None:
    distribution: Any = entry.dist
    origin = f"{distribution.name}{_PINNED}{distribution.version}"
    if registry.origins.get(entry.name) == origin:
        return
    try:
        part = entry.load()
    except (Exception, SystemExit) as e:  # whatever the code of others raises
        raise InputError(
            f"plug-in {origin}: entry point {entry.name} = {entry.value} of {entry.group} cannot "
            f"be loaded: {_told(e)}; mend or uninstall {distribution.name}"
        ) from e
    registry.add(entry.name, part, origin)


def _check_installed(recorded: str) -> None:
    """Raises InputError unless the distribution "name==version" is there."""
    name, _, version = recorded.partition(_PINNED)
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError as e:
        raise InputError(
            f"this run uses parts of {recorded}, which is not installed: pip install {recorded}"
        ) from e
    if found != version:
        logging.warning("this run was made with %s; %s %s is installed", recorded, name, found)


def _distributions(config: TrainConfig, registries: Mapping[str, Registry[Any]]) -> list[str]:
    """Installed distributions that bring a part whose name is a value of `config`."""
    words = {word.partition(":")[0] for word in _words(schema.to_mapping(config))}
    added = (origin for r in registries.values() for origin in r.origins.items())
    found = [origin for name, origin in added if name in words and _PINNED in origin]
    return sorted(set(found))


def _words(value: Any) -> Iterator[str]:
    """All texts in a nested mapping, but not its keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _words(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _words(item)


# --------------------------------------------------------------------------- modules


def _is_path(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _absolute(name: str) -> str:
    """A path from wherever a later stage is started; a dotted name as it is."""
    return os.path.abspath(name) if _is_path(name) else name


def _add_module(registries: Mapping[str, Registry[Any]], name: str) -> None:
    plugin = getattr(_import(name), "PLUGIN", None)
    if not isinstance(plugin, Plugin):
        raise InputError(
            f"plug-in {name}: must define PLUGIN, a jaxpolicy.core.registry.Plugin, "
            f"got {type(plugin).__name__}; see docs/plugins.md"
        )
    parts = [(registries[f.name], getattr(plugin, f.name)) for f in dataclasses.fields(Plugin)]
    if not any(brought for _, brought in parts):
        raise InputError(f"plug-in {name}: its PLUGIN brings nothing")
    found = [(r, key, part) for r, brought in parts for key, part in brought.items()]
    for registry, key, part in found:
        registry.check(key, part, name)
    for registry, key, part in found:
        registry.add(key, part, name)


def _import(name: str) -> ModuleType:
    try:
        return _import_path(Path(name)) if _is_path(name) else importlib.import_module(name)
    except InputError:
        raise
    except (Exception, SystemExit) as e:  # whatever the code of others raises
        hint = ""
        if isinstance(e, ModuleNotFoundError) and name.startswith(f"{e.name}"):
            hint = "; give the path of a .py file, or put its folder on PYTHONPATH"
        raise InputError(f"plug-in {name} cannot be loaded: {_told(e)}{hint}") from e


def _import_path(path: Path) -> ModuleType:
    """The module of a file; one that was imported before is found again."""
    name = f"{path.stem}_{hashlib.sha256(os.fspath(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise InputError(
            f"plug-in {path}: no such file; if that of a run has moved, give --config.plugins=PATH"
        )
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    # Before it runs, as `import` does: dataclasses look up their module.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"

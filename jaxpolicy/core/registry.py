"""Parts by name, and how parts from outside join those of the library.

A registry begins with the library's own parts and may grow, but only by a call of `add`:
importing a module registers nothing. A user's module gathers its parts in one constant,

    PLUGIN = Plugin(backbones={"strided": make_strided}, tasks={"near_reach": NearReach})

and `pipeline.plugins` adds them. Standard library only.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from jaxpolicy.core.schema import InputError

__all__ = ["Plugin", "Registry"]

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z][\w-]*")


@dataclasses.dataclass(frozen=True)
class Plugin:
    """Parts of somebody else, each field name -> part; see docs/plugins.md.

    Attributes:
      algorithms: a `training.factory.Method` each.
      backbones: NetworkConfig -> a module of Flax, as in `networks.encoder.BACKBONES`.
      formats: a `data.Format` each.
      heads: a `networks.heads.Head` each.
      robots: a `sim.robots.Robot` each.
      runtimes: (bundle, threads) -> what runs its artefact, as in `deploy.backends.BACKENDS`.
      tasks: EnvConfig -> world, as in `sim.ENVIRONMENTS`.
      text_encoders: size -> TextEncoder, as in `core.text.ENCODERS`.
      writers: (path, episodes, spec, name) -> number of episodes, as in `data.WRITERS`.
    """

    algorithms: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    backbones: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    formats: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    heads: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    robots: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    runtimes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tasks: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    text_encoders: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    writers: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Registry(Mapping[str, T]):
    """Name -> part: those of the library, then those that were added, in that order.

    Attributes:
      what: what a part is, in one word, for messages.
      own: names of the library's parts.
    """

    def __init__(self, what: str, own: Mapping[str, T], kind: Any):
        """`kind` is the type of every part, such as `Robot` or `collections.abc.Callable`."""
        self.what = what
        self.own = frozenset(own)
        self._kind = kind
        self._parts = dict(own)
        self._origins: dict[str, str] = {}

    def __getitem__(self, name: str) -> T:
        """The part called `name`."""
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def origins(self) -> Mapping[str, str]:
        """Name -> where it came from, of the parts that were added."""
        return MappingProxyType(self._origins)

    def copy(self) -> "Registry[T]":
        """A registry of its own with the same parts."""
        found = Registry(self.what, {k: self[k] for k in self if k in self.own}, self._kind)
        found._parts, found._origins = dict(self._parts), dict(self._origins)
        return found

    def check(self, name: str, part: T, origin: str) -> None:
        """Raises InputError where `add` would."""
        where = f"{origin}: {self.what} '{name}'"
        if not _NAME.fullmatch(name):
            raise InputError(f"{where}: a name is letters, digits, '_' and '-', a letter first")
        if name in self._parts:
            holder = self._origins.get(name, "jaxpolicy")
            raise InputError(f"{where}: {holder} has one of that name already; choose another")
        if not isinstance(part, self._kind):
            raise InputError(
                f"{where} must be a {self._kind.__name__}, got {type(part).__name__} {part!r}"
            )

    def add(self, name: str, part: T, origin: str) -> None:
        """Adds a part.

        Args:
          name: what configurations call it.
          part: see the registry.
          origin: who brings it, for messages and records: a module, a distribution.

        Raises:
          InputError: the name is taken or is none, or `part` is something else.
        """
        self.check(name, part, origin)
        self._parts[name] = part
        self._origins[name] = origin

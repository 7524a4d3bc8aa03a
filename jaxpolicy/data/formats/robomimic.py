"""robomimic datasets: HDF5 with data/demo_<i>/{obs/*, actions, rewards, dones, states}.

Layout: robomimic.github.io/docs/datasets/overview.html. The same layout holds robosuite,
MimicGen and LIBERO demonstrations. A dataset is one file or a folder of such files (LIBERO: a
file per task). `robomimic_writer` writes files that robomimic's own SequenceDataset reads.
"""

import contextlib
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxpolicy.core import schema
from jaxpolicy.core.specs import InputError
from jaxpolicy.core.types import EpisodeMetadata
from jaxpolicy.data.facts import Facts
from jaxpolicy.data.formats import arrays, hdf5, robomimic_names
from jaxpolicy.data.formats.hdf5 import Group
from jaxpolicy.data.formats.robomimic_names import ATTRIBUTE, EPISODE
from jaxpolicy.data.reader import Declared, Field, Steps, hash_files

__all__ = ["RobomimicReader", "matches"]

# next_obs repeats obs, one step later.
_LEFT_OUT = ("next_obs",)
# robosuite's controllers, by whether their targets are relative.
_ACTION_KINDS = {
    ("OSC_POSE", True): "cartesian_delta",
    ("OSC_POSE", False): "cartesian_position",
    ("JOINT_POSITION", True): "joint_delta",
    ("JOINT_POSITION", False): "joint_position",
}


class _Place(NamedTuple):
    """A demonstration: its file, its name there, and the filters that name it."""

    path: pathlib.Path
    demo: str
    filters: tuple[str, ...]


class RobomimicReader:
    """Demonstrations of robomimic files.

    `success` is known where the rewards are robomimic's sparse ones: 1 at the end is a
    success, none at all a failure if `dones` were recorded too.

    Attributes:
      location: file or folder.
      fields, declared: see data.reader.Reader; fields are named as below a demonstration.
    """

    location: pathlib.Path
    fields: Mapping[str, Field]
    declared: Declared

    def __init__(self, path: str | os.PathLike[str]):
        """Lists the demonstrations; reads of the first how large things are.

        Args:
          path: HDF5 file, or a folder of them.

        Raises:
          InputError: names the file and group that is missing or corrupt.
        """
        self.location = pathlib.Path(path)
        self._files = hdf5.files(self.location)
        if not self._files:
            raise InputError(f"{self.location}: no HDF5 file here; not a robomimic dataset")
        self._surveys = hdf5.survey(self._files)
        self._places = [place for file in self._files for place in self._list(file)]
        self._check_distinct()
        if not self._places:
            raise InputError(f"{self.location}: the dataset holds no demonstrations (data/demo_0)")
        self.fields, self.declared = arrays.first_readable(len(self), self._describe)

    def __len__(self) -> int:
        """Number of demonstrations, failed ones included."""
        return len(self._places)

    def read(self, i: int, names: Collection[str]) -> Steps:
        """Demonstration `i`; `values` holds the fields `names`, nothing else is decoded."""
        with self._opened(i) as (data, demo):
            stored, n_steps = demo.pick(*names, "rewards", "dones"), _n_steps(demo)
            rows, about = (0, n_steps), demo.json(EPISODE)
            rewards = arrays.scalars(stored, ("rewards",), rows)
            dones = arrays.scalars(stored, ("dones",), rows)
            return Steps(
                values=arrays.values(stored, self.fields, names, rows, demo.where),
                n_steps=n_steps,
                metadata=self._metadata(i, data, demo, _success(rewards, dones)),
                instruction=_instruction(data, demo, about),
                reward=rewards,
                is_terminal=bool(dones[-1]) if dones is not None and n_steps else False,
            )

    def content_hash(self, i: int) -> str:
        """Digest of everything in the steps of demonstration `i` as stored."""
        with self._opened(i) as (data, demo):
            text = _instruction(data, demo, demo.json(EPISODE))
            return arrays.digest(demo.arrays(_LEFT_OUT), (0, None), text)

    def fingerprint(self) -> str:
        """Digest of the files."""
        root = self.location if self.location.is_dir() else self.location.parent
        return hash_files(self._files, root)

    def _describe(self, i: int) -> tuple[Mapping[str, Field], Declared]:
        with self._opened(i) as (data, demo):
            return arrays.fields(demo.arrays(_LEFT_OUT), (_n_steps(demo),), "obs/"), _declared(data)

    def _list(self, path: pathlib.Path) -> list[_Place]:
        """The demonstrations of one file, demo_2 before demo_10."""
        with hdf5.opened(path, self._surveys[path]) as root:
            demos = [n for n in root.group("data").names if n.startswith("demo")]
            filters: dict[str, list[str]] = {}
            for name, demo in _filters(root):
                filters.setdefault(demo, []).append(name)
        return [_Place(path, demo, tuple(filters.get(demo, ()))) for demo in demos]

    def _check_distinct(self) -> None:
        """Raises InputError for a folder that holds the same demonstrations twice.

        robomimic keeps them with and without images in files side by side; the files of
        LIBERO are different tasks.
        """
        seen: dict[str, pathlib.Path] = {}
        first = {p.path: i for i, p in reversed(list(enumerate(self._places)))}
        for path, i in first.items() if len(first) > 1 else ():
            digest = ""
            with contextlib.suppress(InputError), self._opened(i) as (_, demo):
                digest = arrays.digest({"actions": demo.array("actions")}, (0, None), "")
            if digest and digest in seen:
                raise InputError(
                    f"{path.parent}: {seen[digest].name} and {path.name} hold the same "
                    "demonstrations; name one file"
                )
            seen[digest] = path

    @contextlib.contextmanager
    def _opened(self, i: int) -> Iterator[tuple[Group, Group]]:
        """The group `data` and in it that of demonstration `i`."""
        path = self._places[i].path
        with hdf5.opened(path, self._surveys[path]) as root:
            data = root.group("data")
            yield data, data.group(self._places[i].demo)

    def _metadata(self, i: int, data: Group, demo: Group, success: bool | None) -> EpisodeMetadata:
        path, name, filters = self._places[i]
        about = demo.json(EPISODE)
        if about:
            return schema.from_mapping(
                EpisodeMetadata, about.get("metadata"), f"{demo.where}, attribute '{EPISODE}'"
            )
        environment = data.json("env_args")
        return EpisodeMetadata(
            episode_id=name if len(self._files) == 1 else f"{path.stem}/{name}",
            success=success,
            source="/".join([path.name, *([",".join(filters)] if filters else [])]),
            robot=_robots(environment),
            task=_string(environment.get("env_name")),
        )


def matches(path: pathlib.Path) -> bool:
    """Whether `path` is, or holds first of all, an HDF5 file with a group `data`."""
    return hdf5.looks_like(
        path,
        lambda top: top.get("data") in ("group", "damaged"),
        lambda name: name != "main_data.hdf5" and not name.startswith("episode_"),
    )


def _filters(root: Group) -> Iterator[tuple[str, str]]:
    """(filter, demonstration) for all members of mask/*."""
    masks = root.get("mask")
    if not isinstance(masks, Group):
        return
    for name, array in masks.arrays().items():
        if array.kind != "text":
            raise InputError(f"{array.where}: must name demonstrations, got {array.dtype}")
        for demo in array.read().reshape(-1):
            yield name, demo.decode("utf-8", "replace") if isinstance(demo, bytes) else str(demo)


def _n_steps(demo: Group) -> int:
    """T, the length of `actions`; robomimic's num_samples must agree."""
    n_steps, claimed = len(demo.array("actions")), demo.attribute("num_samples")
    if claimed is not None and claimed != n_steps:
        raise InputError(
            f"{demo.where}: num_samples is {claimed}, 'actions' holds {n_steps} steps; "
            "the file is damaged"
        )
    return n_steps


def _success(rewards: np.ndarray | None, dones: np.ndarray | None) -> bool | None:
    """What sparse rewards say; None where there are none or they are dense."""
    if rewards is None or not rewards.size or not np.isin(rewards, (0, 1)).all():
        return None
    if rewards[-1]:
        return True
    return None if dones is None or rewards.any() else False


def _instruction(data: Group, demo: Group, about: Mapping[str, Any]) -> str:
    """Ours, else that of robocasa (`ep_meta`), else that of LIBERO (`problem_info`)."""
    if about:
        return _string(about.get("language_instruction"))
    text = _string(demo.json("ep_meta").get("lang"))
    return text or _string(data.json("problem_info").get("language_instruction"))


def _string(value: Any) -> str:
    """A text, or texts joined; "" for anything else."""
    if isinstance(value, list):
        return ", ".join(v for v in value if isinstance(v, str))
    return value if isinstance(value, str) else ""


def _robots(environment: Mapping[str, Any]) -> str:
    return _string(_mapping(environment.get("env_kwargs")).get("robots"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# ------------------------------------------------------------------ meaning


def _declared(data: Group) -> Declared:
    facts_text = data.attribute(ATTRIBUTE)
    if facts_text is not None:
        return _ours(Facts.from_json(str(facts_text), f"{data.where}, attribute '{ATTRIBUTE}'"))
    kwargs = _mapping(data.json("env_args").get("env_kwargs"))
    rate = kwargs.get("control_freq")
    is_rate = isinstance(rate, int | float) and 0 < rate < 1e6
    return Declared(
        action=("actions",),
        action_kind=_action_kind(kwargs.get("controller_configs")),
        control_hz=float(rate) if is_rate and rate is not None else 0.0,
    )


def _ours(facts: Facts) -> Declared:
    return Declared(
        observation={s.name: "obs/" + robomimic_names.obs_name(s.name) for s in facts.observation},
        spec=facts.spec,
        action=("actions",),
    )


def _action_kind(controller: Any) -> str:
    """Of robosuite's controller; "" where it is not one of a single arm that is known.

    robosuite < 1.5 says {type, control_delta}; later ones {body_parts: {arm: {type,
    input_type}}}, with "delta" or "absolute".
    """
    controllers = controller if isinstance(controller, list) else [controller]
    if len(controllers) != 1:
        return ""
    top = _mapping(controllers[0])
    parts = [_mapping(p) for p in _mapping(top.get("body_parts")).values()] or [top]
    known = [k for k in map(_part_kind, parts) if k]
    return known[0] if len(known) == 1 else ""


def _part_kind(part: Mapping[str, Any]) -> str:
    """Of one controller; robosuite's are relative unless they say otherwise."""
    is_relative = part.get("control_delta", True) is True
    if "input_type" in part:
        is_relative = part["input_type"] == "delta"
    return _ACTION_KINDS.get((str(part.get("type")), is_relative), "")

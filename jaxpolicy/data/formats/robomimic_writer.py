"""Writes robomimic HDF5: streams episodes into one file, appears atomically."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxpolicy.core import atomic
from jaxpolicy.core.specs import ArraySpec, InputError, is_camera
from jaxpolicy.core.types import DatasetSpec, Episode
from jaxpolicy.data.facts import Facts
from jaxpolicy.data.formats.robomimic_names import ATTRIBUTE, EPISODE, obs_name
from jaxpolicy.data.source import check_episode

__all__ = ["COMPRESSIONS", "write"]

COMPRESSIONS = ("gzip", "lzf", "none")
# robomimic.envs.env_base.EnvType.GYM_TYPE: our worlds are Gymnasium environments.
_GYM_TYPE = 2
# Fast and within 2 % of the size of level 4 on rendered frames.
_GZIP_LEVEL = 1


def write(
    path: str | os.PathLike[str],
    episodes: Iterable[Episode],
    spec: DatasetSpec,
    name: str,
    env_args: Mapping[str, Any] | None = None,
    masks: Mapping[str, Sequence[str]] | None = None,
    compression: str = "gzip",
) -> int:
    """Writes `episodes` as one file that robomimic's SequenceDataset reads; returns how many.

    Observations are obs/<camera>_image (uint8 [T, H, W, 3], a chunk a frame) and obs/<key>.
    There is no next_obs, which repeats obs: train with `hdf5_load_next_obs` off, robomimic's
    choice for imitation. Memory does not grow with the number of episodes. The file appears
    only when complete.

    Args:
      path: new file.
      episodes: consumed once; failed episodes belong in here with success=False.
      spec: what every step holds; each episode is checked against it.
      name: of the environment, in env_args.
      env_args: robomimic's description of the environment, if it can make it: env_name, type,
        env_kwargs.
      masks: filter, e.g. "train" -> ids of its episodes.
      compression: of images: "gzip", "lzf" (faster, larger) or "none".

    Raises:
      InputError: names the episode and key that do not match `spec`, the path, or h5py where
        it is not installed.
    """
    path = pathlib.Path(path)
    _check(path, spec, compression)
    with atomic.new_file(path) as temporary, _created(temporary, path) as file:
        writer = _Writer(file, spec, compression)
        for episode in episodes:
            writer.add(episode)
        if not writer.demos:
            raise InputError(f"{path}: there are no episodes to write")
        attributes = file["data"].attrs
        attributes["total"] = writer.n_steps
        attributes["env_args"] = _env_args(name, spec, env_args)
        attributes[ATTRIBUTE] = Facts(1, spec.observation, spec.action).to_json()
        _write_masks(file, masks or {}, writer.demos)
        return len(writer.demos)


def _check(path: pathlib.Path, spec: DatasetSpec, compression: str) -> None:
    if path.exists():
        raise InputError(f"{path}: exists; remove it or give a new file")
    if compression not in COMPRESSIONS:
        raise InputError(f"compression must be one of {COMPRESSIONS}, got '{compression}'")
    if len({obs_name(k) for k in spec.keys}) < len(spec.keys):
        raise InputError(f"observation keys {spec.keys} collide as robomimic names them")


@contextlib.contextmanager
def _created(temporary: pathlib.Path, path: pathlib.Path) -> Iterator[Any]:
    """The new file, open for writing."""
    try:
        import h5py
    except ImportError as e:
        raise InputError("HDF5 needs h5py: pip install 'jaxpolicy[hdf5]'") from e
    with h5py.File(temporary, "w") as file:
        file.create_group("data")
        yield file


class _Writer:
    """Demonstrations one after another.

    Attributes:
      demos: episode_id -> name of its group.
      n_steps: of all of them.
    """

    def __init__(self, file: Any, spec: DatasetSpec, compression: str):
        self.demos: dict[str, str] = {}
        self.n_steps = 0
        self._data, self._spec = file["data"], spec
        self._arrays = (*spec.observation, ArraySpec("action", (spec.action.size,)))
        packings: dict[str, dict[str, Any]] = {
            "gzip": {"compression": "gzip", "compression_opts": _GZIP_LEVEL},
            "lzf": {"compression": "lzf"},
            "none": {},
        }
        self._packing = packings[compression]

    def add(self, episode: Episode) -> None:
        """Writes one episode after checking it."""
        name = episode.metadata.episode_id
        if name in self.demos or not name:
            raise InputError(f"episode '{name}': episode_id must be unique and not empty")
        check_episode(episode, self._arrays)
        demo = self._data.create_group(f"demo_{len(self.demos)}")
        self.demos[name] = f"demo_{len(self.demos)}"
        self.n_steps += len(episode)
        for spec in self._spec.observation:
            self._write(demo, "obs/" + obs_name(spec.name), episode.observation[spec.name], spec)
        demo["actions"] = episode.action
        demo["rewards"] = np.asarray(episode.reward, np.float32)
        demo["dones"] = _dones(episode)
        demo.attrs["num_samples"] = len(episode)
        demo.attrs["ep_meta"] = json.dumps({"lang": episode.language_instruction})
        demo.attrs[EPISODE] = _about(episode)

    def _write(self, demo: Any, name: str, value: np.ndarray, spec: ArraySpec) -> None:
        if is_camera(spec.name):
            demo.create_dataset(name, data=value, chunks=(1, *spec.shape), **self._packing)
        else:
            demo[name] = value


def _dones(episode: Episode) -> np.ndarray:
    dones = np.zeros(len(episode), np.uint8)
    dones[-1] = episode.is_terminal
    return dones


def _about(episode: Episode) -> str:
    """What robomimic has no place for."""
    facts = dataclasses.asdict(episode.metadata)
    value = {"metadata": facts, "language_instruction": episode.language_instruction}
    return json.dumps(value, sort_keys=True)


def _env_args(name: str, spec: DatasetSpec, given: Mapping[str, Any] | None) -> str:
    kwargs = {"control_freq": spec.action.control_hz}
    value = {"env_name": name, "env_version": "", "type": _GYM_TYPE, "env_kwargs": kwargs}
    return json.dumps(value if given is None else dict(given))


def _write_masks(file: Any, masks: Mapping[str, Sequence[str]], demos: Mapping[str, str]) -> None:
    for name, ids in masks.items():
        missing = [i for i in ids if i not in demos]
        if missing:
            raise InputError(f"mask '{name}': there is no episode '{missing[0]}'")
        file[f"mask/{name}"] = np.array([demos[i] for i in ids], "S")

"""Episodes of any format, once a reader and a layout say where their parts lie."""

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np

from jaxpolicy.core.specs import IMAGE_PREFIX, InputError, camera_names, is_camera, mask_key
from jaxpolicy.core.types import DatasetSpec, Episode
from jaxpolicy.data import images, mapping
from jaxpolicy.data.config import DataConfig
from jaxpolicy.data.mapping import Column
from jaxpolicy.data.reader import Reader, Steps

__all__ = ["MappedSource"]


class MappedSource:
    """An EpisodeSource over a Reader.

    Where a dataset flags a camera as absent from an episode, its images are zeros and
    `mask/<camera>` is False. A flag that says absent while the images are real pictures is
    not believed: some published datasets carry flags that were never filled in.

    Attributes:
      reader: see Reader.
      layout: which field became what, see mapping.Layout.
      spec: what every step holds.
    """

    spec: DatasetSpec

    def __init__(self, reader: Reader, config: DataConfig | None = None):
        """Decides the layout; reads no episode.

        Raises:
          InputError: see mapping.layout.
        """
        self.reader = reader
        self._where = str(reader.location)
        self.layout = mapping.layout(
            reader.fields, reader.declared, config or DataConfig(), self._where
        )
        self.spec = self.layout.spec
        self._cameras = tuple(filter(is_camera, self.layout.observation))
        self._fingerprint = ""

    def __len__(self) -> int:
        """Number of episodes, failed ones included."""
        return len(self.reader)

    def __getitem__(self, i: int) -> Episode:
        """Episode `i` with every camera decoded."""
        return self.load(i)

    def __iter__(self) -> Iterator[Episode]:
        """All episodes in order."""
        return (self.load(i) for i in range(len(self)))

    def load(self, i: int, cameras: Sequence[str] | None = None) -> Episode:
        """Episode `i`; only the named cameras are decoded (None: all, (): none)."""
        keys = self._cameras if cameras is None else [self._camera_key(c) for c in cameras]
        vectors = [k for k in self.layout.observation if not is_camera(k)]
        columns = [c for k in (*keys, *vectors) for c in self.layout.observation[k]]
        steps = self.reader.read(i, {c.field for c in (*columns, *self.layout.action)})
        where = f"{self._where}: episode '{steps.metadata.episode_id}'"
        if not steps.n_steps:
            raise InputError(f"{where}: holds no steps")
        observation = {k: self._join(steps, k, where) for k in vectors}
        for key in keys:
            observation |= self._camera(steps, key, where)
        return Episode(
            observation=observation,
            action=_cast(self._concatenate(steps, self.layout.action, where)),
            reward=_reward(steps, where),
            is_terminal=steps.is_terminal,
            language_instruction=steps.instruction,
            metadata=steps.metadata,
        )

    def content_hash(self, i: int) -> str:
        """Digest of everything in the steps of episode `i` as stored."""
        return self.reader.content_hash(i)

    def fingerprint(self) -> str:
        """Digest of the files and of which fields are used."""
        if not self._fingerprint:
            used = [sorted(self.layout.observation.items()), self.layout.action]
            digest = hashlib.sha256(json.dumps(used).encode())
            digest.update(self.reader.fingerprint().encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _camera_key(self, camera: str) -> str:
        key = IMAGE_PREFIX + camera
        if key not in self._cameras:
            there = ", ".join(camera_names(self._cameras)) or "none"
            raise InputError(f"{self._where}: no camera '{camera}'; there are: {there}")
        return key

    def _join(self, steps: Steps, key: str, where: str) -> np.ndarray:
        spec = self.spec[key]
        joined = self._concatenate(steps, self.layout.observation[key], where)
        return _cast(joined, spec.dtype).reshape(steps.n_steps, *spec.shape)

    def _concatenate(self, steps: Steps, columns: Sequence[Column], where: str) -> np.ndarray:
        """Columns side by side, [T, D]."""
        parts = []
        for name, start, stop in columns:
            value = _array(steps, name, self.reader.fields[name].shape, where)
            parts.append(value.reshape(steps.n_steps, -1)[:, start:stop])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)

    def _camera(self, steps: Steps, key: str, where: str) -> dict[str, np.ndarray]:
        name = self.layout.observation[key][0].field
        frames = _array(steps, name, self.reader.fields[name].shape, where)
        if not self.reader.fields[name].optional:
            return {key: frames}
        present = name not in steps.absent or not images.is_blank(frames)
        mask = np.full(steps.n_steps, present)
        return {key: frames if present else np.zeros_like(frames), mask_key(key): mask}


def _array(steps: Steps, name: str, shape: Sequence[int | None], where: str) -> np.ndarray:
    """Values of one field, [T, *shape].

    Raises:
      InputError: they are missing or of another shape.
    """
    value = steps.values.get(name)
    if value is None:
        raise InputError(f"{where}: field '{name}' is missing")
    if value.shape != (steps.n_steps, *shape):
        raise InputError(
            f"{where}: field '{name}' must be {[steps.n_steps, *shape]}, got {list(value.shape)}"
        )
    return value


def _reward(steps: Steps, where: str) -> np.ndarray:
    if steps.reward is None:
        return np.zeros(steps.n_steps, np.float32)
    if steps.reward.size != steps.n_steps:
        raise InputError(f"{where}: {steps.reward.size} rewards for {steps.n_steps} steps")
    return _cast(steps.reward.reshape(-1))


def _cast(values: np.ndarray, dtype: str = "float32") -> np.ndarray:
    """What is too large becomes infinite, which the scan reports."""
    with np.errstate(over="ignore"):
        return values.astype(dtype)

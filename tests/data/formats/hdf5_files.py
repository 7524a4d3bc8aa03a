"""HDF5 files for tests: helpers to make and to damage them."""

import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from jaxpolicy.data.formats import hdf5, hdf5_probe

FOREIGN = pathlib.Path(__file__).parents[1] / "foreign"


def write(path: pathlib.Path, arrays: Mapping[str, Any], attributes=None) -> pathlib.Path:
    """A file of `arrays` by path; `attributes`: path -> name -> value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value
        for name, values in (attributes or {}).items():
            file.require_group(name).attrs.update(values)
    return path


def pictures(n_steps: int, height: int = 16, width: int = 20) -> np.ndarray:
    """Frame t is of colour (10 t, 100, 200 - 10 t)."""
    t = np.arange(n_steps)
    colours = np.stack([10 * t, np.full(n_steps, 100), 200 - 10 * t], -1).astype(np.uint8)
    return np.broadcast_to(colours[:, None, None], (n_steps, height, width, 3)).copy()


def replace(path: pathlib.Path, name: str, value: Any) -> None:
    """Puts another value in the place of an array."""
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value


def truncate(path: pathlib.Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def claim(path: pathlib.Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
    """An array that claims a size and holds nothing."""
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        chunks = tuple(min(n, 64) for n in shape)
        file.create_dataset(name, shape, dtype, chunks=chunks, compression="gzip")


def walk_here(monkeypatch) -> None:
    """Walks files in this process: a child costs 0.3 s, and gentle damage crashes nothing."""
    monkeypatch.setattr(hdf5, "_run", _run)


def _run(request: str) -> tuple[list[str], str]:
    lines = []
    for path in json.loads(request)["files"]:
        with tempfile.TemporaryFile() as progress:
            walk = hdf5_probe.Walk(path, (), progress.fileno(), seconds=0)
            walk.run()
        lines.append(json.dumps({"file": path, "top": walk.top, "bad": walk.bad}) + "\n")
    return lines, ""

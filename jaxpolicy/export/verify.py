"""Compares exported artefacts with JAX on recorded observations. Needs no JAX.

Each artefact runs in the backend that will run it on the robot. JAX's answers are
those stored in golden.npz when the policy was exported.
"""

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxpolicy.core.specs import InputError, PolicyManifest
from jaxpolicy.deploy import artefact, backends
from jaxpolicy.export import onnx, tflite

__all__ = ["GOLDEN", "OPERATORS", "read_golden", "verify"]

GOLDEN = "golden.npz"

# Artefact kind -> how its operators are listed and refused.
OPERATORS: dict[str, Callable[[bytes], dict[str, int]]] = {
    "onnx": onnx.operators,
    "tflite": tflite.operators,
}

_OBSERVATION, _NOISE = "observation/", "noise/"
_BATCH = 32


def verify(
    directory: str | os.PathLike[str], tolerance: float = 1e-4, threads: int = 1
) -> dict[str, Any]:
    """Checks every file of the bundle and every artefact's answers.

    Args:
      directory: the bundle.
      tolerance: largest |JAX - artefact| allowed, in the action's physical units.
      threads: CPU threads of each runtime.

    Returns:
      {"passed", "n" (observations compared), "tolerance", "artefacts": {kind:
      {"passed", "max_abs_error", "finite", "operators": {name: count}}}}.

    Raises:
      InputError: a file is missing, damaged or does not fit the manifest, or a graph
        holds operators that are not standard.
    """
    manifest = artefact.read_manifest(directory)
    for name in manifest.sha256:
        artefact.read_file(directory, manifest, name)
    if not manifest.artefacts:
        raise InputError(f"{directory} holds no artefact")
    observation, noise, action = read_golden(directory, manifest)
    results = {}
    for kind in manifest.artefacts:
        backend = backends.load(directory, kind, threads)
        operators = OPERATORS[kind](artefact.read_artefact(directory, manifest, kind))
        got = _answers(backend, observation, noise)
        results[kind] = _compare(action, got, tolerance) | {"operators": operators}
    passed = all(r["passed"] for r in results.values())
    return {"passed": passed, "n": len(action), "tolerance": tolerance, "artefacts": results}


def read_golden(
    directory: str | os.PathLike[str], manifest: PolicyManifest
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Recorded observations [N, O, ...], noise [N, ...] and JAX's actions [N, H, A].

    Raises:
      InputError: golden.npz is missing, damaged, or lacks an array.
    """
    data = artefact.read_file(directory, manifest, GOLDEN)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise InputError(f"{directory}/{GOLDEN} cannot be read: {e}") from e
    if "action" not in arrays:
        raise InputError(f"{directory}/{GOLDEN} lacks the array 'action'")
    return _with_prefix(arrays, _OBSERVATION), _with_prefix(arrays, _NOISE), arrays["action"]


def _with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _answers(backend: Any, observation: Mapping, noise: Mapping) -> np.ndarray:
    """The backend's actions: the first observation alone, the others in batches."""
    rows = len(next(iter(observation.values())))
    edges = [0, *range(1, rows, _BATCH), rows]
    parts = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        window = {k: v[start:stop] for k, v in observation.items()}
        parts.append(backend(window, {k: v[start:stop] for k, v in noise.items()}))
    return np.concatenate(parts)


def _compare(expected: np.ndarray, got: np.ndarray, tolerance: float) -> dict[str, Any]:
    if expected.shape != got.shape:
        raise InputError(f"{GOLDEN} holds actions {expected.shape}, the artefact gives {got.shape}")
    finite = bool(np.isfinite(got).all() and np.isfinite(expected).all())
    error = float(np.abs(expected - got).max()) if finite else float("inf")
    return {"passed": finite and error <= tolerance, "max_abs_error": error, "finite": finite}

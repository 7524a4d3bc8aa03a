"""Writes a policy as a bundle that runs without JAX: all of it, verified, or nothing.

manifest.json is a specs.PolicyManifest (inputs, outputs, hashes); policy.onnx maps
[B, O, ...] to [B, H, A] for any B and policy.tflite for B = 1; golden.npz holds
recorded observations and JAX's answers; checklist.json what was measured (see
export.checklist).
"""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from jaxpolicy.core import atomic, chunking, specs, versions
from jaxpolicy.core.specs import ActionSpec, ArraySpec, InputError, PolicyManifest
from jaxpolicy.core.types import PolicySpec
from jaxpolicy.deploy import artefact
from jaxpolicy.export import checklist, onnx, policy_function, tflite, verify
from jaxpolicy.export.config import ExportConfig
from jaxpolicy.export.policy_function import PolicyFunction

__all__ = ["EXPORTERS", "export", "windows"]

# Format -> converter of a PolicyFunction to the bytes of `policy.<format>`.
EXPORTERS: dict[str, Callable[[PolicyFunction], bytes]] = {
    "onnx": onnx.convert,
    "tflite": tflite.convert,
}

_LIBRARIES = (
    "jax",
    "flax",
    "jax2onnx",
    "litert-converter",
    "onnxruntime",
    "ai-edge-litert",
    "jaxpolicy",
)

# Sources of limits to warn of -> what is wrong with them.
_DOUBTFUL = {
    specs.FROM_DATA: "the limits of the action are the extremes of the training data",
    "": "nobody recorded where the limits of the action come from",
}


def export(
    policy: Any,
    directory: str | os.PathLike[str],
    observations: Mapping[str, np.ndarray],
    config: ExportConfig | None = None,
) -> PolicyManifest:
    """Exports, verifies and measures; `directory` appears (or is replaced) at the end.

    Args:
      policy: `training.factory.LoadedPolicy`, or anything with its fields.
      directory: of the bundle.
      observations: recorded raw observations, each [N, O, ...]; at most
        `config.n_golden`, evenly spaced, are kept. `windows` makes them from episodes.
      config: formats, tolerance and limits.

    Returns:
      The manifest.

    Raises:
      InputError: the observations do not fit the policy, the policy does not convert,
        an artefact differs from JAX by more than the tolerance, or the directory
        cannot be written. Nothing is left behind.
    """
    config = config or ExportConfig()
    function = policy_function.make(policy)
    _warn_of_limits(function.spec.action)
    golden = _select(function.spec, observations, config.n_golden)
    with _replacing(Path(directory)) as temporary:
        files = {f"policy.{k}": EXPORTERS[k](function) for k in config.formats}
        files[verify.GOLDEN] = _golden_file(function, golden)
        manifest = _manifest(policy, function, config.formats, files)
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        (temporary / artefact.MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        _write_checklist(temporary, manifest, config)
    return manifest


def _warn_of_limits(action: ActionSpec) -> None:
    """Warns of limits that may be narrower than the robot's: the runtime clips to them."""
    found = _DOUBTFUL.get(action.limits_from)
    if found:
        logging.warning(
            "%s, and the runtime clips what goes beyond them; give the robot's own with "
            "data.action_minimum and data.action_maximum, and export again",
            found,
        )


def _write_checklist(directory: Path, manifest: PolicyManifest, config: ExportConfig) -> None:
    """Verifies the bundle and writes what was measured; refuses a failed one."""
    parity = verify.verify(directory, config.tolerance, config.threads)
    if not parity["passed"]:
        errors = {k: r["max_abs_error"] for k, r in parity["artefacts"].items()}
        raise InputError(
            f"exported artefacts differ from JAX by {errors} on {parity['n']} observations; "
            f"export.tolerance is {config.tolerance}"
        )
    items = checklist.measure(directory, manifest, parity, config)
    text = json.dumps(items, indent=2) + "\n"
    (directory / checklist.CHECKLIST).write_text(text, encoding="utf-8")


def windows(
    episodes: Sequence[Mapping[str, np.ndarray]], spec: PolicySpec, n: int
) -> dict[str, np.ndarray]:
    """At most `n` observation windows, evenly spaced over all steps of `episodes`.

    Args:
      episodes: observations of each episode, each array [T, ...]; keys that the
        policy does not use are ignored, an absent mask means that the camera is there.
      spec: inputs of the policy.
      n: how many.

    Returns:
      Each [N, O, ...], N <= n.

    Raises:
      InputError: no steps, or an episode lacks an input.
    """
    lengths = [len(next(iter(e.values()))) for e in episodes]
    places = [(e, t) for e, length in enumerate(lengths) for t in range(length)]
    if not places:
        raise InputError("no recorded observations: give at least one episode")
    chosen = [places[i] for i in _evenly(len(places), n)]
    result = {}
    for item in spec.observation:
        rows = [_window(episodes[e], item, t, spec.n_obs_steps) for e, t in chosen]
        result[item.name] = np.stack(rows)
    return result


def _window(
    episode: Mapping[str, np.ndarray], spec: ArraySpec, t: int, n_obs_steps: int
) -> np.ndarray:
    """[O, *shape] of one key at time t."""
    if spec.name not in episode and spec.name.startswith("mask/"):
        return np.ones((n_obs_steps, *spec.shape), bool)
    if spec.name not in episode:
        raise InputError(f"a recorded episode lacks '{spec.name}'; it has {sorted(episode)}")
    return np.asarray(episode[spec.name])[chunking.history_indices(np.array(t), n_obs_steps)]


def _evenly(rows: int, n: int) -> np.ndarray:
    """At most `n` of `rows` indices, evenly spaced, first and last included."""
    return np.unique(np.linspace(0, rows - 1, min(rows, n)).round().astype(int))


def _select(
    spec: PolicySpec, observations: Mapping[str, np.ndarray], n: int
) -> dict[str, np.ndarray]:
    """The policy's inputs, checked, at most `n` rows."""
    missing = [s.name for s in spec.observation if s.name not in observations]
    if missing:
        raise InputError(f"recorded observations lack {missing}; they have {sorted(observations)}")
    chosen = {s.name: np.asarray(observations[s.name]) for s in spec.observation}
    sizes = {k: len(v) for k, v in chosen.items()}
    if len(set(sizes.values())) != 1 or not min(sizes.values()):
        raise InputError(f"recorded observations must have one length of at least 1, got {sizes}")
    for item in spec.observation:
        window = ArraySpec(item.name, (spec.n_obs_steps, *item.shape), item.dtype)
        window.validate(chosen[item.name], "recorded observations [N, O, ...]")
    index = _evenly(min(sizes.values()), n)
    return {k: v[index] for k, v in chosen.items()}


def _golden_file(function: PolicyFunction, observation: Mapping[str, np.ndarray]) -> bytes:
    """Observations, the noise that was drawn for them, and JAX's answers."""
    noise = policy_function.draw_noise(function, len(next(iter(observation.values()))))
    action = policy_function.predict(function, observation, noise)
    named = {f"observation/{k}": v for k, v in observation.items()}
    named |= {f"noise/{k}": v for k, v in noise.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, action=action, **named)  # type: ignore[arg-type]
    return buffer.getvalue()


def _manifest(
    policy: Any, function: PolicyFunction, formats: tuple[str, ...], files: Mapping[str, bytes]
) -> PolicyManifest:
    spec, config = function.spec, getattr(policy, "config", {})
    return PolicyManifest(
        format_version=1,
        name=str(config.get("name", "policy")),
        algorithm=str(config.get("algorithm", "unknown")),
        observation=tuple(map(_named, spec.observation)),
        noise=function.noise,
        action=spec.action,
        n_obs_steps=spec.n_obs_steps,
        horizon=spec.horizon,
        n_action_steps=spec.n_action_steps,
        temporal_ensemble=spec.temporal_ensemble,
        artefacts={k: f"policy.{k}" for k in formats},
        sha256={name: artefact.digest(data) for name, data in files.items()},
        provenance=_provenance(policy),
    )


def _named(spec: ArraySpec) -> ArraySpec:
    """With a name for every element of a vector of measurements; by position if need be."""
    is_measured = spec.name in (*specs.VECTORS, specs.PREVIOUS_ACTION)
    return dataclasses.replace(spec, names=spec.elements) if is_measured else spec


def _provenance(policy: Any) -> dict[str, str]:
    facts = {
        "dataset_hash": str(getattr(policy, "dataset_hash", "")),
        "checkpoint_step": str(getattr(policy, "step", "")),
    }
    return facts | {f"version/{n}": v for n, v in versions.of(_LIBRARIES).items()}


@contextlib.contextmanager
def _replacing(directory: Path) -> Iterator[Path]:
    """A temporary neighbour that becomes `directory` when the block succeeds."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as e:
        raise InputError(f"{directory} cannot be written: {e}") from e
    try:
        temporary.chmod(0o755)
        new = temporary / "new"
        new.mkdir()
        with atomic.unfinished(temporary):
            yield new
        _swap(new, directory, temporary / "old")
    except OSError as e:
        raise InputError(f"{directory} cannot be written: {e}") from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, directory: Path, old: Path) -> None:
    """Puts `new` in the place of `directory`; puts the old one back if that fails."""
    if directory.exists():
        if not (directory / artefact.MANIFEST).exists() and any(directory.iterdir()):
            raise InputError(f"{directory} exists and is not an exported policy; give another")
        os.replace(directory, old)
    try:
        os.replace(new, directory)
    except OSError:
        if old.exists():
            os.replace(old, directory)
        raise

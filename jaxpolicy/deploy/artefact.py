"""Reading an exported policy from disk, and refusing one that is damaged.

A bundle is the directory that `jaxpolicy.export.bundle` writes: manifest.json, one
file per artefact kind, golden.npz and checklist.json. The manifest holds the
SHA-256 of the artefacts and of golden.npz; checklist.json is not hashed, because
later stages fill in what they measure.
"""

import hashlib
import os
from pathlib import Path

from jaxpolicy.core.specs import InputError, PolicyManifest

__all__ = ["MANIFEST", "digest", "read_artefact", "read_file", "read_manifest"]

MANIFEST = "manifest.json"


def digest(data: bytes) -> str:
    """SHA-256 of `data`, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_manifest(directory: str | os.PathLike[str]) -> PolicyManifest:
    """The manifest of the bundle in `directory`.

    Raises:
      InputError: no manifest there, or it does not fit the schema.
    """
    path = Path(directory) / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as e:
        raise InputError(f"{path} not found: give a directory written by the exporter") from e
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path} cannot be read: {e}") from e
    return PolicyManifest.from_json(text, str(path))


def read_file(directory: str | os.PathLike[str], manifest: PolicyManifest, name: str) -> bytes:
    """Contents of one file of the bundle, after comparing its SHA-256.

    Raises:
      InputError: the manifest does not list it, it is missing, or it was altered.
    """
    path = Path(directory) / name
    if Path(name).name != name or name not in manifest.sha256:
        raise InputError(f"{Path(directory) / MANIFEST} holds no sha256 of '{name}'; export again")
    try:
        data = path.read_bytes()
    except OSError as e:
        raise InputError(f"{path} is listed in the manifest but cannot be read: {e}") from e
    if digest(data) != manifest.sha256[name]:
        raise InputError(
            f"{path} does not match the manifest (sha256 {digest(data)[:12]}..., expected "
            f"{manifest.sha256[name][:12]}...): it is truncated or altered; export again"
        )
    return data


def read_artefact(directory: str | os.PathLike[str], manifest: PolicyManifest, kind: str) -> bytes:
    """Contents of the artefact `kind` ("onnx", "tflite"), see `read_file`.

    Raises:
      InputError: the bundle holds no such artefact, or it is damaged.
    """
    if kind not in manifest.artefacts:
        known = ", ".join(sorted(manifest.artefacts)) or "none"
        raise InputError(f"{directory} holds no '{kind}' artefact; it holds: {known}")
    return read_file(directory, manifest, manifest.artefacts[kind])

"""Running an exported policy with ONNX Runtime or LiteRT, without JAX.

A backend is a callable `(observation, noise) -> action [B, H, A]`. It checks the
bundle's hashes and the graph's signature when it loads, and its inputs against the
manifest at every call. The runtimes are imported when a backend is made.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxpolicy.core.registry import Registry
from jaxpolicy.core.specs import ArraySpec, InputError, PolicyManifest
from jaxpolicy.deploy import artefact

__all__ = ["BACKENDS", "LiteRTBackend", "NOISE_PREFIX", "OnnxBackend", "graph_inputs", "load"]

# Graph inputs are named as the observation keys; noise inputs get this prefix.
NOISE_PREFIX = "noise/"
OUTPUT = "action"

# Shape without the batch axis, and dtype.
Signature = tuple[tuple[int, ...], str]

_ONNX_TYPES = {
    "tensor(float)": "float32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
    "tensor(int32)": "int32",
}


def graph_inputs(manifest: PolicyManifest) -> dict[str, Signature]:
    """Name -> (shape without the batch axis, dtype) of every input of the graph."""
    steps = (manifest.n_obs_steps,)
    inputs = {s.name: (steps + s.shape, s.dtype) for s in manifest.observation}
    return inputs | {NOISE_PREFIX + s.name: (s.shape, s.dtype) for s in manifest.noise}


class OnnxBackend:
    """ONNX Runtime on the CPU; one call for the whole batch."""

    kind = "onnx"

    def __init__(self, directory: str | os.PathLike[str], threads: int = 1):
        """Loads `policy.onnx` of the bundle in `directory`.

        Args:
          directory: the bundle.
          threads: threads inside an operator; operators run one after another.

        Raises:
          InputError: damaged bundle, other inputs than declared, or no onnxruntime.
        """
        self.manifest = artefact.read_manifest(directory)
        data = artefact.read_artefact(directory, self.manifest, self.kind)
        self._session = _onnx_session(data, threads, f"{directory}/{self.kind}")
        found = {i.name: _onnx_signature(i) for i in self._session.get_inputs()}
        outputs = {o.name: _onnx_signature(o) for o in self._session.get_outputs()}
        _check_signature(self.manifest, found, outputs, f"{directory}: ONNX graph")

    def __call__(
        self, observation: Mapping[str, np.ndarray], noise: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Predicts.

        Args:
          observation: every input of the manifest, [B, O, *shape], raw, oldest first.
          noise: every noise input of the manifest, [B, *shape].

        Returns:
          float32 [B, H, A], physical units, not clipped.

        Raises:
          InputError: a missing or unknown key, a wrong shape or dtype, NaN.
        """
        feeds, batch = _feeds(self.manifest, observation, noise)
        return _checked_action(self.manifest, self._session.run([OUTPUT], feeds)[0], batch)


class LiteRTBackend:
    """LiteRT (TensorFlow Lite) on the CPU.

    The exported graph has batch size 1, which is what a controller runs and what the
    XNNPACK kernels need (static shapes); a batch is a loop over its rows.
    """

    kind = "tflite"

    def __init__(self, directory: str | os.PathLike[str], threads: int = 1):
        """Loads `policy.tflite` of the bundle in `directory`.

        Args:
          directory: the bundle.
          threads: threads inside an operator.

        Raises:
          InputError: damaged bundle, other inputs than declared, or no ai-edge-litert.
        """
        self.manifest = artefact.read_manifest(directory)
        data = artefact.read_artefact(directory, self.manifest, self.kind)
        self._runner = _litert_runner(data, threads, f"{directory}/{self.kind}")
        found = {k: _litert_signature(v) for k, v in self._runner.get_input_details().items()}
        outputs = {k: _litert_signature(v) for k, v in self._runner.get_output_details().items()}
        _check_signature(self.manifest, found, outputs, f"{directory}: TF Lite graph")

    def __call__(
        self, observation: Mapping[str, np.ndarray], noise: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Predicts; arguments, result and errors as `OnnxBackend.__call__`."""
        feeds, batch = _feeds(self.manifest, observation, noise)
        rows = [self._row({k: v[i : i + 1] for k, v in feeds.items()}) for i in range(batch)]
        return _checked_action(self.manifest, np.concatenate(rows), batch)

    def _row(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.array(self._runner(**feeds)[OUTPUT])


# Artefact kind -> backend class.
BACKENDS: Registry[Callable[..., Any]] = Registry(
    "runtime", {"onnx": OnnxBackend, "tflite": LiteRTBackend}, Callable
)


def load(directory: str | os.PathLike[str], kind: str = "onnx", threads: int = 1) -> Any:
    """The backend `kind` on the bundle in `directory`.

    Raises:
      InputError: unknown kind, or what the backend's constructor raises.
    """
    if kind not in BACKENDS:
        raise InputError(f"backend must be one of {sorted(BACKENDS)}, got '{kind}'")
    return BACKENDS[kind](directory, threads)


def _onnx_session(data: bytes, threads: int, where: str) -> Any:
    try:
        import onnxruntime
    except ImportError as e:
        raise InputError("the onnx backend needs onnxruntime: pip install onnxruntime") from e
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises its own types, all from Exception.
        raise InputError(f"{where} cannot be loaded: {_first_line(e)}") from e


def _onnx_signature(value: Any) -> Signature:
    return tuple(value.shape[1:]), _ONNX_TYPES.get(value.type, value.type)


def _litert_runner(data: bytes, threads: int, where: str) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as e:
        raise InputError("the tflite backend needs LiteRT: pip install ai-edge-litert") from e
    try:
        interpreter = Interpreter(model_content=data, num_threads=threads)
        interpreter.allocate_tensors()
        return interpreter.get_signature_runner()
    except (RuntimeError, ValueError) as e:
        raise InputError(f"{where} cannot be loaded: {_first_line(e)}") from e


def _litert_signature(details: Mapping[str, Any]) -> Signature:
    return tuple(int(d) for d in details["shape"][1:]), np.dtype(details["dtype"]).name


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_signature(
    manifest: PolicyManifest,
    inputs: Mapping[str, Signature],
    outputs: Mapping[str, Signature],
    where: str,
) -> None:
    """Raises InputError unless the graph is the one that the manifest declares."""
    action = {OUTPUT: ((manifest.horizon, manifest.action.size), "float32")}
    _check_arrays(graph_inputs(manifest), inputs, f"{where}: input")
    _check_arrays(action, outputs, f"{where}: output")


def _check_arrays(
    expected: Mapping[str, Signature], found: Mapping[str, Signature], where: str
) -> None:
    if set(found) != set(expected):
        raise InputError(f"{where}s are {sorted(found)}, the manifest says {sorted(expected)}")
    for name, wanted in expected.items():
        if found[name] != wanted:
            raise InputError(f"{where} '{name}' is {found[name]}, the manifest says {wanted}")


def _feeds(
    manifest: PolicyManifest,
    observation: Mapping[str, np.ndarray],
    noise: Mapping[str, np.ndarray] | None,
) -> tuple[dict[str, np.ndarray], int]:
    """Checked inputs by graph name, and B."""
    window = [_with_steps(s, manifest.n_obs_steps) for s in manifest.observation]
    feeds = _select(window, observation, "observation")
    named = _select(manifest.noise, noise or {}, "noise")
    feeds |= {NOISE_PREFIX + k: v for k, v in named.items()}
    sizes = {k: len(v) for k, v in feeds.items()}
    if len(set(sizes.values())) != 1:
        raise InputError(f"inputs must have one batch size, got {sizes}")
    return feeds, next(iter(sizes.values()))


def _with_steps(spec: ArraySpec, n_obs_steps: int) -> ArraySpec:
    shape = (n_obs_steps, *spec.shape)
    return ArraySpec(spec.name, shape, spec.dtype, spec.unit, names=spec.names)


def _select(specs: Any, values: Mapping[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
    """Values in the specs' order, each checked to be [B, *spec.shape]."""
    names = [s.name for s in specs]
    if set(values) != set(names):
        raise InputError(f"{what} must hold the keys {names}, got {sorted(values)}")
    for spec in specs:
        spec.validate(values[spec.name], what)
        if np.ndim(values[spec.name]) != len(spec.shape) + 1:
            wanted = ", ".join(map(str, spec.shape))
            got = list(np.shape(values[spec.name]))
            raise InputError(f"{what}: '{spec.name}' must be [B, {wanted}], got {got}")
    return {n: np.ascontiguousarray(values[n]) for n in names}


def _checked_action(manifest: PolicyManifest, action: np.ndarray, batch: int) -> np.ndarray:
    expected = (batch, manifest.horizon, manifest.action.size)
    if action.shape != expected:
        raise InputError(f"the graph returned {action.shape}, the manifest says {expected}")
    return action

"""What every test process runs with. Read before any test imports JAX."""

import os
import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_DEVICES = "--xla_force_host_platform_device_count=8"

_DEFAULTS = {
    "JAX_PLATFORMS": "cpu",
    # Compiled programs are shared by the workers and by the next run.
    "JAX_COMPILATION_CACHE_DIR": str(_ROOT / ".cache" / f"jax-{_PYTHON}"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    # One BLAS thread per worker: there are as many workers as cores.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Plots are drawn without a display, and TensorFlow says nothing unless it fails.
    "MPLBACKEND": "Agg",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}".strip()

"""What every test process runs with. Read before any test imports JAX."""

import gc
import importlib.metadata
import os
import pathlib
import signal
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_XLA_FLAGS = {
    "xla_force_host_platform_device_count": "8",
    # Compiling is what takes time here, so LLVM may do less of it: the same programs, slower.
    # Flags that are given in XLA_FLAGS stay as they are, e.g. --xla_backend_optimization_level=3.
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": "true",
}
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # The older of two code generators compiles an MJX step in half the time, and it runs as
    # fast. Later versions do not have it, and XLA aborts on a flag that it does not know.
    _XLA_FLAGS["xla_cpu_use_fusion_emitters"] = "false"

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
for _name, _value in _XLA_FLAGS.items():
    _given = os.environ.get("XLA_FLAGS", "")
    if _name not in _given:
        os.environ["XLA_FLAGS"] = f"{_given} --{_name}={_value}".strip()

# Many tests start processes: what they import is compiled to bytecode once, outside the tree.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(_ROOT / ".cache" / "bytecode"))
sys.dont_write_bytecode = False
sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"]


# A shell ignores SIGINT for what it runs in the background, and so would what tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--mjx",
        default="share",
        choices=("share", "all"),
        help="worlds of the contract test on MJX, which compile for half a minute each: this "
        "Python's share of them, each task on one robot (default), or all",
    )


def pytest_collection_finish():
    """What was imported stays: tracing makes many objects, and collecting went over all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)

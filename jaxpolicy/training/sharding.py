"""Where arrays live: one mesh axis, batches split along it, parameters copied or split too.

Split parameters and optimiser state are fully sharded data parallelism (ZeRO stage 3,
https://arxiv.org/abs/1910.02054) as GSPMD derives it (https://arxiv.org/abs/2105.04663): the
program is the same, and the compiler gathers a weight where it is used and scatters its
gradient.

The same code serves one device, several, and several hosts: a host gives its own
rows of a batch and gets the global array back.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxpolicy.core.specs import InputError

__all__ = [
    "AUTO_BYTES",
    "DATA_AXIS",
    "MIN_SIZE",
    "abstract",
    "bytes_per_device",
    "check_batch_size",
    "first_host_first",
    "init_as",
    "make_mesh",
    "put_batch",
    "put_replicated",
    "replicated",
    "shards_state",
    "split",
    "spread",
]

DATA_AXIS = "data"

# State larger than this is sharded by "auto": beside it, gradients (a third of it) and
# activations must fit, and gathering costs little against steps of such networks.
AUTO_BYTES = 2 * 2**30
# Arrays with fewer elements are copied: a gather of its own costs more than they take.
MIN_SIZE = 2**14


def make_mesh(n_devices: int = 0) -> Mesh:
    """Mesh of the first `n_devices` devices (0: all) along DATA_AXIS.

    Raises:
      InputError: there are fewer devices, or hosts would be left without one.
    """
    devices = jax.devices()
    n = n_devices or len(devices)
    if n > len(devices):
        raise InputError(f"loop.devices asks for {n} devices, {len(devices)} are there")
    if n < len(devices) and jax.process_count() > 1:
        raise InputError("loop.devices must be 0 (all) when several hosts train together")
    return jax.make_mesh((n,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices[:n])


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises InputError unless `batch_size` is a multiple of the number of devices."""
    if batch_size % mesh.size:
        raise InputError(
            f"loop.batch_size ({batch_size}) must be a multiple of the {mesh.size} devices"
        )


@contextlib.contextmanager
def first_host_first(name: str) -> Iterator[None]:
    """Runs the block on the first host, then on all others, who find its files there."""
    if jax.process_count() == 1:
        yield
        return
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices(name)
    try:
        yield
    finally:
        if jax.process_index() == 0:
            multihost_utils.sync_global_devices(name)


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Axis number `axis` split over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA_AXIS))


def spread(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """The largest axis that the devices divide evenly, split; a copy where none is or it is small.

    Among axes of one size it is the last, the outputs of a kernel.
    """
    axes = [i for i, n in enumerate(shape) if n % mesh.size == 0]
    if mesh.size == 1 or not axes or math.prod(shape) < MIN_SIZE:
        return replicated(mesh)
    return split(mesh, max(axes, key=lambda i: (shape[i], i)))


def shards_state(mode: str, mesh: Mesh, n_bytes: int) -> bool:
    """Whether state of `n_bytes` is sharded; `mode` is LoopConfig.shard_params."""
    return mesh.size > 1 and (mode == "on" or (mode == "auto" and n_bytes > AUTO_BYTES))


def abstract(init: Callable[..., Any], mesh: Mesh, *args: Any, shard: str = "off") -> Any:
    """Shapes, dtypes and shardings of `init(*args)`; nothing is computed.

    Args:
      init: makes a tree of arrays.
      mesh: devices.
      *args: of `init`.
      shard: see LoopConfig.shard_params.
    """
    shapes = jax.eval_shape(init, *args)
    n_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    sharded = shards_state(shard, mesh, n_bytes)

    def place(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        where = spread(x.shape, mesh) if sharded else replicated(mesh)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

    return jax.tree.map(place, shapes)


def init_as(init: Callable[..., Any], like: Any, *args: Any) -> Any:
    """`init(*args)` computed where its results belong: shapes -> shardings -> jit."""
    shardings = jax.tree.map(lambda s: s.sharding, like)
    return jax.jit(init, out_shardings=shardings)(*args)


def bytes_per_device(tree: Any) -> int:
    """Largest number of bytes that a device holds of arrays, or of `abstract` ones."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def put_batch(batch: Any, mesh: Mesh, axis: int = 0) -> Any:
    """This host's rows (along `axis`) of a batch -> global arrays split over the mesh."""
    where = split(mesh, axis)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(where, np.asarray(x)), batch
    )


def put_replicated(tree: Any, mesh: Mesh) -> Any:
    """Arrays that every host holds alike -> a copy on every device."""
    where = replicated(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(where, np.asarray(x)), tree
    )

"""Where arrays live: one mesh axis, parameters on every device, batches split.

The same code serves one device, several, and several hosts: a host gives its own
rows of a batch and gets the global array back.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxpolicy.specs import InputError

__all__ = [
    "DATA_AXIS",
    "abstract",
    "check_batch_size",
    "first_host_first",
    "init_on",
    "make_mesh",
    "put_batch",
    "put_replicated",
    "replicated",
    "split",
]

DATA_AXIS = "data"


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


def abstract(init: Callable[..., Any], mesh: Mesh, *args: Any) -> Any:
    """Shapes, dtypes and shardings of `init(*args)`; nothing is computed."""
    shapes = jax.eval_shape(init, *args)
    where = replicated(mesh)
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes)


def init_on(init: Callable[..., Any], mesh: Mesh, *args: Any) -> Any:
    """`init(*args)` computed where its results belong: shapes -> shardings -> jit."""
    shardings = jax.tree.map(lambda s: s.sharding, abstract(init, mesh, *args))
    return jax.jit(init, out_shardings=shardings)(*args)


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

r"""Training on several devices, of one process or of several: each takes its share of every batch.

    batch (B, ...) -> B / D examples a device;  parameters, moments, data: the same on all
    gradient of the mean = mean of the devices' gradients, which the compiler inserts

Nothing of a step is written twice: arrays are laid out by a `NamedSharding`, and the one compiled step is cut along
them. So the numbers are those of one device up to the order of sums. Processes take the same pieces of a run,
as the first one says; only the first writes the folder.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from separatrix._errors import SeparatrixError, explain
from separatrix.systems import ranges
from separatrix.training.run import Run

_AXIS = "batch"


def mesh_of(devices: Any) -> Mesh | None:
    """The devices that `fit` was asked to use, in a row; None for the one that JAX takes by itself.

    **Raises:** `ValueError` or `TypeError` for devices that there are not.
    """
    if devices is None:
        return None
    here = jax.devices()
    if devices == "all":
        return Mesh(np.array(here), (_AXIS,))
    if isinstance(devices, bool | str) or not isinstance(devices, int | list | tuple):
        raise TypeError(explain("fit: devices", repr(devices)[:80], "a count, or devices of JAX", 'Say devices="all".'))
    if isinstance(devices, int):
        ranges.whole("fit: devices", devices, 'Say devices="all".')
        if devices > len(here):
            do = 'Say devices="all", or simulate some: XLA_FLAGS=--xla_force_host_platform_device_count=4'
            raise ValueError(explain("fit: devices", devices, f"at most {len(here)}, which there are", do))
        devices = here[:devices]
    if not devices or not all(isinstance(one, jax.Device) for one in devices):
        raise TypeError(explain("fit: devices", repr(devices)[:80], "devices of jax.devices()", "Pass some."))
    return Mesh(np.array(devices), (_AXIS,))


def is_follower() -> bool:
    """Whether this process is one of several, and not the first: it computes, and writes nothing."""
    return jax.process_index() > 0


def meet(name: str) -> None:
    """Wait for the other processes, if there are any."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"separatrix: {name}")


def by_the_first(take: Any, path: Any) -> Run:
    """The run that the first process takes for writing; the others read it."""
    if is_follower():
        meet("run")
        return Run.open(path)
    try:
        return take()
    finally:
        meet("run")


def agreed(mesh: Mesh | None, steps: int, stop: bool) -> tuple[int, bool]:
    """How many steps the next piece takes, as the first process says, and whether any was asked to stop."""
    if mesh is None or jax.process_count() == 1:
        return steps, stop
    from jax.experimental import multihost_utils

    said = np.asarray(multihost_utils.process_allgather(np.array([steps, int(stop)])))
    return int(said[0, 0]), bool(said[:, 1].any())


def placed(tree: Any, mesh: Mesh | None) -> Any:
    """A tree with the same arrays on every device."""
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, PartitionSpec())

    def leaf(x: Any) -> Any:
        if not isinstance(x, jax.Array | np.ndarray):
            return x
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(leaf(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, everywhere, lambda place: host[place])

    return jax.tree.map(leaf, tree)


def gathered(tree: Any, mesh: Mesh | None) -> Any:
    """A tree whose arrays lie on this process's first device, for whoever goes on with them."""
    if mesh is None:
        return tree

    def leaf(x: Any) -> Any:
        if not isinstance(x, jax.Array):
            return x
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(leaf(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        return jnp.asarray(np.asarray(x))

    return jax.tree.map(leaf, tree)


def same(tree: Any, mesh: Mesh | None) -> Any:
    """Inside a step: a tree that is the same on every device."""
    return tree if mesh is None else _constrained(tree, NamedSharding(mesh, PartitionSpec()))


def shared_out(objective: Any, mesh: Mesh | None) -> Any:
    """Inside a step: an objective on its batch, each device with its share of the examples."""
    if mesh is None:
        return objective
    split = NamedSharding(mesh, PartitionSpec(_AXIS))
    return dataclasses.replace(objective, data=_constrained(objective.data, split))


def _constrained(tree: Any, sharding: NamedSharding) -> Any:
    count = sharding.mesh.size
    even = sharding.spec == PartitionSpec(_AXIS)

    def leaf(x: Any) -> Any:
        if not eqx.is_array(x) or jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return x
        # What cannot be cut evenly, as the last batch of an epoch, is taken whole by every device.
        return x if even and x.shape[0] % count else jax.lax.with_sharding_constraint(x, sharding)

    return jax.tree.map(leaf, tree)


def peer_lost(error: BaseException, run: Any) -> SeparatrixError | None:
    """The words for an error that means that another process is gone; None for any other error."""
    text = str(error)
    signs = ("Gloo", "Connection reset", "Connection closed", "coordination", "heartbeat", "UNAVAILABLE", "peer")
    if jax.process_count() == 1 or not any(sign in text for sign in signs):
        return None
    do = "Start all of them again: the run goes on from its last checkpoint." if run else "Start all of them again."
    got = f"another process that is gone ({text.splitlines()[0][:120]})"
    where = f"fit: process {jax.process_index()} of {jax.process_count()}"
    return GangBroken(explain(where, got, "all of them to the end", do))


class GangBroken(SeparatrixError):
    """One of several processes that train together is gone."""

    exit_code: int = 1

"""What the strict climate costs, without what it does not need.

Three costs were more than half of the time of a test and most of the memory of a worker, and none checks anything:

- JAX makes a context of its compiler's language (MLIR) for each program and keeps it as long as the program: 5 ms and half
  a megabyte. Programs may share one. It keeps the constants it has seen, so a new one is made now and then. A program that
  is made while another is being made gets its own: what is written in one context lands where its writer stands.
- jaxtyping asks a second type checker for each leaf of a state. `isinstance` gives the same answer.
- Outside `jit`, JAX compiles a program for each shape of what only moves numbers, as `jnp.asarray` of an array of NumPy or
  a row cut out of an array: 20 ms each. NumPy moves them to the same bits. What computes is left to JAX.

All reach into private parts of those libraries. Where a release has moved them, the tests run without, slower.
"""

import typing

import jax
import numpy as np
from jaxtyping import ArrayLike

PROGRAMS_A_CONTEXT = 200


def share_contexts() -> None:
    """Lower several programs in one MLIR context."""
    try:
        from jax._src.interpreters import mlir

        make, current = mlir.make_ir_context, mlir.ir.Context
    except (ImportError, AttributeError):
        return
    shared, uses = None, 0

    def context():
        nonlocal shared, uses
        if current.current is not None:
            return make()
        if shared is None or uses % PROGRAMS_A_CONTEXT == 0:
            shared = make()
        uses += 1
        return shared

    mlir.make_ir_context = context


def check_leaves_by_isinstance() -> None:
    """Check `PyTree[ArrayLike]`, the type of every state, leaf by leaf with `isinstance`."""
    try:
        from jaxtyping import _pytree_type

        meta = _pytree_type._MetaPyTree
        checked = meta.__instancecheck__
    except (ImportError, AttributeError):
        return
    kinds = typing.get_args(ArrayLike)

    def check(cls, value):
        if getattr(cls, "leaftype", None) is not ArrayLike or getattr(cls, "structure", None) is not None:
            return checked(cls, value)
        return all(isinstance(leaf, kinds) for leaf in jax.tree.leaves(value))

    meta.__instancecheck__ = check


def _broadcast(x, *, shape, broadcast_dimensions, sharding):
    sizes = dict(zip(broadcast_dimensions, x.shape, strict=True))
    return np.broadcast_to(x.reshape([sizes.get(axis, 1) for axis in range(len(shape))]), shape)


def _cut(x, *starts, slice_sizes):
    firsts = [
        min(max(int(start), 0), all - size) for start, all, size in zip(starts, x.shape, slice_sizes, strict=True)
    ]
    return x[tuple(slice(first, first + size) for first, size in zip(firsts, slice_sizes, strict=True))]


MOVES = {
    "stage": lambda x: x,
    "broadcast_in_dim": _broadcast,
    "dynamic_slice": _cut,
    "concatenate": lambda *parts, dimension: np.concatenate(parts, dimension),
    "reshape": lambda x, *, new_sizes, dimensions, sharding: (
        x if dimensions is None else x.transpose(dimensions)
    ).reshape(new_sizes),
    "squeeze": lambda x, *, dimensions: np.squeeze(x, dimensions),
    "convert_element_type": lambda x, *, new_dtype, weak_type, sharding: x.astype(new_dtype),
}


def move_without_compiling() -> None:
    """Let NumPy move numbers that the host holds; a cast only if it keeps every value or rounds to the nearest."""
    try:
        from jax._src.array import ArrayImpl
        from jax._src.lax import lax, slicing

        primitives = {name: getattr(lax, name + "_p", None) or getattr(slicing, name + "_p") for name in MOVES}
        compiled = {name: primitive.impl for name, primitive in primitives.items()}
    except (ImportError, AttributeError):
        return

    def plain(x):
        if type(x) is np.ndarray:
            return x.dtype == jax.dtypes.canonicalize_dtype(x.dtype)
        return type(x) is ArrayImpl and x.dtype.isbuiltin == 1 and not (x.aval.weak_type or x._committed)

    def moves(args, params):
        cast = params.get("new_dtype")
        keeps = cast is None or (not params["weak_type"] and np.can_cast(args[0].dtype, cast, "safe"))
        return keeps and params.get("sharding") is None

    def moved(name):
        def impl(*args, **params):
            if not (all(map(plain, args)) and moves(args, params)):
                return compiled[name](*args, **params)
            # A copy: what NumPy may write into later is not shared.
            return jax.device_put(np.array(MOVES[name](*map(np.asarray, args), **params), order="C"))

        return impl

    for name, primitive in primitives.items():
        primitive.def_impl(moved(name))

"""What the strict climate costs, without what it does not need.

Two costs were half of the time of a test and most of the memory of a worker, and neither checks anything:

- JAX makes a context of its compiler's language (MLIR) for each program and keeps it as long as the program: 5 ms and half
  a megabyte. Programs may share one. It keeps the constants it has seen, so a new one is made now and then. A program that
  is made while another is being made gets its own: what is written in one context lands where its writer stands.
- jaxtyping asks a second type checker for each leaf of a state. `isinstance` gives the same answer.

Both reach into private parts of those libraries. Where a release has moved them, the tests run without, slower.
"""

import typing

import jax
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

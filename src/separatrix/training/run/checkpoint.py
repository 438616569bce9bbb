r"""A tree in one file: written whole, verified when read.

    tree -> entries and arrays -> copy in host memory -> file -> tree

is the identity, bit for bit, for arrays of every dtype, random keys and Python's plain values. A snapshot is the tree at
one instant: what becomes of the arrays afterwards (they may be given away to the next step) does not reach it, so that it
can be written while the computation goes on.
"""

import dataclasses
import functools
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from separatrix._errors import explain
from separatrix.training.run._canonical import plain
from separatrix.training.run._container import Container, read_words, write_container
from separatrix.training.run._disk import DISK, Files, clear_strays
from separatrix.training.run._match import TreeFile
from separatrix.training.run._trees import Flat, take_apart
from separatrix.training.run.errors import OtherRun, StorageError

_PACKAGES = ("separatrix", "jax", "jaxlib", "numpy", "equinox", "optax", "diffrax", "flax")


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a file gave back.

    - `tree`: in the form of the template; dictionaries and lists of arrays without one.
    - `step`, `key`, `cursor`: where the run stood: its step, its random key, its place in the data; None if not given.
    - `fingerprint`: of the configuration that made it. `versions`: of the packages that wrote it.
    - `path`: the file. `passed_over`: newer files that could not be used, and why.
    """

    tree: Any
    step: int | None
    key: Any
    cursor: Any
    fingerprint: str | None
    versions: Mapping[str, str]
    path: Path
    passed_over: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Room:
    """Memory that snapshots are copied into: asked for once, as fresh pages cost more than the copy."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def hold(self, arrays: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
        """Copies of the arrays, one after another, those with the longest elements first, so that all are aligned."""
        for array in arrays.values():
            if hasattr(array, "copy_to_host_async"):
                array.copy_to_host_async()
        ordered = sorted(arrays.items(), key=lambda item: -np.dtype(item[1].dtype).itemsize)
        total = sum(array.nbytes for _, array in ordered)
        if self._bytes.size < total:
            self._bytes = np.empty(total, np.uint8)
        held, place = [], 0
        for name, array in ordered:
            dtype = np.dtype(array.dtype).newbyteorder("<")
            copy = self._bytes[place : place + array.nbytes].view(dtype).reshape(array.shape)
            np.copyto(copy, np.asarray(array))
            held.append((name, copy))
            place += array.nbytes
        return held


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A tree at one instant, ready to be written."""

    manifest: dict[str, Any]
    tensors: list[tuple[str, np.ndarray]]

    def write(self, path: Path, files: Files = DISK) -> None:
        """Write it as a file that appears whole.

        **Raises:** `CannotWrite`.
        """
        write_container(path, self.manifest, self.tensors, files)


def snapshot(
    tree: Any, *, step: int | None = None, key: Any = None, cursor: Any = None, fingerprint: str | None = None,
    run: str | None = None, room: Room | None = None, what: str = "save",
) -> Snapshot:  # fmt: skip
    """Copy a tree. A snapshot is good until its room is used again."""
    flat = take_apart(tree, what)
    at = take_apart(key, f"{what}: key")
    arrays = {f"tree/{name}": array for name, array in flat.arrays.items()}
    arrays |= {f"key/{name}": array for name, array in at.arrays.items()}
    manifest = {
        "versions": versions(), "fingerprint": fingerprint, "run": run, "step": step,
        "cursor": plain(cursor, f"{what}: cursor"), "key": _told(at, "key/"), "tree": _told(flat, "tree/"),
    }  # fmt: skip
    return Snapshot(manifest, (room or Room()).hold(arrays))


def save_tree(path: Any, tree: Any, *, files: Files = DISK, **notes: Any) -> None:
    """Save a tree in one file, at once.

    **Arguments:**

    - `path`: the file. Its folder must exist; a file of that name is replaced by a whole one, or not touched.
    - `tree`: arrays of JAX and NumPy, random keys, None, bool, int, float, complex, str, functions (which are not kept).
    - `notes`: `step`, `key`, `cursor` (plain values), `fingerprint`, as `load_tree` gives them back.

    **Raises:** `TypeError` for a leaf that cannot be kept, `CannotWrite` where the disk refuses.

    **Example:**

    >>> import tempfile, pathlib, jax.numpy as jnp
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> save_tree(path, {"weights": jnp.arange(3.0), "epoch": 4}, step=100)
    >>> saved = load_tree(path)
    >>> saved.step, saved.tree["epoch"], saved.tree["weights"].tolist()
    (100, 4, [0.0, 1.0, 2.0])
    """
    path = Path(path)
    clear_strays(path.parent, path.name)
    snapshot(tree, **notes).write(path, files)


def load_tree(
    path: Any, like: Any = None, *, at: tuple[Any, ...] = (), fingerprint: str | None = None, run: str | None = None,
    force: bool = False,
) -> Saved:  # fmt: skip
    """Read a tree, every byte of it verified.

    **Arguments:**

    - `path`: the file. `at`: where in the tree to begin, as `("model",)`.
    - `like`: a tree of the same form, with arrays or `jax.ShapeDtypeStruct`. None: dictionaries and lists of NumPy arrays.
    - `fingerprint`: what the file must have been saved with. `run`: the identity of its run.
    - `force`: take it though it was made by another configuration, run, or function.

    **Returns:** a `Saved`.

    **Raises:** `DamagedFile` where the file is not as it was written; `OtherModel` where it does not fit the template, and
    `OtherRun`, which is one, where another configuration or run made it.
    """
    with Container(Path(path)) as container:
        manifest = container.manifest
        with read_words(container.path):
            step, of, cursor = manifest["step"], manifest["fingerprint"], manifest["cursor"]
            tree, at_key = TreeFile(container, "tree"), TreeFile(container, "key")
            told = {str(name): str(version) for name, version in manifest["versions"].items()}
            if type(step) not in (int, type(None)) or type(of) not in (str, type(None)):
                raise TypeError("a step or a fingerprint of another type")
        if not force:
            _require_same(container.path, "fingerprint", of, fingerprint, "another configuration or model")
            _require_same(container.path, "run", manifest.get("run"), run, "another run")
        found = tree.read_nested(at) if like is None else tree.read_like(like, at, force)
        key = _key_of(at_key.read_nested())
    return Saved(found, step, key, cursor, of, told, container.path)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that decide what is computed."""
    import platform

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _key_of(read: Any) -> Any:
    """A key as JAX takes it: one of the old kind is an array of uint32."""
    if not isinstance(read, np.ndarray):
        return read
    import jax.numpy as jnp

    return jnp.asarray(read)


def _told(flat: Flat, prefix: str) -> dict[str, Any]:
    entries = [entry.to_json() for entry in flat.entries]
    named = [entry | {"tensor": prefix + entry["tensor"]} if "tensor" in entry else entry for entry in entries]
    static = [[[list(step) if isinstance(step, tuple) else step for step in path], told] for path, told in flat.static]
    return {"entries": named, "static": static}


def _require_same(path: Path, what: str, saved: Any, expected: str | None, whose: str) -> None:
    if expected is not None and saved != expected:
        got = f"the {what} {str(saved)[:16]}"
        do = f"It belongs to {whose}: give what it was made with, or force=True to take it all the same."
        raise OtherRun(explain(str(path), got, f"{expected[:16]}", do))


def missing(path: Path, what: str) -> StorageError:
    """What is said where nothing lies."""
    return StorageError(explain(str(path), "nothing there", what, "Check the path."))

"""The leaves of a file for a template: each compared with what the template asks for before it is read."""

import copy
from typing import Any

import numpy as np

from separatrix._errors import explain
from separatrix.training.run._container import Container, read_words
from separatrix.training.run._entries import EMPTY, Path, TensorEntry, nested, path_of, shown, value_of
from separatrix.training.run._trees import entry_of, leaves_of, put_together, static_of
from separatrix.training.run.errors import OtherModel, StorageError


class TreeFile:
    """A tree in a file: the container, and what its manifest says under the name `part`, checked."""

    def __init__(self, container: Container, part: str) -> None:
        self.container, self.path = container, container.path
        with read_words(container.path):
            told = container.manifest[part]
            listed = [TensorEntry.from_json(fields, container.tensors) for fields in told["entries"]]
            self.entries = {entry.path: entry for entry in listed}
            self.static = {path_of(path): str(text) for path, text in told["static"]}
            if len(self.entries) != len(listed):
                raise ValueError("two leaves of one path")

    def below(self, at: Path) -> dict[Path, TensorEntry]:
        """Entries below a path, by their paths from there on.

        **Raises:** `OtherModel` where there is none.
        """
        found = {path[len(at) :]: entry for path, entry in self.entries.items() if path[: len(at)] == at}
        if at and not found:
            roots = ", ".join(sorted({shown(path[:1]) for path in self.entries})) or "nothing"
            raise OtherModel(
                explain(str(self.path), f"nothing at {shown(at)}", f"one of {roots}", "Ask for one of these.")
            )
        return found

    def read_like(self, like: Any, at: Path = (), force: bool = False) -> Any:
        """The tree below the path `at`, in the form of `like`.

        **Raises:** `OtherModel` where a leaf is missing, too many, or of another kind, dtype or shape; and, unless
        forced, where a function or another static field differs. `DamagedFile` where a digest differs.
        """
        entries, wanted = self.below(at), leaves_of(like)
        self._compare_paths(list(entries), [path for path, _ in wanted], at)
        if not force:
            self._compare_static(like, at)
        for path, leaf in wanted:
            self._compare(entries[path], entry_of(path, leaf, f"the template{shown(path)}")[0], force)
        return put_together(like, [self._leaf(entries[path], leaf) for path, leaf in wanted])

    def read_nested(self, at: Path = ()) -> Any:
        """The tree below the path `at` as dictionaries and lists; functions, which are not kept, are None there.

        Arrays are NumPy's, which keep every dtype whatever the settings of JAX.
        """
        entries = self.below(at)
        with read_words(self.path):
            return nested([(path, self._free(entry)) for path, entry in entries.items()])

    def _compare_paths(self, saved: list[Path], wanted: list[Path], at: Path) -> None:
        missing = [path for path in wanted if path not in set(saved)]
        unasked = [path for path in saved if path not in set(wanted)]
        if missing or unasked:
            first = shown((*at, *(missing or unasked)[0]))
            got = f"no leaf {first}" if missing else f"a leaf {first} that the template lacks"
            counts = f"the leaves of the template ({len(missing)} missing, {len(unasked)} too many)"
            raise OtherModel(explain(str(self.path), got, counts, "Pass the model that was saved."))

    def _compare_static(self, like: Any, at: Path) -> None:
        for path, told in static_of(like):
            before = self.static.get((*at, *path), told)
            if before != told:
                self._refuse((*at, *path), before, told, "Pass the model that was saved, or force=True.")

    def _compare(self, saved: TensorEntry, wanted: TensorEntry, force: bool) -> None:
        """Refuse a leaf that is not what the template has at its place; functions may differ where forced."""
        functions = saved.kind == wanted.kind == "given"
        if _of_python(saved, wanted):
            return
        if str(saved) != str(wanted) and not (force and functions):
            do = "Pass the model that was saved" + (", or force=True." if functions else ".")
            self._refuse(saved.path, str(saved), str(wanted), do)

    def _refuse(self, path: Path, saved: str, wanted: str, do: str) -> None:
        where = f"{self.path}: {shown(path)}"
        raise OtherModel(explain(where, f"{saved[:80]} in the file", f"{wanted[:80]}, as in the template", do))

    def _leaf(self, entry: TensorEntry, like: Any) -> Any:
        """A leaf as the template has it: NumPy for NumPy, JAX for JAX, on the template's device."""
        if entry.kind in ("given", "empty"):
            return like
        if entry.kind == "value":
            return value_of(entry)
        array = self.container.read(entry.tensor)
        if array.shape == () and array.dtype == np.float32 and getattr(like, "dtype", None) == np.float64:
            array = array.astype(np.float64)
        if isinstance(like, np.ndarray | np.generic):
            return array[()] if isinstance(like, np.generic) else array
        return _keys(entry, array) if entry.kind == "key" else self._placed(entry, array, like)

    def _placed(self, entry: TensorEntry, array: np.ndarray, like: Any) -> Any:
        import jax

        placed = jax.device_put(array, like.sharding) if getattr(like, "committed", False) else jax.numpy.asarray(array)
        if placed.dtype != array.dtype:
            do = 'Set jax.config.update("jax_enable_x64", True) first.'
            where = f"{self.path}: {shown(entry.path)}"
            raise StorageError(explain(where, f"{array.dtype}", "what JAX holds without 64 bits", do))
        return _weak(placed) if entry.weak else placed

    def _free(self, entry: TensorEntry) -> Any:
        if entry.kind in ("given", "empty"):
            return None if entry.kind == "given" else copy.copy(EMPTY[entry.of])
        if entry.kind == "value":
            return value_of(entry)
        array = self.container.read(entry.tensor)
        return _keys(entry, array) if entry.kind == "key" else array


def _of_python(saved: TensorEntry, wanted: TensorEntry) -> bool:
    """Whether both are one real number, of single precision in the file and of double in the template.

    A number of Python is as wide as JAX was set to hold: a model of a program without 64 bits is read by one with them.
    """
    alone = saved.kind == wanted.kind == "array" and saved.shape == wanted.shape == ()
    return alone and (saved.of, wanted.of) == ("float32", "float64")


def _keys(entry: TensorEntry, data: np.ndarray) -> Any:
    import jax

    return jax.random.wrap_key_data(jax.numpy.asarray(data), impl=entry.of)


def _weak(array: Any) -> Any:
    """The same numbers as an array that JAX promotes like a Python number."""
    import jax
    import jax.numpy as jnp

    zero = jnp.asarray({"i": 0, "f": 0.0, "c": 0j}.get(array.dtype.kind, False))
    if zero.dtype != array.dtype:
        return array
    with jax.numpy_rank_promotion("allow"):
        return jnp.broadcast_to(zero, array.shape).at[...].set(array)

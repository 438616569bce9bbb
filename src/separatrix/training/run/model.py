r"""A model alone, in one file.

    save(path, model);    load_model(path, model_of_the_same_form) == model, bit for bit

The file is a safetensors file, which other programs read, with a digest for every byte. It appears whole or not at all.
Functions in a model, such as its activations, are code and are not kept: they come from the template.
"""

from pathlib import Path
from typing import Any

from separatrix.training.run.checkpoint import load_tree, save_tree
from separatrix.training.run.run import Run


def save(path: Any, model: Any, *, fingerprint: str | None = None) -> None:
    r"""Save a model, or any tree of arrays, in one file.

    **Arguments:**

    - `path`: the file, by custom `*.safetensors`. Its folder must exist. A file of that name is replaced by a whole one,
      or stays as it is.
    - `model`: arrays of JAX and NumPy, random keys, None, bool, int, float, complex and str, in any tree; functions in it
      are not kept.
    - `fingerprint`: of the configuration that made it, which `load_model` may ask for.

    **Raises:** `TypeError` for a leaf that cannot be kept, naming its path; `CannotWrite` where the disk refuses.

    **Example:**

    >>> import equinox as eqx, jax, pathlib, tempfile
    >>> model = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save(path, model)
    >>> other = eqx.nn.Linear(2, 3, key=jax.random.key(1))
    >>> bool((load_model(path, other).weight == model.weight).all())
    True
    >>> sorted(load_model(path))
    ['bias', 'weight']
    """
    save_tree(path, model, fingerprint=fingerprint)


def load_model(path: Any, like: Any = None, *, fingerprint: str | None = None, force: bool = False) -> Any:
    r"""Load a model that `save` or a run wrote, every byte of it verified. Nothing in the file is executed.

    **Arguments:**

    - `path`: the file, or the folder of a run, whose newest good model is taken.
    - `like`: a model of the same form, of arrays or `jax.ShapeDtypeStruct` (`equinox.filter_eval_shape` makes one). It
      gives the tree, the functions, and the device. None: dictionaries and lists of NumPy arrays by their names.
    - `fingerprint`: what the file must have been saved with.
    - `force`: take it though another configuration made it, or functions and sizes beside the arrays differ.

    **Returns:** the model.

    **Raises:** `DamagedFile` where a byte is not as it was written; `OtherModel` where leaves, dtypes, shapes, sizes or
    names of functions differ from the template's; `StorageError` where there is nothing to read.

    **Example:** a file of another model is refused by name.

    >>> import pathlib, tempfile, jax.numpy as jnp
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save(path, {"weight": jnp.ones((2, 3))})
    >>> load_model(path, {"weight": jnp.ones((3, 2))})
    Traceback (most recent call last):
    separatrix.training.run.errors.OtherModel: ...
    """
    path = Path(path)
    if path.is_dir():
        run = Run.open(path)
        return run.load(like, at="model", force=force).tree
    return load_tree(path, like, fingerprint=fingerprint, force=force).tree

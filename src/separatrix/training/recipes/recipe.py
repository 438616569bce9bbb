r"""Recipes: how a user's data becomes something to train, written down.

    spec (TOML) <-> recipe (a frozen dataclass) -> canonical JSON -> SHA-256, the identity of a run

A family registers a recipe under a name. A file holds that name and plain fields; the class is found by the name alone, so
that a file can choose among recipes and never bring code. What a recipe is asked for:

- `settled()`: the recipe with what it learns from the data (the number of features, the classes) in its fields, so that
  from then on the fields say everything;
- `task()`: what to train, a `Task`;
- `template()`: the untrained model of a settled recipe, which gives the form of a saved one, without the data;
- `resume(run, **options)`: go on with a run of it to the end;
- `results(model)`: what the trained model does on the part for testing, as plain values: numbers with their standard
  errors, and what pictures are drawn of;
- and one method for each thing that can be done with the trained model: `predict`, `sample`, `forecast`, `log_density`,
  `diagnose`; the head of `deeds` says what they take and return.
"""

import dataclasses
import importlib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from separatrix._errors import explain
from separatrix.training.recipes._fields import built, from_words, nearest, plain_of, require_fields
from separatrix.training.recipes._toml import toml_of
from separatrix.training.run import encode, fingerprint


@dataclasses.dataclass(frozen=True)
class Task:
    """What a recipe makes of its data: what `fit` is given.

    - `objective`, `initial`, `data`: as `fit` takes them. `optimizer`: likewise.
    - `options`: further options of `fit`: `batch_size`, `epochs`, `metrics`, `validation`.
    - `notes`: what must be reported of the data: gaps that were filled, rows that were left out.
    - `drawn`: a `strip.Drawing`, the pictures that are kept on the way; None for none.
    """

    objective: Any
    initial: Any
    data: Any = None
    optimizer: Any = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    drawn: Any = None


class Recipe(Protocol):
    """What a registered dataclass offers; see the head of this page."""

    def settled(self) -> "Recipe": ...
    def task(self) -> Task: ...
    def template(self) -> Any: ...
    def results(self, model: Any) -> dict[str, Any]: ...
    def resume(self, run: Any, **options: Any) -> Any: ...


_RECIPES: dict[str, type] = {}
# Families register theirs when they are imported; these of the library are looked for at home.
_HOMES = {
    "diffusion": "separatrix.diffusion", "forecaster": "separatrix.recurrent", "gan": "separatrix.games",
    "language": "separatrix.recurrent", "law": "separatrix.residual", "series": "separatrix.residual",
    "words": "separatrix.diffusion",
}  # fmt: skip


def register_recipe(name: str) -> Callable[[type], type]:
    r"""Register a frozen dataclass as the recipe of this name.

    **Arguments:**

    - `name`: small letters, digits and underscores.

    **Returns:** a decorator of the class.

    **Raises:** `TypeError` for a class whose fields cannot be written down, naming the field; `ValueError` for a name that
    is taken.

    **Example:**

    >>> import dataclasses
    >>> @register_recipe("example_line")
    ... @dataclasses.dataclass(frozen=True)
    ... class Line:
    ...     slope: float
    ...     points: int = 10
    >>> recipe_from("example_line", {"slope": 2})
    Line(slope=2.0, points=10)
    >>> del _RECIPES["example_line"]
    """

    def register(cls: type) -> type:
        require_fields(cls, cls.__name__)
        if not (name.isidentifier() and name.isascii() and name == name.lower()):
            raise ValueError(
                explain("register_recipe", repr(name), "small letters, digits and underscores", "Rename it.")
            )
        taken = _RECIPES.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            got = f"{name!r}, which {taken.__qualname__} of {taken.__module__} has"
            raise ValueError(explain("register_recipe", got, "a name of its own", "Choose another."))
        _RECIPES[name] = cls
        return cls

    return register


def recipes() -> dict[str, type]:
    """The registered recipes by name, in order; those of the library's families among them."""
    for home in _HOMES.values():
        importlib.import_module(home)
    return dict(sorted(_RECIPES.items()))


def recipe_class(name: str) -> type:
    """The recipe of a name.

    **Raises:** `ValueError` with the nearest name.
    """
    if name not in _RECIPES and name in _HOMES:
        importlib.import_module(_HOMES[name])
    if name not in _RECIPES:
        known = ", ".join(recipes())
        raise ValueError(explain("recipe", repr(name), f"one of {known}", nearest(name, _RECIPES)))
    return _RECIPES[name]


def recipe_name(recipe: Any) -> str:
    """The name that a recipe is registered under.

    **Raises:** `TypeError` where it is not.
    """
    for name, cls in _RECIPES.items():
        if type(recipe) is cls:
            return name
    raise TypeError(
        explain("recipe", type(recipe).__name__, "a registered recipe", "Register it by register_recipe(name).")
    )


def recipe_from(name: str, spec: Any) -> Any:
    """The recipe of a name with these fields.

    **Arguments:**

    - `spec`: plain values by field. What is left out has its default; a whole number may stand for a float.

    **Raises:** `ValueError` or `TypeError` that names the field, and for an unknown one the nearest.
    """
    return built(recipe_class(name), spec, name)


def spec_of(recipe: Any) -> dict[str, Any]:
    """All fields of a recipe as plain values: what `Run.create(spec=...)` keeps."""
    return plain_of(recipe)


def identity(recipe: Any) -> str:
    """SHA-256 of name and fields in canonical JSON: the fingerprint of the runs of this recipe."""
    return fingerprint({"recipe": recipe_name(recipe), "spec": spec_of(recipe)})


def canonical(recipe: Any) -> str:
    """Name and fields in canonical JSON, whose hash is the identity."""
    return encode({"recipe": recipe_name(recipe), "spec": spec_of(recipe)})


def spec_text(recipe: Any) -> str:
    """A recipe as TOML, with what each field means; of its class: the defaults, what must be given as a comment."""
    cls = recipe if isinstance(recipe, type) else type(recipe)
    name = next((name for name, known in _RECIPES.items() if known is cls), None)
    return toml_of(cls, None if isinstance(recipe, type) else recipe, f'recipe = "{name or recipe_name(recipe)}"')


def read_recipe(path: Any, name: str | None = None) -> Any:
    """The recipe that a TOML file says.

    **Arguments:**

    - `path`: a file as `spec_text` writes it.
    - `name`: the recipe that it must be; without one the file says it itself.

    **Raises:** `ValueError` or `TypeError` that names the file and the field or line.
    """
    said, values = read_spec(path, name)
    return built(recipe_class(said), values, str(path))


def read_spec(path: Any, name: str | None = None) -> tuple[str, dict[str, Any]]:
    """The name and the plain fields that a TOML file says, not yet a recipe."""
    values = _read(Path(path))
    said = values.pop("recipe", name)
    if not isinstance(said, str) or (name is not None and said != name):
        do = 'Begin the file with recipe = "..."'
        raise ValueError(
            explain(f"{path}: recipe", repr(said), repr(name) if name else f"one of {', '.join(recipes())}", do)
        )
    recipe_class(said)
    return said, values


def spec_from_words(name: str, words: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Plain fields from texts, as a command line has them: a text where the field is one, else as TOML has it.

    A field of several values is given again for each, or once in square brackets.

    >>> spec_from_words("classifier", [("width", "32"), ("drop", "id"), ("drop", "name"), ("target", "7")])
    {'width': 32, 'drop': ['id', 'name'], 'target': '7'}
    """
    return from_words(recipe_class(name), words, name)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        do = "Check the path."
        raise ValueError(explain(str(path), error.strerror or str(error), "a file to read", do)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(explain(str(path), str(error), "a TOML file", "Repair that place.")) from error

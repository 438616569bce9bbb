"""What can be done with a trained model, and with which options.

    sample(self, model, *, count: int = 16, scale: float = 1.0)    <->    separatrix sample RUN --count 4 --scale 2

The keyword-only arguments of a recipe's method are the options of its command: each is of a type that a field of a recipe
may have, and unknown ones are answered with the nearest. One that Python has a word for ends in an underscore: `class_` is
`--class`. A method returns a text, or a dictionary with some of

- `text`;
- `columns`: lists of equal length by name, a row each;
- `pictures`: an array (n, height, width) or (n, height, width, 3) in [0, 1];
- `numbers`: what was measured, as `results` has it under `test`;
- `notes`: what must be reported.
"""

import dataclasses
import keyword
from collections.abc import Iterable
from typing import Any

from separatrix._errors import explain
from separatrix.training.recipes._fields import built, from_words, options_of, plain_of
from separatrix.training.recipes.recipe import recipe_name

DEEDS = ("predict", "sample", "forecast", "log_density", "diagnose")
_KINDS = ("text", "columns", "pictures", "numbers", "notes")


def deeds_of(recipe: Any) -> tuple[str, ...]:
    """What can be done with a model of a recipe."""
    return tuple(what for what in DEEDS if hasattr(recipe, what))


def deed_options(recipe: Any, what: str) -> dict[str, Any]:
    """The options of a deed by name, with what they are if they are left out.

    >>> import dataclasses
    >>> @dataclasses.dataclass
    ... class Dice:
    ...     def sample(self, model, *, count: int = 2): ...
    >>> deed_options(Dice(), "sample")
    {'count': 2}
    """
    fields = dataclasses.fields(options_of(getattr(recipe, what)))
    left_out = {one.name: None if one.default is dataclasses.MISSING else plain_of(one.default) for one in fields}
    return {name.rstrip("_"): value for name, value in left_out.items()}


def carry_out(
    recipe: Any, what: str, model: Any, own: Iterable[Any] = (), words: Iterable[tuple[str, str]] = ()
) -> Any:
    """Do something with a model.

    **Arguments:**

    - `what`: one of `deeds_of(recipe)`. `own`: what its method takes after the model.
    - `words`: the options, as pairs of name and text.

    **Returns:** a dictionary, as the head of this page has it.

    **Raises:** `ValueError` for a deed that the recipe cannot do, and for an option that it does not have.
    """
    name = recipe_name(recipe)
    if not hasattr(recipe, what):
        can = ", ".join(word.replace("_", "-") for word in deeds_of(recipe)) or "nothing but show and export"
        got = f"a run of {name}, which cannot {what.replace('_', '-')}"
        raise ValueError(explain(what.replace("_", "-"), got, f"a run that can (this one can {can})", "Name another."))
    where, options = f"{what.replace('_', '-')} of a {name}", options_of(getattr(recipe, what))
    named = [(f"{key}_" if keyword.iskeyword(key) else key, text) for key, text in words]
    if named and not dataclasses.fields(options):
        raise ValueError(explain(f"{where}: {named[0][0]}", "an unknown option", "none", "Leave it out."))
    given = built(options, from_words(options, named, where), where)
    found = getattr(recipe, what)(model, *own, **{f.name: getattr(given, f.name) for f in dataclasses.fields(options)})
    if isinstance(found, str):
        return {"text": found}
    strange = sorted(set(found) - set(_KINDS)) if isinstance(found, dict) else [type(found).__name__]
    if strange:
        raise TypeError(explain(where, ", ".join(strange), f"a text, or some of {', '.join(_KINDS)}", "Return these."))
    return found

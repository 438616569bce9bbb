"""From the words of `train` to a recipe: its fields are options, though they are known only when the recipe is."""

import importlib
from pathlib import Path
from typing import Any

from separatrix._errors import did_you_mean, explain, unknown
from separatrix.cli.runs import RECIPES

_OWN = ("data", "target", "epochs", "steps", "watch")


def as_settings(words: list[str], own: set[str]) -> list[str]:
    """The words with every option that is not of the command's own as `--set name=value`.

    >>> as_settings(["classifier", "--data", "x.csv", "--width", "32"], {"data"})
    ['classifier', '--data', 'x.csv', '--set=width=32']
    """
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        name, sign, value = word.removeprefix("--").partition("=")
        plain = name.replace("-", "_")
        if not word.startswith("--") or plain in own or plain.removeprefix("no_") in own or not plain:
            found.append(word)
            # The value of an option of its own is not looked at: it may begin with anything.
            if word.startswith("--") and not sign and rest and not rest[0].startswith("--"):
                found.append(rest.pop(0))
            continue
        if not sign:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        found.append(f"--set={plain}={value}")
    return found


def recipe_of_words(train: Any) -> tuple[str, Any]:
    """Name and recipe that a `train` command says: its spec, then --set, then its own options.

    **Raises:** `ValueError` or `TypeError` that names the field and the nearest one.
    """
    if train.recipe not in RECIPES:
        do = f"Those are: {', '.join(f'{name} ({about})' for name, about in RECIPES.items())}."
        raise ValueError(unknown("train", train.recipe, RECIPES, do))
    recipes = importlib.import_module("separatrix.training.recipes")
    values = {} if train.spec is None else recipes.read_spec(train.spec, train.recipe)[1]
    values |= recipes.spec_from_words(train.recipe, [pair("train", text) for text in train.set])
    own = {name: getattr(train, name) for name in _OWN if getattr(train, name) is not None}
    if train.print_spec and "data" not in (values | own):
        cls = recipes.recipe_class(train.recipe)
        if not values and not own:
            return train.recipe, cls
        own["data"] = "FILE"
    values |= own
    if values.get("steps") is not None and train.epochs is not None:
        raise ValueError(explain("train", "steps and epochs", "one of them", "Leave one out."))
    if "data" not in values:
        do = "Name it: --data FILE"
        raise ValueError(explain("train: --data", "nothing", "the file to learn from", do))
    fields = recipes.recipe_from(train.recipe, {"data": "FILE"})
    for name in values:
        if not hasattr(fields, name.replace("-", "_")):
            known = [*recipes.spec_of(fields), "out", "spec", "set", "print-spec", "json", "debug"]
            do = did_you_mean(name, known) or f"See: separatrix train {train.recipe} --print-spec"
            expected = f"an option of `separatrix train` or a field of the recipe {train.recipe}"
            raise ValueError(explain(f"train: --{name.replace('_', '-')}", "an unknown option", expected, do))
    recipe = recipes.recipe_from(train.recipe, values)
    _require_there(recipe.data)
    return train.recipe, recipe


def pair(command: str, text: str) -> tuple[str, str]:
    """Name and value of a setting, name=value."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ValueError(explain(f"{command}: --set", repr(text), "name=value", "Write it as --set width=32"))
    return name, value


def _require_there(path: Path) -> None:
    data = importlib.import_module("separatrix.data.loading")
    if str(path) == "FILE" or path.exists() or data.named_set(path) is not None:
        return
    if not path.suffix and len(path.parts) == 1:
        do = "Give the path of a file, or a name of `separatrix data list`."
        raise data.DataMissing(unknown("train: --data", str(path), data.names(), do))
    do = "Check the path, or put the file there."
    raise data.DataMissing(explain("train: --data", f"nothing at {path}", "a file or a folder", do))

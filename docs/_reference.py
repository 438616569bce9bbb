"""The reference: a page for each module of public names, written from their docstrings, and one for the catalogue.

Docstrings are Markdown already: what is indented is an equation or code, and an example becomes a block of code.
"""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import separatrix
from separatrix import catalogue

MODULES = tuple(
    f"separatrix.{room}"
    for room in (
        "systems", "calculus", "calculus.methods", "evolution", "diagnostics", "optimization", "games", "recurrent",
        "residual", "diffusion", "training", "data",
    )
)  # fmt: skip


def write_reference(folder: Path) -> None:
    """Write all pages; one that has not changed keeps its time, so that it is not built again."""
    folder.mkdir(exist_ok=True)
    pages = {name.replace(".", "-"): _module_page(name) for name in MODULES}
    listed = "\n".join(pages)
    pages["catalogue"] = _catalogue_page()
    pages["index"] = (
        "# Reference\n\nEvery public name, with the prefix it has after `import separatrix as sx`: nouns, verbs, methods "
        "and questions are flat, all else is in its family or room.\n\n"
        f"```{{toctree}}\n:maxdepth: 2\n\n{listed}\ncatalogue\n```\n"
    )
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _module_page(module: str) -> str:
    home = importlib.import_module(module)
    opening = _body(inspect.getdoc(home) or "")
    room = module.removeprefix("separatrix.")
    flat = set(separatrix.__all__)
    names = public_names(home)
    prefixes = {name: "sx" if name in flat else f"sx.{room}" for name in names}
    entries = "\n\n".join(_entry(name, prefixes[name], getattr(home, name)) for name in sorted(names, key=str.lower))
    return f"# {room}\n\n{opening}\n\n{entries}\n"


def public_names(module: ModuleType) -> list[str]:
    """The classes and functions that a package shows."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "").startswith("separatrix")
    ]


def _entry(name: str, prefix: str, value: Any) -> str:
    text = _body(inspect.getdoc(value) or "")
    methods = [
        f"- `{method}{_signature(function)}`: {(inspect.getdoc(function) or '').splitlines()[0]}"
        for method, function in vars(value).items()
        if inspect.isclass(value) and not method.startswith("_") and inspect.isfunction(function) and function.__doc__
    ] if inspect.isclass(value) else []  # fmt: skip
    listing = "\n\n**Methods:**\n\n" + "\n".join(methods) if methods else ""
    return f"## `{name}`\n\n```python\n{prefix}.{name}{_signature(value)}\n```\n\n{text}{listing}"


def _signature(value: Any) -> str:
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return ""
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters if p.name != "self"]
    shown = re.sub(r"<[^>]*>", "...", str(inspect.Signature(plain)))
    if len(shown) < 72:
        return shown
    return "(\n" + "".join(f"    {part},\n" for part in shown[1:-1].split(", ")) + ")"


def _body(docstring: str) -> str:
    """Markdown of a docstring: examples fenced, and signs that Markdown would read as its own kept as they are."""
    blocks = []
    for block in re.split(r"\n\s*\n", docstring):
        if block.lstrip().startswith(">>>"):
            blocks.append(f"```pycon\n{inspect.cleandoc(block)}\n```")
        elif block.startswith(("    ", "\t")):
            blocks.append(f"```text\n{inspect.cleandoc(block)}\n```")
        else:
            blocks.append(_plain(block))
    return "\n\n".join(blocks)


def _plain(block: str) -> str:
    parts = re.split(r"(`[^`]*`|\*\*[A-Za-z]+:\*\*|\$\$.*?\$\$)", block, flags=re.DOTALL)
    return "".join(
        part if number % 2 else re.sub(r"([*_|<>\[\]$])", r"\\\1", part) for number, part in enumerate(parts)
    )


def _catalogue_page() -> str:
    rows = [
        f"| `{e.name}` | {e.kind} | {_cell(e.summary)} | {_cell(e.equation)} | {_cell(e.truth)} |"
        for e in catalogue.entries()
    ]
    head = "| name | kind | what it is | equation | known truth |\n|---|---|---|---|---|"
    text = "Example systems whose truths are known: `sx.catalogue.entry(name).build()`, or `separatrix list`."
    return f"# Catalogue\n\n{text}\n\n{head}\n" + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"([*_|<>\[\]$])", r"\\\1", text)

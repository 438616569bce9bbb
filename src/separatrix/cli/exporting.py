"""The model of a run for other programs: StableHLO with a free batch size, weights, the recipe, and a card."""

import importlib
from pathlib import Path
from typing import Any

from separatrix import __version__
from separatrix._errors import explain
from separatrix._files import write_whole
from separatrix.cli.carrying import test_rows
from separatrix.cli.command import Answer
from separatrix.cli.doing import model_of

_PLATFORMS = ("cpu", "cuda", "tpu")


def export(folder: Path, out: Path) -> Answer:
    """Write model.stablehlo, model.safetensors, recipe.toml and card.md."""
    import jax

    run, recipe, model = model_of(folder)
    if not hasattr(recipe, "program"):
        do = "Load it in Python: sx.load_model(path, template)."
        raise ValueError(explain(f"export {folder}", f"a run of {run.recipe}", "a recipe with a program", do))
    recipes, storage = (importlib.import_module(f"separatrix.training.{name}") for name in ("recipes", "run"))
    function, shape, dtype = recipe.program(model)
    (batch,) = jax.export.symbolic_shape("batch")
    program = jax.export.export(jax.jit(function), platforms=_PLATFORMS)(
        jax.ShapeDtypeStruct((batch, *shape), jax.numpy.dtype(dtype))
    )
    out.mkdir(parents=True, exist_ok=True)
    _write_bytes(out / "model.stablehlo", bytes(program.serialize()))
    storage.save(out / "model.safetensors", model)
    write_whole(out / "recipe.toml", recipes.spec_text(recipe))
    write_whole(out / "card.md", _card(run, recipe, program, shape, dtype))
    names = ["model.stablehlo", "model.safetensors", "recipe.toml", "card.md"]
    data = {"folder": str(out), "files": names, "input": {"shape": ["batch", *shape], "dtype": dtype}}
    inside = ", ".join(map(str, ("batch", *shape)))
    return Answer(data, f"{out}: {', '.join(names)}\ninput: {dtype} ({inside})")


def _write_bytes(path: Path, content: bytes) -> None:
    disk = importlib.import_module("separatrix.training.run")
    disk.DISK.write_whole(path, content) if hasattr(disk.DISK, "write_whole") else path.write_bytes(content)


def _card(run: Any, recipe: Any, program: Any, shape: tuple[int, ...], dtype: str) -> str:
    recipes = importlib.import_module("separatrix.training.recipes")
    results = recipes.results_of(run) or {"test": {}, "notes": []}
    rows = "\n".join(f"| {name} | {value} | {about} |" for name, value, about in test_rows(results))
    about = (type(recipe).__doc__ or "").strip().partition("\n")[0]
    outputs = ", ".join(str(out) for out in program.out_avals)
    return f"""# {run.recipe}

{about}

- Trained by Separatrix {__version__} to step {run.checkpoints[-1]} on data of SHA-256 `{recipe.digest}`.
- Input: {dtype}, ({", ".join(map(str, ("batch", *shape)))}). Output: {outputs}.
- How a file becomes an input (columns, means, scales, classes): `recipe.toml`.

| on the part for testing | | |
|---|---|---|
{rows}

To run it where JAX is:

```python
import jax, pathlib

program = jax.export.deserialize(bytearray(pathlib.Path("model.stablehlo").read_bytes()))
outputs = program.call(inputs)
```

`model.safetensors` holds the weights by name. What it was tested on is one part of one file: on other data it may err more.
"""

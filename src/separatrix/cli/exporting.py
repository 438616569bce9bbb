"""The model of a run for other programs: StableHLO with a free batch size, weights, the recipe, and a card.

`model.stablehlo` is the portable bytecode of StableHLO, which compilers read. `model.jax` is the same for `jax.export`,
with versions for CPU, CUDA and TPU; JAX writes it where the package flatbuffers is installed.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from separatrix import __version__
from separatrix._errors import explain
from separatrix._files import write_whole
from separatrix.cli.carrying import test_rows
from separatrix.cli.command import Answer
from separatrix.cli.doing import model_of

_PLATFORMS = ("cpu", "cuda", "tpu")
_NO_JAX = 'no model.jax, for jax.export.deserialize: pip install "separatrix[export]"'


def export(folder: Path, out: Path) -> Answer:
    """Write the model of a run, and say what was written."""
    run, recipe, model = model_of(folder)
    if not hasattr(recipe, "program"):
        do = "Load it in Python: sx.load_model(path, template)."
        raise ValueError(explain(f"export {folder}", f"a run of {run.recipe}", "a recipe with a program", do))
    recipes, storage = (importlib.import_module(f"separatrix.training.{name}") for name in ("recipes", "run"))
    function, shape, dtype = recipe.program(model)
    program = exported(function, shape, dtype, ("cpu",))
    out.mkdir(parents=True, exist_ok=True)
    files = {"model.stablehlo": bytes(program.mlir_module_serialized)}
    if importlib.util.find_spec("flatbuffers") is not None:
        files["model.jax"] = bytes(exported(function, shape, dtype, _PLATFORMS).serialize())
    for name, content in files.items():
        write_whole(out / name, content)
    storage.save(out / "model.safetensors", model)
    write_whole(out / "recipe.toml", recipes.spec_text(recipe))
    write_whole(out / "card.md", _card(run, recipe, program, shape, dtype))
    notes = [] if "model.jax" in files else [_NO_JAX]
    names = [*files, "model.safetensors", "recipe.toml", "card.md"]
    data = {"folder": str(out), "files": names, "input": {"shape": ["batch", *shape], "dtype": dtype}, "notes": notes}
    lines = [f"{out}: {', '.join(names)}", f"input: {dtype} ({', '.join(map(str, ('batch', *shape)))})"]
    return Answer(data, "\n".join([*lines, *(f"note: {note}" for note in notes)]))


def exported(function: Any, shape: tuple[int, ...], dtype: str, platforms: tuple[str, ...]) -> Any:
    """A function of a batch of inputs as `jax.export` has it, for any batch size."""
    import jax

    (batch,) = jax.export.symbolic_shape("batch")
    asked = jax.ShapeDtypeStruct((batch, *shape), jax.numpy.dtype(dtype))
    return jax.export.export(jax.jit(function), platforms=platforms)(asked)


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

`model.stablehlo` is portable StableHLO bytecode. Where JAX is, `model.jax` runs:

```python
import jax, pathlib

program = jax.export.deserialize(bytearray(pathlib.Path("model.jax").read_bytes()))
outputs = program.call(inputs)
```

`model.safetensors` holds the weights by name. What it was tested on is one part of one file: on other data it may err more.
"""

"""The documentation: each page's code runs, pages are linked and written without a warning."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md") if "```{code-cell}" in path.read_text(encoding="utf-8"))

# Pages of more than ten seconds; `make docs` executes them all.
LONG = {
    "commands",
    "curvature",
    "distances",
    "games",
    "gradients",
    "lyapunov",
    "optimizers",
    "phenomena",
    "stochastic",
    "training",
}
CASES = [pytest.param(path, marks=[pytest.mark.slow] if path.stem in LONG else []) for path in PAGES]


@pytest.mark.parametrize("page", CASES, ids=[path.stem for path in PAGES])
def test_the_code_of_a_page_runs(page):
    names = {}
    for options, code in re.findall(
        r"```\{code-cell\}\n((?::[^\n]*\n)*)(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    ):
        # Pages are written for JAX as it comes, with implicit promotion of dtypes.
        with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            warnings.simplefilter("error")
            if "raises-exception" in options:
                with pytest.raises((TypeError, ValueError)):
                    exec(compile(code, page.name, "exec"), names)
            else:
                exec(compile(code, page.name, "exec"), names)


def test_the_site_builds_without_a_warning(tmp_path):
    # Pages are not executed here, so their cells have no language yet.
    settings = ["-D", "nb_execution_mode=off", "-D", "suppress_warnings=myst-nb.lexer"]
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", *settings, "-b", "html"]
    built = subprocess.run([*command, str(DOCS), str(tmp_path)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    assert (tmp_path / "reference" / "catalogue.html").exists()

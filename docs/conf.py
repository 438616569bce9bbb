"""How the documentation is built: pages in Markdown, their code executed, a failing cell fails the build."""

import sys
from pathlib import Path

import separatrix

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from _reference import write_reference

project = "Separatrix"
author = "The Separatrix developers"
release = separatrix.__version__
extensions = ["myst_nb"]
html_theme = "furo"
html_title = "Separatrix"
exclude_patterns = ["_build", "jupyter_execute"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600

write_reference(HERE / "reference")

"""How the documentation is built: pages in Markdown, their code executed, a failing cell fails the build."""

import separatrix

project = "Separatrix"
author = "The Separatrix developers"
release = separatrix.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300

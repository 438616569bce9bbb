"""What every reader asks first: is there a file, and may it be read?"""

import os
from os import PathLike
from pathlib import Path

from separatrix._errors import DataMissing, explain


def require_file(what: str, path: str | PathLike[str]) -> Path:
    """The path of a file that is there and can be read.

    **Raises:** `DataMissing` where there is none; `ValueError` for a folder, an empty file, or one not to be read.
    """
    file = Path(path)
    if not file.exists():
        raise DataMissing(
            explain(what, f"no file at {file}", "an existing file", "Check the path, or put the file there.")
        )
    if not file.is_file():
        raise ValueError(explain(what, f"{file}, which is a folder", "a file", "Name a file in it."))
    if not os.access(file, os.R_OK):
        raise ValueError(explain(what, f"{file}, which may not be read", "a readable file", f"Try: chmod u+r {file}"))
    if file.stat().st_size == 0:
        raise ValueError(explain(what, f"{file} of 0 bytes", "a file with data", "Fetch or write the file again."))
    return file

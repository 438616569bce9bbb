"""The King James Version of 1611, whole and its first book, as text for language models.

Inputs are the characters as uint8 codes of ASCII, shape (N,): one verse a line, without chapter and verse numbers. There
are no targets: a model of text predicts what comes next. `bytes(inputs).decode()` is the text.

**Reference:** *The Holy Bible, conteyning the Old Testament, and the New*, London, 1611; 31,102 verses, of which Genesis
has 1,533.
"""

import re
import subprocess
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from separatrix._errors import DataMissing, explain
from separatrix.data.dataset import Fields
from separatrix.data.files import read_bytes, require_file
from separatrix.data.sets.named import Arrays, NamedSet, Place, folder_of

_PROGRAM = "/usr/bin/bible"
_DATA = "/usr/lib"
_INSTALL = "apt-get install bible-kjv"
_BUNDLED = str(Path(__file__).parents[1] / "bundled" / "genesis.txt.gz")
_SOURCE = "The Holy Bible, King James Version, 1611; Debian package bible-kjv-text"
_LICENCE = "public domain (in the United Kingdom printing is reserved to the Crown's patentees)"


def _print_all(program: str) -> Arrays:
    """Every verse as Debian's program prints it, without its number."""
    # The program looks for its data in the current folder first, unless it is told where.
    command = [program, "-p", _DATA, "-f", "ge1:1-rev22:21"]
    printed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if printed.returncode or not printed.stdout:
        got = f"exit status {printed.returncode} and {len(printed.stdout)} bytes"
        raise DataMissing(explain(" ".join(command), got, "the text", f"Install it afresh: {_INSTALL}."))
    return {"text": _codes(re.sub(rb"(?m)^\S+ ", b"", printed.stdout))}


def _read(path: str) -> Arrays:
    """A plain text file, gzipped or not."""
    return {"text": _codes(read_bytes(require_file("king-james", path)))}


def _codes(text: bytes) -> Shaped[np.ndarray, " characters"]:
    return np.frombuffer(text, np.uint8)


def _prepare(raw: Arrays) -> Fields:
    return {"inputs": raw["text"], "targets": None, "test_inputs": None, "test_targets": None}


KING_JAMES = NamedSet(
    name="king-james",
    summary="the King James Bible as 4.1 million characters, one verse a line",
    source=_SOURCE,
    licence=_LICENCE,
    sha256="94066aedab17083852a15289e67ffbb4b585b8a502df9d359c894db47a598e35",
    file="king-james.txt",
    install=_INSTALL,
    places=(Place("Debian", folder_of(_PROGRAM), _print_all),),
    read=_read,
    prepare=_prepare,
)

GENESIS = NamedSet(
    name="genesis",
    summary="the book of Genesis in the King James Version, 197 thousand characters, one verse a line",
    source=_SOURCE,
    licence=_LICENCE,
    sha256="d5d1bbd020a107ff5d23c1fdb1fe45b939c57c4820f7635f88412c46c100d552",
    file="genesis.txt",
    install="pip install --force-reinstall separatrix",
    places=(Place("bundled", folder_of(_BUNDLED), _read),),
    read=_read,
    prepare=_prepare,
)

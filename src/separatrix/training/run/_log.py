r"""Lines of JSON that are appended: what a killed process had appended is there, but for a last line that it tore.

A record is a line with its end. What follows the last end of a line is torn: readers leave it out, and the next to append
cuts it off first, so that it never runs into another record. A line `{"resumed": n}` says that the run went on from step n:
what had been written of later steps is of a future that was abandoned, and is left out.
"""

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from separatrix.training.run._container import read_file, read_words
from separatrix.training.run._disk import DISK, Files, sync_folder, told, write_all

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_PIECE = 1 << 16


class Log:
    """A file of records that is appended to. One process alone may do so."""

    def __init__(self, path: Path, files: Files = DISK) -> None:
        self.path, self._files, self._torn = path, files, False
        with told(path):
            self._handle = files.open(path, _APPEND, 0o666)
            _cut_torn_end(self._handle)
            sync_folder(path.parent, files)

    def append(self, record: dict[str, Any]) -> None:
        """Hand a record to the system: it outlives this process.

        **Raises:** `CannotWrite`; the file is then as it was before.
        """
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        with told(self.path):
            try:
                if self._torn:
                    _cut_torn_end(self._handle)
                self._torn = True
                write_all(self._handle, line, self._files)
                self._torn = False
            except OSError:
                with contextlib.suppress(OSError):
                    _cut_torn_end(self._handle)
                raise

    def sync(self) -> None:
        """Put on the disk what was appended: it outlives a power cut."""
        with told(self.path):
            self._files.sync(self._handle)

    def close(self) -> None:
        """Done appending."""
        os.close(self._handle)


def read_log(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Records of a file, and the numbers of lines that are none (from 1); empty where there is no file.

    A torn last line is not counted: it is what being killed leaves. Neither are lines of NUL at the end, which is what a
    power cut leaves of lines that had not reached the disk.
    """
    if not path.exists():
        return [], []
    with read_words(path):
        whole = read_file(path).rpartition(b"\n")[0]
    records, damaged = [], []
    for number, line in enumerate(whole.rstrip(b"\0\n").split(b"\n") if whole.strip(b"\0\n") else [], start=1):
        record = _record(line)
        if record is None:
            damaged.append(number)
        else:
            records.append(record)
    return records, damaged


def continued(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records without those of abandoned futures, nor the lines that say so. A record without a step always stays."""
    kept: list[dict[str, Any]] = []
    for record in records:
        if type(at := record.get("resumed")) is int:
            kept = [before for before in kept if not (type(before.get("step")) is int and before["step"] > at)]
        else:
            kept.append(record)
    return kept


def plain_number(value: Any) -> Any:
    """Numbers, arrays and trees of them as JSON has them; what is not finite as a text."""
    if isinstance(value, dict):
        return {str(key): plain_number(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_number(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if not isinstance(value, float):
        return plain_number(_array(value).tolist())
    return value if math.isfinite(value) else str(value)


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"a record holds numbers and texts, not {type(value).__name__} of dtype {array.dtype}")
    return array if array.dtype.kind in "biuf" else array.astype(np.float64)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _cut_torn_end(handle: int) -> None:
    """Cut off what follows the last end of a line."""
    end = size = os.fstat(handle).st_size
    while end:
        start = max(0, end - _PIECE)
        piece = os.pread(handle, end - start, start)
        if (found := piece.rfind(b"\n")) >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)

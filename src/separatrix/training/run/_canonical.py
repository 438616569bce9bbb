r"""Canonical JSON: one text for one value, so that a hash of the text is the identity of the value.

Keys sorted, no spaces, ASCII, no NaN; `1`, `1.0` and `true` stay apart. Reading takes plain values alone, and nothing
that is read is ever executed or looked up as a name of code.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from separatrix._errors import explain


def encode(value: Any) -> str:
    """The canonical text of a plain value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def decode(text: str | bytes) -> Any:
    """The value of a canonical text.

    **Raises:** `ValueError` for any other text, also for JSON that is written otherwise.
    """
    value = json.loads(text)
    if encode(value) != (text if isinstance(text, str) else text.decode("ascii")):
        raise ValueError("the text is not in canonical form")
    return value


def digest(data: Any) -> str:
    """SHA-256 of bytes or of a text, in hexadecimal."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def plain(value: Any, where: str) -> Any:
    """A value as JSON has it: tuples become lists, keys are texts, numbers are finite.

    **Raises:** `TypeError` or `ValueError` that names the place.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(explain(where, value, "a finite number", "Leave it out, or write it as a text."))
        return value
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise TypeError(explain(where, f"the key {key!r}", "keys that are texts", "Write the key as a text."))
        return {key: plain(inner, f"{where}[{key!r}]") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, f"{where}[{index}]") for index, inner in enumerate(value)]
    expected = "None, bool, int, float, str, or lists and dictionaries of these"
    raise TypeError(explain(where, type(value).__name__, expected, "Give plain values: they are kept as text."))


def fingerprint(spec: Any) -> str:
    r"""The identity of a configuration: SHA-256 of its canonical JSON.

    **Arguments:**

    - `spec`: plain values: None, bool, int, float, str, and lists and dictionaries of these.

    **Returns:** 64 hexadecimal digits.

    **Raises:** `TypeError` or `ValueError` for what is not plain, naming the place.

    **Example:** the order of keys does not count; the kind of a number does.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    >>> fingerprint({"a": 1}) == fingerprint({"a": 1.0})
    False
    """
    return digest(encode(plain(spec, "spec")))

"""Files that were changed behind our back: by accident, and on purpose.

A changed file is refused in our words, or gives what was written; it runs nothing, and writes nothing.
"""

import hashlib
import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Mutation = Callable[[bytes, bytes, np.random.Generator], bytes]

_SUSPICIOUS = ("exec", "compile", "marshal.", "pickle.", "os.", "subprocess.", "socket.", "ctypes.", "shutil.")
_HARMLESS = ("os.listdir", "os.scandir", "os.putenv")


class Watch:
    """What the interpreter is told to do while the block runs: code, commands, and files opened for writing."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._on = False
        sys.addaudithook(self._hear)

    def __enter__(self) -> None:
        self._on = True

    def __exit__(self, *_: Any) -> None:
        self._on = False

    def _hear(self, event: str, arguments: Any) -> None:
        if not self._on:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or (event.startswith(_SUSPICIOUS) and event not in _HARMLESS):
            self.seen.append(event)


def flip(data: bytes, _: bytes, random: np.random.Generator) -> bytes:
    """One to eight bits the other way."""
    changed = bytearray(data)
    for place in random.integers(0, 8 * len(data), random.integers(1, 9)):
        changed[place // 8] ^= 1 << (place % 8)
    return bytes(changed)


def cut(data: bytes, _: bytes, random: np.random.Generator) -> bytes:
    """The end is gone."""
    return data[: random.integers(0, len(data))]


def blank(data: bytes, _: bytes, random: np.random.Generator) -> bytes:
    """A block of zeros, as of a disk that forgot."""
    start, length = random.integers(0, len(data)), random.integers(1, 513)
    return data[:start] + b"\0" * min(length, len(data) - start) + data[start + length :]


def splice(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """The head of one file on the tail of another."""
    at = random.integers(1, min(len(data), len(other)))
    return data[:at] + other[at:]


def insert(data: bytes, _: bytes, random: np.random.Generator) -> bytes:
    """Bytes that were not there."""
    at = random.integers(0, len(data))
    return data[:at] + random.bytes(random.integers(1, 64)) + data[at:]


def swap(_: bytes, other: bytes, __: np.random.Generator) -> bytes:
    """Another file under this name."""
    return other


def shuffle(data: bytes, _: bytes, random: np.random.Generator) -> bytes:
    """Two blocks in each other's place."""
    size = len(data) // 8
    first, second = sorted(random.choice(8, 2, replace=False))
    blocks = [data[size * k : size * (k + 1)] for k in range(8)] + [data[8 * size :]]
    blocks[first], blocks[second] = blocks[second], blocks[first]
    return b"".join(blocks)


ACCIDENTS: list[Mutation] = [flip, cut, blank, splice, insert, swap, shuffle]


def forged(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file with a changed manifest, its digest and header made to fit: what somebody would do on purpose."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    manifest = json.loads(header["__metadata__"]["manifest"])
    manifest = change(manifest) or manifest
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    header["__metadata__"] = {"manifest": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)
    return len(words).to_bytes(8, "little") + words + data[8 + length :]


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def forgeries(data: bytes, sign: Path) -> list[bytes]:
    """Files made on purpose. `sign` is a folder that appears where one of them gets its way."""

    def entry(**fields: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda manifest: manifest["tree"]["entries"][0].update(fields)

    def tensor(**fields: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda manifest: manifest["tensors"][0].update(fields)

    code = f"__import__('os').mkdir({str(sign)!r})"
    deep: Any = 0
    for _ in range(900):
        deep = [deep]
    changes = [
        entry(kind="code", of=code), entry(kind="value", of="object", text=code), entry(kind="value", of="int", text=code),
        entry(kind="value", of="int", text="9" * 100_000), entry(kind="value", of="float", text="0x1p999999999"),
        entry(kind="value", of="complex", text="1"), entry(kind="value", of="bool", text="Yes"),
        entry(kind="empty", of="__class__"), entry(kind="key", of="os"), entry(kind=["array"]), entry(path="model"),
        entry(path=[0.5]), entry(path=[True]), entry(path=deep), entry(path=[[[0]]]), entry(path=[10**30]), entry(path=[]),
        entry(shape=[-1]), entry(shape=[2**62]), entry(shape="no"), entry(of="object"), entry(of="O"), entry(tensor="no"),
        entry(tensor=["a"]), entry(weak="yes"), entry(weak=1), entry(more=1), entry(__class__=code), entry(text=code),
        tensor(shape=[2**62, 2**62]), tensor(shape=[10**12]), tensor(shape=[2**62, 0]), tensor(shape=[0] * 100),
        tensor(shape=[-1]), tensor(shape=[1.0]), tensor(shape=[True]), tensor(shape=None), tensor(shape=deep),
        tensor(dtype="object"), tensor(dtype="O"), tensor(dtype=code), tensor(dtype=["float32"]), tensor(sha256=None),
        tensor(name="__metadata__"), tensor(name="../../etc"), tensor(name=None),
        lambda m: m.update(format=2), lambda m: m.update(format="1"), lambda m: m.update(tensors={}),
        lambda m: m.update(tree=None), lambda m: m.update(tree={"entries": [], "static": []}), lambda m: m.update(key=code),
        lambda m: m.update(step="1"), lambda m: m.update(step=-1), lambda m: m.update(versions=code),
        lambda m: m.update(fingerprint=None), lambda m: m.update(fingerprint=7), lambda m: m.pop("run"),
        lambda m: m["tree"].update(static=[[["model", "x"], deep]]), lambda m: m["tree"].update(static=[1]),
        lambda m: m["tree"]["entries"].append(m["tree"]["entries"][0]), lambda m: m["tree"]["entries"].append(None),
        lambda m: m["tree"]["entries"].append(dict(m["tree"]["entries"][0], path=[*m["tree"]["entries"][0]["path"], 0])),
        lambda m: [m], lambda m: code,
    ]  # fmt: skip
    nested = b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    raw = [
        pickle.dumps(Bomb(sign)), b"", b"\0" * 8, b"\xff" * 64, (2**63).to_bytes(8, "little") + data[8:], code.encode(),
        len(nested).to_bytes(8, "little") + nested, (8).to_bytes(8, "little") + b"{}      ",
        (24).to_bytes(8, "little") + b'{"__metadata__":null}   ', (8).to_bytes(8, "little") + b'"\\ud800"',
        (16).to_bytes(8, "little") + b"1" * 16, (16).to_bytes(8, "little") + b"\xfe\xff" * 8,
    ]  # fmt: skip
    return raw + [forged(data, change) for change in changes]

"""A text file as codes of its characters.

The file is UTF-8, plain or gzipped; a byte that is not is named by its line. Line ends of any kind become one (`\\n`), and
a mark of byte order is dropped. The vocabulary is the sorted set of characters, so it does not depend on their order.

**Reference:** The Unicode Standard, section 3.9 (UTF-8) and section 5.8 (newlines).
"""

import dataclasses
from os import PathLike

import numpy as np
from jaxtyping import Int

from separatrix.data.files import read_bytes, refusal, require_file, sound


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
    """A text as codes, and what they mean.

    - `codes`: int32, shape (characters,). `vocabulary`: code i means the character `vocabulary[i]`.
    """

    codes: Int[np.ndarray, " characters"]
    vocabulary: tuple[str, ...]

    def decode(self, codes: Int[np.ndarray, " some"] | None = None) -> str:
        """The characters of some codes; of the whole text by default."""
        return "".join(self.vocabulary[code] for code in (self.codes if codes is None else codes))


def read_text(
    path: str | PathLike[str], *, vocabulary: tuple[str, ...] | None = None, max_bytes: int | None = None
) -> Text:
    """Read a text file as codes of its characters.

    **Arguments:**

    - `path`: the file; gzip is known by its first two bytes.
    - `vocabulary`: of a text read before; a character that is not in it is refused.
    - `max_bytes`: the most bytes that a gzipped file may unpack to; by default 256 MiB, or 128 times the file where
      that is more.

    **Returns:** a `Text`.

    **Raises:** `DataMissing` if there is no such file; `DataError` (a `ValueError`), naming the line, for a NUL, what is
    not UTF-8, and a character that is not in the vocabulary.

    **Example:**

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.txt")
    ...     _ = path.write_text("abba")
    ...     text = read_text(path)
    >>> text.codes.tolist(), text.vocabulary, text.decode()
    ([0, 1, 1, 0], ('a', 'b'), 'abba')

    **Reference:** see the module.
    """
    file = require_file("read_text", path)
    with sound(f"{file}", "Is it text in UTF-8? Fetch or write it again."):
        raw = read_bytes(file, max_bytes)
        try:
            text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            where = f"{file}: line {raw.count(10, 0, error.start) + 1}, byte {error.start + 1}"
            got = f"byte {raw[error.start]:#04x}, which is not UTF-8"
            raise refusal(where, got, "UTF-8", "Save the file as UTF-8.") from error
        if not text:
            raise refusal(f"{file}", "no characters", "a text", "Check the file.")
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        there = tuple(map(chr, np.unique(points)))
        known = there if vocabulary is None else vocabulary
        codes = {character: code for code, character in enumerate(known)}
        strange = next((character for character in there if character == "\0" or character not in codes), None)
        if strange is not None:
            at = text.index(strange)
            expected = "text" if strange == "\0" else "a character of the vocabulary that was given"
            do = "Repair the file, or read all files with the vocabulary of them all."
            raise refusal(f"{file}: line {text.count(chr(10), 0, at) + 1}", repr(strange), expected, do)
        order = np.searchsorted(np.unique(points), points)
        return Text(np.array([codes[character] for character in there], np.int32)[order], known)

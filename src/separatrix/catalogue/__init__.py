"""The catalogue: example systems with known truths, for tests, command line and docs alike."""

from separatrix._errors import unknown
from separatrix.catalogue import diffusion, flows, games, learning, maps, recurrent, residual, sdes
from separatrix.catalogue.listing import Entry as Entry

_PARTS = (maps, flows, sdes, learning, games, recurrent, residual, diffusion)
_ENTRIES: dict[str, Entry] = {entry.name: entry for part in _PARTS for entry in part.ENTRIES}


def entries() -> list[Entry]:
    """Return all entries, maps first, in the order of their files.

    **Example:**

    >>> import separatrix as sx
    >>> "lorenz" in [entry.name for entry in sx.catalogue.entries()]
    True
    """
    return list(_ENTRIES.values())


def entry(name: str) -> Entry:
    """Return one entry by name.

    **Raises:** `ValueError` for a name that is not in the catalogue.
    """
    if name not in _ENTRIES:
        raise ValueError(unknown("catalogue", name, _ENTRIES, "See `separatrix list`.", of="one of:"))
    return _ENTRIES[name]

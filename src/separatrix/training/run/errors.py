"""What goes wrong with files of a run, each kind under its own name."""

from separatrix._errors import SeparatrixError


class StorageError(SeparatrixError):
    """Something on disk could not be read, written or taken; the message says what to do."""

    exit_code: int = 2


class CannotWrite(StorageError):
    """The disk refused: full, read-only, or broken. What was there before is whole."""


class DamagedFile(StorageError):
    """A file is not what was written: truncated, changed, or not ours."""


class OtherModel(StorageError):
    """A file is whole, and belongs to another model, configuration or run."""


class OtherRun(OtherModel):
    """A file is whole, and says that another run or configuration made it."""


class RunLocked(StorageError):
    """Another process writes in this run's folder."""

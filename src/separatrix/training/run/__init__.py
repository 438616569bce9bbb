"""Runs on disk: checkpoints that are whole or not there, measurements that survive, one writer a folder."""

from separatrix.training.run._canonical import encode as encode, fingerprint as fingerprint
from separatrix.training.run._disk import DISK as DISK, Files as Files, make_folder as make_folder
from separatrix.training.run._lock import Lock as Lock
from separatrix.training.run.checkpoint import Saved as Saved, load_tree as load_tree, save_tree as save_tree
from separatrix.training.run.errors import (
    CannotWrite as CannotWrite,
    DamagedFile as DamagedFile,
    OtherModel as OtherModel,
    OtherRun as OtherRun,
    RunLocked as RunLocked,
    StorageError as StorageError,
)
from separatrix.training.run.model import load_model as load_model, save as save
from separatrix.training.run.run import Run as Run
from separatrix.training.run.stopping import Stop as Stop, stop_asked as stop_asked

"""The folder in which the embedded back ends keep their files, held by one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sickbay.errors import SettingsError

_PID_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder that is ours until its context is left."""

    path: Path

    @property
    def queue_db(self) -> Path:
        """The file of the broker."""
        return self.path / "queue.db"

    @property
    def ledger_db(self) -> Path:
        """The file of the ledger."""
        return self.path / "ledger.db"


@contextmanager
def open_data_folder(path: str | Path) -> Iterator[DataFolder]:
    """Create the folder where it is missing, and hold it; SettingsError says in one sentence why that cannot be.

    The lock belongs to the open file, so the system releases it however the process ends, kill -9 included.
    The lock file itself stays: removing it would let two processes hold two files of one name.
    """
    folder = Path(path).absolute()
    descriptor = _open_lock_file(folder)
    try:
        _lock(descriptor, folder)
        yield DataFolder(folder)
    finally:
        os.close(descriptor)


def _open_lock_file(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except (FileExistsError, NotADirectoryError) as error:
        raise SettingsError(f"the data folder {folder} cannot be made: a file is in its place") from error
    except PermissionError as error:
        raise SettingsError(f"the data folder {folder} may not be written by this user: change its rights or choose another") from error
    except OSError as error:
        raise SettingsError(f"the data folder {folder} cannot be made: check the path and its disk") from error


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, _PID_BYTES, 0).decode("ascii", "replace") or "unknown"
        raise SettingsError(f"the data folder {folder} is in use by process {holder}: stop it, or choose another folder") from error
    except OSError as error:
        raise SettingsError(f"the data folder {folder} cannot be locked: choose a local folder on a disk with free space") from error

"""The folder with the files of the embedded back ends, locked by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sickbay.adapters.files import FILE_MODE, FOLDER_MODE, tighten, trouble
from sickbay.domain.errors import SettingsError
from sickbay.system.forks import forget_descriptor, keep_descriptor

LEAST_BYTES: Final = 256 * 1024
"""With less free space than this the next few transactions would fail."""
_PID_BYTES: Final = 32
_LOCK: Final = "lock"
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
_OURS: Final = frozenset(
    {
        _LOCK,
        "handlers",
        "token",
        "keys.json",
        ".keys.json.lock",
        *(f"{name}.db{suffix}" for name in ("queue", "ledger", "breakers") for suffix in _SUFFIXES),
    }
)
"""All names that Sickbay uses in the folder."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder that is locked until its context is left."""

    path: Path

    @property
    def queue_db(self) -> Path:
        """The file of the broker."""
        return self.path / "queue.db"

    @property
    def ledger_db(self) -> Path:
        """The file of the ledger."""
        return self.path / "ledger.db"

    @property
    def breakers_db(self) -> Path:
        """The file of the breakers."""
        return self.path / "breakers.db"

    @property
    def trouble(self) -> str:
        """Why nothing can be written to the folder's disk, "" if it can; asks the system and not the disk, so it costs next to nothing.

        It does not see quotas and limits of the process: only a write does.
        """
        try:
            disk = os.statvfs(self.path)
        except OSError:
            return "the data folder is unavailable"
        if disk.f_flag & os.ST_RDONLY:
            return "read-only file system under the data folder"
        is_full = disk.f_blocks > 0 and disk.f_bavail * disk.f_frsize < LEAST_BYTES
        return "disk full: no space left for the data folder" if is_full else ""


@contextmanager
def open_data_folder(path: str | Path) -> Iterator[DataFolder]:
    """Create the folder if missing, private to this user, and lock it; SettingsError says why that is not possible.

    The lock belongs to the open file, so the system releases it however the process ends, kill -9 included. Forks of the process inherit
    the file and close it (`sickbay/system/forks.py`); a fork made outside Python does not, and then the error names that fork. The lock
    file is never removed: otherwise two processes could lock two files of the same name.
    """
    folder, descriptor = _open_lock_file(path)
    keep_descriptor(descriptor)
    try:
        _lock(descriptor, folder)
        _make_private(folder)
        yield DataFolder(folder)
    finally:
        forget_descriptor(descriptor)
        os.close(descriptor)


def _open_lock_file(path: str | Path) -> tuple[Path, int]:
    if not str(path).strip():
        raise SettingsError("the name of the data folder is empty: name one, for example .sickbay")
    try:
        folder = Path(path).absolute()
    except FileNotFoundError as error:
        raise SettingsError(
            f"the data folder {str(path)!r} cannot be found: the current folder was deleted; use an absolute path"
        ) from error
    try:
        if not folder.is_dir():
            folder.mkdir(FOLDER_MODE, parents=True)
            tighten(folder, FOLDER_MODE)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise SettingsError(f"the data folder {folder} cannot be used: {trouble(error, folder)}") from error
    except ValueError as error:
        raise SettingsError(f"the data folder {str(path)!r} cannot be used: invalid path") from error
    tighten(descriptor, FILE_MODE)
    return folder, descriptor


def _make_private(folder: Path) -> None:
    """Make private, and log, what older versions left accessible to others; a folder with other files stays as it is."""
    for name in _OURS:
        with contextlib.suppress(FileNotFoundError):
            tighten(folder / name, FILE_MODE)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode == FOLDER_MODE:
        return
    is_open, other_files = bool(mode & 0o077), sorted(set(os.listdir(folder)) - _OURS)  # noqa: PTH208 - names are wanted
    if not other_files and not mode & stat.S_ISVTX and tighten(folder, FOLDER_MODE):
        if is_open:
            log.info("the data folder %s was accessible to other users (mode %04o); it is private now (%04o)", folder, mode, FOLDER_MODE)
    elif is_open:
        why = f"it contains other files, too ({other_files[0]})" if other_files else "it is shared, or belongs to another user"
        log.warning(
            "the data folder %s remains accessible to other users (mode %04o), because %s; Sickbay's own files in it are private",
            folder,
            mode,
            why,
        )


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except BlockingIOError as error:
        raise SettingsError(
            f"the data folder {folder} is in use by process {_holder(descriptor)}: stop it, or choose another folder"
        ) from error
    except OSError as error:
        raise SettingsError(f"the data folder {folder} cannot be locked: choose a local folder on a disk with free space") from error


def _holder(descriptor: int) -> str:
    """The process that locked the folder; or, if it has ended, one that still has its lock file open."""
    taken_by = os.pread(descriptor, _PID_BYTES, 0).decode("ascii", "replace")
    holders = _processes_with_open(os.fstat(descriptor))
    if taken_by in holders or not holders:
        return taken_by or "unknown"
    return f"{min(holders, key=int)}, a fork that process {taken_by} left behind"


def _processes_with_open(wanted: os.stat_result) -> set[str]:
    """The other processes that have a file open, as far as this user may see them."""
    found = set()
    for opened in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            seen = opened.stat()
            if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.add(opened.parts[2])
    return found - {str(os.getpid())}

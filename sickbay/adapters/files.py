"""Files and folders that are for this user alone, and in words why one cannot be used."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sickbay.domain.errors import SettingsError

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_OTHERS: Final = 0o077
_LEAST_BYTES: Final = 64 * 1024
"""With less room than this a disk is full."""

FULL: Final = "its disk, or this user's share of it, is full: make room"
_READ_ONLY: Final = "it may not be written, or its disk is mounted read-only: change that, or choose another place"
_DAMAGED: Final = "it is damaged or no SQLite file: move it away, or restore it from a backup"
_BROKEN: Final = "its disk reports errors: see the system's log, and move the data to a sound one"

_OF_SYSTEM: Final = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: "its disk is mounted read-only: mount it for writing, or choose another place",
    errno.EISDIR: "a folder is in its place: move that away",
    errno.ENOTDIR: "a file is in the place of one of its folders: move that away",
    errno.EEXIST: "a file is in its place: move that away, or choose another place",
    errno.ENAMETOOLONG: "its path is too long: choose another place",
    errno.ELOOP: "its symbolic links go in a circle: choose another place",
    errno.EIO: _BROKEN,
    errno.EMFILE: "this process has too many files open: raise the limit (ulimit -n)",
    errno.ENFILE: "the system has too many files open: raise its limit",
}
_OF_SQLITE: Final = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: see that this user may write it and its folder",
    sqlite3.SQLITE_BUSY: "another program holds it: stop that",
    sqlite3.SQLITE_LOCKED: "another program holds it: stop that",
    sqlite3.SQLITE_PROTOCOL: "another program holds it: stop that",
    sqlite3.SQLITE_IOERR: _BROKEN,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}
LASTING: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
)
"""What does not pass by itself."""


def make_private(path: Path) -> None:
    """The file, which is made where it is missing, is for its owner alone, whatever the umask; SQLite gives those beside it the same mode.

    OSError if this user cannot make it. One that exists is not opened here: that would end the locks which SQLite has on it for others of
    this process.
    """
    path = Path(os.path.realpath(path))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder", str(path)) from None
        tighten(path, FILE_MODE)
        return
    try:
        tighten(descriptor, FILE_MODE)
    finally:
        os.close(descriptor)


def tighten(which: int | Path, mode: int) -> bool:
    """Take everybody else's rights to a file or folder away, as far as it is ours; whether it is closed to others now."""
    found = os.stat(which)  # noqa: PTH116 - also of descriptors
    if stat.S_IMODE(found.st_mode) == mode:
        return True
    with contextlib.suppress(PermissionError):
        os.chmod(which, mode)  # noqa: PTH101 - the same
        return True
    return not found.st_mode & _OTHERS


@contextmanager
def opening(path: str | Path) -> Iterator[None]:
    """While a file is opened, whatever the system or SQLite says about it becomes a SettingsError."""
    try:
        yield
    except sqlite3.Error as error:
        raise SettingsError(f"{path} cannot be used: {sqlite_trouble(error, Path(path))}") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be used: {trouble(error, Path(path))}") from error


def trouble(error: OSError, path: Path) -> str:
    """Why the system refuses a file, and what to do."""
    if isinstance(error, PermissionError):
        named = Path(error.filename) if isinstance(error.filename, str) else path
        owner = _owner(named)
        whose = f"it belongs to {owner}: run as that user, change the rights, or choose another place" if owner else "change its rights"
        which = named.name if named != path and os.path.lexists(named) else "it"
        return f"this user may not write {which}; {whose}"
    return _OF_SYSTEM.get(error.errno or 0, "see that its path is right and its disk sound")


def sqlite_trouble(error: sqlite3.Error, path: Path | None = None) -> str:
    """The same of SQLite, which takes some full disks for broken ones."""
    if sqlite_code(error) == sqlite3.SQLITE_IOERR and path is not None and _free_bytes(path) < _LEAST_BYTES:
        return FULL
    return _OF_SQLITE.get(sqlite_code(error), _DAMAGED if type(error) is sqlite3.DatabaseError else "another program may hold it")


def _free_bytes(path: Path) -> int:
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return _LEAST_BYTES
    return found.f_bavail * found.f_frsize


def sqlite_code(error: sqlite3.Error) -> int:
    """SQLite's primary code for an error."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _owner(path: Path) -> str:
    """Whose the nearest existing one of the path and its folders is, if it is somebody else's; else empty."""
    for one in (path, *path.parents):
        with contextlib.suppress(OSError):
            uid = one.stat().st_uid
            return "" if uid == os.geteuid() else user_name(uid)
    return ""


def user_name(uid: int) -> str:
    """The name of a user, and its number."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"

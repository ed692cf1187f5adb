"""Makes files and folders private to this user, and explains why one cannot be used."""

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
"""With less free space than this a disk counts as full."""

FULL: Final = "disk full or quota exceeded: free space"
_READ_ONLY: Final = "permission denied or read-only file system: make it writable, or choose another place"
_DAMAGED: Final = "not a SQLite database, or corrupted: move it away, or restore it from a backup"
_BROKEN: Final = "I/O error of its disk: see the system's log, and move the data to a healthy disk"

_ERRNO_TEXTS: Final = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: "read-only file system: mount it for writing, or choose another place",
    errno.EISDIR: "it is a directory, not a file: move it away",
    errno.ENOTDIR: "not a directory: a file has the name of one of its folders; move it away",
    errno.EEXIST: "a file with this name exists: move it away, or choose another place",
    errno.ENAMETOOLONG: "file name too long: choose another place",
    errno.ELOOP: "too many levels of symbolic links: choose another place",
    errno.EIO: _BROKEN,
    errno.EMFILE: "too many open files in this process: raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files in the system: raise its limit (fs.file-max)",
}
_SQLITE_TEXTS: Final = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: this user needs write permission for it and its folder",
    sqlite3.SQLITE_BUSY: "locked by another program: stop that program",
    sqlite3.SQLITE_LOCKED: "locked by another program: stop that program",
    sqlite3.SQLITE_PROTOCOL: "locked by another program: stop that program",
    sqlite3.SQLITE_IOERR: _BROKEN,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}
PERMANENT: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
)
"""SQLite's error codes that do not go away by themselves."""


def make_private(path: Path) -> None:
    """Make a file private to its owner, whatever the umask, and create it if missing; SQLite gives its companion files the same mode.

    OSError if this user cannot create it. An existing file is not opened: closing it would release SQLite's locks on it in this process.
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
    """Remove all permissions of other users from a file or folder, if it is ours; whether it is private now."""
    found = os.stat(which)  # noqa: PTH116 - also of descriptors
    if stat.S_IMODE(found.st_mode) == mode:
        return True
    with contextlib.suppress(PermissionError):
        os.chmod(which, mode)  # noqa: PTH101 - the same
        return True
    return not found.st_mode & _OTHERS


@contextmanager
def opening(path: str | Path) -> Iterator[None]:
    """Translate errors of the system or SQLite while a file is opened into SettingsError."""
    try:
        yield
    except sqlite3.Error as error:
        raise SettingsError(f"{path} cannot be used: {sqlite_trouble(error, Path(path))}") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be used: {trouble(error, Path(path))}") from error


def trouble(error: OSError, path: Path) -> str:
    """Why the system cannot use a file, and what to do."""
    if isinstance(error, PermissionError):
        named = Path(error.filename) if isinstance(error.filename, str) else path
        owner = _owner(named)
        whose = (
            f"it belongs to {owner}: run as that user, change its permissions, or choose another place"
            if owner
            else "change its permissions"
        )
        which = named.name if named != path and os.path.lexists(named) else "it"
        return f"permission denied: this user cannot write {which}; {whose}"
    return _ERRNO_TEXTS.get(error.errno or 0, "check its path and its disk")


def sqlite_trouble(error: sqlite3.Error, path: Path | None = None) -> str:
    """The same for SQLite, which reports some full disks as I/O errors."""
    if sqlite_code(error) == sqlite3.SQLITE_IOERR and path is not None and _free_bytes(path) < _LEAST_BYTES:
        return FULL
    return _SQLITE_TEXTS.get(
        sqlite_code(error), _DAMAGED if type(error) is sqlite3.DatabaseError else "it may be locked by another program"
    )


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
    """The owner of the path, or of its nearest existing folder, if it is another user; else empty."""
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

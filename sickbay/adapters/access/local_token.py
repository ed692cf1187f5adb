"""The token of `sickbay up`: random, in the data folder, for this user of this machine alone."""

from __future__ import annotations

import getpass
import hashlib
import hmac
import logging
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from sickbay.adapters.files import FILE_MODE, opening
from sickbay.domain.access import MAX_PRINCIPAL_CHARS, Kind, Principal, Role
from sickbay.domain.errors import SettingsError
from sickbay.ports.access import Credentials

FILE: Final = "token"
_PREFIX: Final = "sl_"
_LEAST_CHARS: Final = 32
_MOST_CHARS: Final = 1_024
_OTHERS: Final = 0o077

log = logging.getLogger("sickbay")


class LocalToken:
    """Implements `Authenticator`: who can read the file may do everything."""

    def __init__(self, folder: Path) -> None:
        """Read the token of the folder, or make one. SettingsError if something else is in its place."""
        self.path = folder / FILE
        token = _token(self.path)
        self._digest = hashlib.sha256(token.encode()).digest()
        self._principal = Principal(_user(), frozenset({Role.ADMIN}), None, Kind.LOCAL, FILE)

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """See the port."""
        is_same = hmac.compare_digest(hashlib.sha256(credentials.bearer.encode()).digest(), self._digest)
        return self._principal if is_same else None


def _token(path: Path) -> str:
    """It is written beside its place and linked there: it is never seen in part, and the first of two processes makes it."""
    with opening(path):
        with suppress(FileNotFoundError):
            return _read(path)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{_PREFIX}{secrets.token_urlsafe(32)}\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(beside, path)
        finally:
            beside.unlink()
        return _read(path)


def _read(path: Path) -> str:
    """FileNotFoundError also for a token that other users could read: it is deleted, and another one is to be made."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), encoding="ascii", errors="replace") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise SettingsError(f"{path} is not a regular file of this user, who else may know the token in it; move it away")
        token = file.read(_MOST_CHARS).strip()
    if len(token) < _LEAST_CHARS:
        raise SettingsError(f"{path} has no token of {_LEAST_CHARS} characters or more; delete it, and the next start makes one")
    if found.st_mode & _OTHERS:
        log.warning("%s could be read by other users (mode %04o): another token replaces it", path, stat.S_IMODE(found.st_mode))
        path.unlink()
        raise FileNotFoundError(path)
    return token


def _user() -> str:
    """The login name; `local` if there is none, as in some containers."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return "local"
    return name if 0 < len(name) <= MAX_PRINCIPAL_CHARS and name.isprintable() else "local"

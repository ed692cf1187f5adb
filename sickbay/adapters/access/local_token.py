"""The token of `sickbay up`: random, in the data folder, for this user of this machine alone."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from sickbay.adapters.files import FILE_MODE, opening, tighten
from sickbay.domain.access import Kind, Principal, Role
from sickbay.domain.errors import SettingsError
from sickbay.ports.access import Credentials

FILE: Final = "token"
_PREFIX: Final = "sl_"
_LEAST_CHARS: Final = 32


class LocalToken:
    """Implements `Authenticator`: who can read the file may do everything."""

    def __init__(self, folder: Path) -> None:
        """Read the token of the folder, or make one. SettingsError if other users can read it."""
        self.path = folder / FILE
        token = _token(self.path)
        self._digest = hashlib.sha256(token.encode()).digest()
        self._principal = Principal("local", frozenset({Role.ADMIN}), None, Kind.LOCAL, FILE)

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
    token = path.read_text().strip()
    if len(token) < _LEAST_CHARS:
        raise SettingsError(f"{path} has no token of {_LEAST_CHARS} characters or more; delete it, and the next start makes one")
    if not tighten(path, FILE_MODE):
        raise SettingsError(f"{path} can be read by other users: chmod 600 it, or delete it")
    return token

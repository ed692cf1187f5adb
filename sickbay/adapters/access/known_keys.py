"""Authenticates by the access file, which is read again when it changes: API keys, and the names of client certificates."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sickbay.adapters.access.access_file import is_private, parse_access_file, read_bytes
from sickbay.domain.access import Principal
from sickbay.domain.api_key import PREFIX, AccessFile, AccessKey, check_key, id_of
from sickbay.domain.errors import SettingsError
from sickbay.ports import Clock
from sickbay.ports.access import Credentials

LOOK_S: Final = 0.5
_SETTLED_NS: Final = 2_000_000_000
"""A file that has changed so recently may change again without another version: clocks of file systems tick slowly."""
_Version = tuple[int, int, int, int, int]

log = logging.getLogger("sickbay")


class KnownKeys:
    """Implements `Authenticator`. A file that is wrong or gone leaves the keys of before in force, and is logged once."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Read the file; SettingsError if it cannot be, or says something wrong."""
        self._path, self._clock = path, clock
        self._keys: Mapping[str, AccessKey] = {}
        self._certificates: Mapping[str, Principal] = {}
        self._version: _Version | None = _version(path)
        self._mistake = ""
        self._data = read_bytes(path)
        self._take(parse_access_file(self._data, path))
        if not is_private(path):
            log.warning("%s can be read by other users of this machine, who learn from it who may do what; chmod 600 it", path)

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """See the port: a bearer token that begins with `sk_`, or a certificate without any bearer token."""
        if credentials.bearer:
            if not credentials.bearer.startswith(PREFIX):
                return None
            return check_key(credentials.bearer, self._keys.get(id_of(credentials.bearer)), self._clock())
        return next((found for name in credentials.certificate if (found := self._certificates.get(name)) is not None), None)

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Read the file if it has changed."""
        version = _version(self._path)
        if version is not None and version == self._version:
            return
        try:
            data = read_bytes(self._path)
            if data != self._data:
                self._take(parse_access_file(data, self._path))
                log.info("%s has changed: %d keys and %d certificates", self._path, len(self._keys), len(self._certificates))
            elif self._mistake:
                log.info("%s is as it was again", self._path)
        except SettingsError as error:
            # A file that is just being written: its version may stay, so it is looked at again.
            reason = str(error)
            if reason != self._mistake:
                log.error("%s; the keys of before stay in force", reason)  # noqa: TRY400 - the sentence says it all
            self._mistake, self._version = reason, None
            return
        self._version, self._mistake, self._data = version, "", data

    def _take(self, file: AccessFile) -> None:
        self._keys = {key.id: key for key in file.keys}
        self._certificates = {one.certificate: one.principal for one in file.certificates}


def _version(path: Path) -> _Version | None:
    """Which content the file has, also behind links that are exchanged; None if there is no file, or it has only just changed."""
    try:
        found = os.stat(path)  # noqa: PTH116 - follows links
    except OSError:
        return None
    if abs(time.time_ns() - found.st_ctime_ns) < _SETTLED_NS:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

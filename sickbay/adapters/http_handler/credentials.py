"""Secrets of a handler behind HTTP. They are never in the settings file, but in variables or in files, which may change while it runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sickbay.adapters.http_handler.request import header_mistake
from sickbay.adapters.webhook.signature import parse_secret
from sickbay.domain.errors import SettingsError

LOOK_S: Final = 1.0
"""How often it is looked whether a file has changed."""
MAX_BYTES: Final = 65_536
_SHORTEST_WITHHELD: Final = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret is: `variable`, or else `file`. `key` is that of the settings file which says so, for errors."""

    key: str
    variable: str = ""
    file: str = ""

    def __str__(self) -> str:
        """In words."""
        return f"the variable {self.variable}" if self.variable else f"the file {self.file}"

    def read(self) -> str:
        """The text, without blanks and line ends around it. SettingsError, without the text, if there is none."""
        if self.variable:
            text = os.environ.get(self.variable, "")
        else:
            try:
                with Path(self.file).open("rb") as file:
                    text = file.read(MAX_BYTES).decode()
            except OSError as error:
                raise SettingsError(f"{self.key}: {self} cannot be read: {error.strerror}") from None
            except UnicodeDecodeError:
                raise SettingsError(f"{self.key}: {self} is not UTF-8") from None
        if not text.strip():
            raise SettingsError(f"{self.key}: {self} is {'not set' if self.variable else 'empty'}")
        return text.strip()

    def version(self) -> tuple[int, int, int] | None:
        """Changes when the file does; None if it cannot be found."""
        try:
            found = Path(self.file).stat() if self.file else None
        except OSError:
            return None
        return (found.st_ino, found.st_size, found.st_mtime_ns) if found else (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What requests are sent with: the keys that sign them, the operator's headers, and texts that no failure may contain."""

    keys: Sequence[bytes] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    withheld: Collection[str] = ()


class Credentials:
    """Of one handler. A file is read again when it changes; while it cannot be read, what was read before is used."""

    def __init__(self, secret: Place | None = None, headers: Mapping[str, str | Place] | None = None) -> None:
        """Read all. SettingsError, without any secret, if one cannot be used.

        The text of `secret` is one or more secrets of Standard Webhooks, apart by blanks or line ends: each signs, so that one can be
        replaced by another without a request that the receiver rejects.
        """
        self._secret = secret
        self._headers = dict(headers or {})
        self._places = [place for place in (secret, *self._headers.values()) if isinstance(place, Place) and place.file]
        self._versions = self._look()
        self._secrets = self._read()
        self._looked_at = time.monotonic()

    def current(self) -> Secrets:
        """What is in force."""
        if self._places and time.monotonic() - self._looked_at >= LOOK_S:
            self._looked_at = time.monotonic()
            self._refresh()
        return self._secrets

    def _refresh(self) -> None:
        versions = self._look()
        if versions == self._versions:
            return
        self._versions = versions
        try:
            self._secrets = self._read()
            log.info("a secret has changed and is in force: %s", ", ".join(place.key for place in self._places))
        except SettingsError as error:
            log.warning("the secrets of before stay in force: %s", error)

    def _look(self) -> Sequence[object]:
        return [place.version() for place in self._places]

    def _read(self) -> Secrets:
        texts = self._secret.read().split() if self._secret else []
        keys = [parse_secret(text, f"{self._secret.key} ({self._secret})") for text in texts] if self._secret else []
        headers = {name: value.read() if isinstance(value, Place) else value for name, value in self._headers.items()}
        for name, value in self._headers.items():
            if isinstance(value, Place) and (mistake := header_mistake(name, headers[name])):
                raise SettingsError(f"{value.key}: the header {name} {mistake}")
        secret = {headers[name] for name, value in self._headers.items() if isinstance(value, Place)}
        words = {word for text in secret for word in text.split() if len(word) >= _SHORTEST_WITHHELD}
        return Secrets(keys, headers, sorted({*texts, *secret, *words}, key=len, reverse=True))

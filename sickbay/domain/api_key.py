"""API keys: `sk_<id>_<secret><checksum>`. Pure; times are milliseconds since the epoch.

The id names the entry in the access file and is no secret. The secret has 190 random bits: a fast hash is enough, nobody can try all.
The checksum (CRC-32 of everything before it) tells a mistyped key from an unknown one, and lets scanners of repositories recognise keys.
No function here puts a key into an error.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sickbay.domain.access import Kind, Principal, Role, Tenants
from sickbay.domain.errors import ErrorReason, Unauthenticated

PREFIX: Final = "sk_"
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_CHARS: Final = 10
_SECRET_CHARS: Final = 32
_SUM_CHARS: Final = 6
_KEY: Final = re.compile(rf"sk_([0-9A-Za-z]{{{_ID_CHARS}}})_[0-9A-Za-z]{{{_SECRET_CHARS + _SUM_CHARS}}}", re.ASCII)
_NONE: Final = hashlib.sha256(b"no key").hexdigest()

_MISTYPED: Final = "the API key is incomplete or mistyped: its checksum is wrong"
_UNKNOWN: Final = "the API key is not known here; `sickbay keys list` shows which are"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An entry of the access file: a key's hash, and whose it is. `tenants` is None for all; 0 stands for a time that is not set."""

    id: str
    name: str
    sha256: str = field(repr=False)
    roles: frozenset[Role]
    tenants: Tenants = None
    created: int = 0
    expires: int = 0
    revoked: int = 0
    note: str = ""

    @property
    def principal(self) -> Principal:
        """Whose key it is."""
        return Principal(self.name, self.roles, self.tenants, Kind.KEY, self.id)

    def state(self, now: int) -> str:
        """`valid`, `expired` or `revoked`. Revoked is at once: the clock of the machine where that was done may be ahead of this one."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and self.expires <= now else "valid"


@dataclass(frozen=True, slots=True)
class Certificate:
    """An entry of the access file: whose client certificate has this name."""

    name: str
    certificate: str
    roles: frozenset[Role]
    tenants: Tenants = None

    @property
    def principal(self) -> Principal:
        """Whose certificate it is."""
        return Principal(self.name, self.roles, self.tenants, Kind.CERTIFICATE, self.certificate)


@dataclass(frozen=True, slots=True)
class AccessFile:
    """What the access file says."""

    keys: Sequence[AccessKey] = ()
    certificates: Sequence[Certificate] = ()

    def named(self, which: str) -> Sequence[AccessKey]:
        """The keys with this id, else those of this name."""
        return [key for key in self.keys if key.id == which] or [key for key in self.keys if key.name == which]

    def certificates_of(self, which: str) -> Sequence[Certificate]:
        """The certificates with this name in them, else those of this principal."""
        found = [one for one in self.certificates if one.certificate == which]
        return found or [one for one in self.certificates if one.name == which]

    def revoking(self, ids: frozenset[str], now: int) -> AccessFile:
        """The same with these keys revoked; those that are already stay as they are."""
        return replace(self, keys=[replace(key, revoked=now) if key.id in ids and not key.revoked else key for key in self.keys])


def make_key() -> tuple[str, str]:
    """A new key and its id. Show the key once; keep `hash_key` of it."""
    key_id = _random(_ID_CHARS)
    stem = f"{PREFIX}{key_id}_{_random(_SECRET_CHARS)}"
    return stem + _checksum(stem), key_id


def hash_key(key: str) -> str:
    """What is kept of a key: the SHA-256 of it, as 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def id_of(key: str) -> str:
    """The id in a key; Unauthenticated if it is mistyped."""
    found = _KEY.fullmatch(key)
    if found is None or not hmac.compare_digest(_checksum(key[:-_SUM_CHARS]), key[-_SUM_CHARS:]):
        raise Unauthenticated(_MISTYPED)
    return found[1]


def check_key(key: str, entry: AccessKey | None, now: int) -> Principal:
    """The principal of a key; `entry` is that of its id. Unauthenticated if the key is not the entry's, or counts no longer.

    The comparison takes as long for an unknown id as for a known one.
    """
    is_same = hmac.compare_digest(hash_key(key), _NONE if entry is None else entry.sha256)
    if entry is None or not is_same:
        raise Unauthenticated(_UNKNOWN)
    if (state := entry.state(now)) != "valid":
        how = "was revoked" if state == "revoked" else "has expired"
        raise Unauthenticated(f"the API key {entry.id} of {entry.name} {how}", ErrorReason.CREDENTIAL_EXPIRED)
    return entry.principal


def _random(count: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(count))


def _checksum(stem: str) -> str:
    number, digits = zlib.crc32(stem.encode()), ""
    for _ in range(_SUM_CHARS):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits

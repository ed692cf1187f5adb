"""The access file (API_KEYS_FILE): JSON with the hashes of keys and the names of certificates; reading, checking and writing it.

Writers take a lock beside it and replace it as a whole: readers see the old or the new file, also after a kill in the middle.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from sickbay.adapters.files import FILE_MODE, opening
from sickbay.domain.access import MAX_PRINCIPAL_CHARS, Role, Tenants
from sickbay.domain.api_key import PREFIX, AccessFile, AccessKey, Certificate
from sickbay.domain.errors import SettingsError
from sickbay.domain.job import is_name

_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ID: Final = re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII)
_OTHERS: Final = 0o077
_PASTED: Final = re.compile(rf"{PREFIX}\w+")
"""Somebody may have pasted a key in the place of something else: no message shows it."""


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    name: str
    sha256: str
    roles: list[str]
    tenants: list[str] | None  # no default: a field that was forgotten must not mean all tenants
    created: str | None = None
    expires: str | None = None
    revoked: str | None = None
    note: str = ""


class _Certificate(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    certificate: str
    roles: list[str]
    tenants: list[str] | None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_Key] = []
    certificates: list[_Certificate] = []


_DECODER: Final = msgspec.json.Decoder(_File)


def read_access_file(path: Path) -> AccessFile:
    """What the file says. SettingsError names the entry and the field that is wrong."""
    return parse_access_file(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """The file as it is. SettingsError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SettingsError(f"there is no access file {path} (API_KEYS_FILE); `sickbay keys new` makes one") from None
    except OSError as error:
        why = error.strerror or "an error of the system"
        raise SettingsError(f"the access file {path} (API_KEYS_FILE) cannot be read: {why}; this user needs to read it") from error


def parse_access_file(data: bytes, path: Path) -> AccessFile:
    """The same for the file's bytes."""
    try:
        found = _DECODER.decode(data)
        keys = [_key(one) for one in found.keys]
        certificates = [_certificate(one) for one in found.certificates]
        _check_unique("id", [key.id for key in keys])
        _check_unique("certificate", [one.certificate for one in certificates])
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise SettingsError(
            f"{path} is not a valid access file: {_PASTED.sub(f'{PREFIX}...', str(error))}; `sickbay keys` writes one"
        ) from None
    return AccessFile(keys, certificates)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of those that change the file."""
    with opening(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def change_access_file(path: Path, change: Callable[[AccessFile], AccessFile]) -> AccessFile:
    """Replace the file by what `change` makes of it, and return that; one that does not exist is empty."""
    path = Path(os.path.realpath(path))
    with locked(path):
        before = read_access_file(path) if path.exists() else AccessFile()
        after = change(before)
        data = encode_access_file(after)
        parse_access_file(data, path)  # what services would refuse is not written
        with opening(path):
            _replace(path, data)
    return after


def encode_access_file(file: AccessFile) -> bytes:
    """The file as JSON, for people to read, too."""
    keys = [
        _Key(
            key.id,
            key.name,
            key.sha256,
            sorted(key.roles),
            _listed(key.tenants),
            _text(key.created),
            _text(key.expires),
            _text(key.revoked),
            key.note,
        )
        for key in file.keys
    ]
    certificates = [_Certificate(one.name, one.certificate, sorted(one.roles), _listed(one.tenants)) for one in file.certificates]
    return msgspec.json.format(msgspec.json.encode(_File(keys, certificates)), indent=2) + b"\n"


def is_private(path: Path) -> bool:
    """Whether no other user may read the file: it has no keys, but says who may do what."""
    return not stat.S_IMODE(path.stat().st_mode) & _OTHERS


def _replace(path: Path, data: bytes) -> None:
    """With the mode and the owner of before: a service that runs as another user must go on seeing changes."""
    old = path.stat() if path.exists() else None
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            made = os.fstat(file.fileno())
            if old is not None and (old.st_uid, old.st_gid) != (made.st_uid, made.st_gid):
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(file.fileno(), FILE_MODE if old is None else stat.S_IMODE(old.st_mode))
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - names from mkstemp
    except BaseException:
        os.unlink(name)  # noqa: PTH108 - the same
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _key(one: _Key) -> AccessKey:
    if not _ID.fullmatch(one.id):
        raise ValueError("the id of a key must be letters and digits")  # not shown: it may be a whole key, pasted
    where = f"the key {one.id!r}"
    if not _HASH.fullmatch(one.sha256):
        raise ValueError(f"{where}: sha256 must be 64 hexadecimal digits in lower case")
    created, expires, revoked = (_time(where, name, getattr(one, name)) for name in ("created", "expires", "revoked"))
    roles, tenants = _roles(where, one.roles), _tenants(where, one.tenants)
    return AccessKey(one.id, _name(where, one.name), one.sha256, roles, tenants, created, expires, revoked, one.note)


def _certificate(one: _Certificate) -> Certificate:
    where = f"the certificate {one.certificate!r}"
    if not one.certificate.strip():
        raise ValueError(f"{where}: the name in the certificate is empty")
    return Certificate(_name(where, one.name), one.certificate, _roles(where, one.roles), _tenants(where, one.tenants))


def _name(where: str, name: str) -> str:
    if not name.strip() or not name.isprintable() or len(name) > MAX_PRINCIPAL_CHARS:
        raise ValueError(f"{where}: the name must be 1 to {MAX_PRINCIPAL_CHARS} printable characters")
    return name


def _roles(where: str, names: Sequence[str]) -> frozenset[Role]:
    unknown = [name for name in names if name not in set(Role)]
    if unknown or not names:
        raise ValueError(f"{where}: roles must be some of {', '.join(Role)}" + (f", not {unknown[0]!r}" if unknown else ""))
    return frozenset(map(Role, names))


def _tenants(where: str, names: Sequence[str] | None) -> Tenants:
    if names is None:
        return None
    wrong = next((name for name in names if not is_name(name)), None)
    if wrong is not None or not names:
        raise ValueError(f"{where}: tenants must be names of tenants, or null for all" + (f", not {wrong!r}" if wrong is not None else ""))
    return frozenset(names)


def _check_unique(field: str, values: Sequence[str]) -> None:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"two entries have the {field} {twice!r}")


def _time(where: str, field: str, text: str | None) -> int:
    if text is None:
        return 0
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"{where}: {field} must be a time such as 2027-01-31T12:00:00Z, not {text!r}")
    return max(1, round(found.timestamp() * 1000))


def _text(ms: int) -> str | None:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if ms else None


def _listed(tenants: Tenants) -> list[str] | None:
    return None if tenants is None else sorted(tenants)

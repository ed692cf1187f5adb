"""`sickbay keys`: makes, lists, revokes and checks API keys in the access file. No key is ever an argument."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from sickbay.domain.access import Role, Tenants
from sickbay.domain.api_key import AccessFile, AccessKey, Certificate, check_key, hash_key, id_of, make_key
from sickbay.domain.errors import SettingsError, Unauthenticated
from sickbay.domain.job import NAME_PATTERN, is_name
from sickbay.runtime.access_keys import change_access_file, read_access_file
from sickbay.server.rest.views import rfc3339
from sickbay_cli import options
from sickbay_cli.durations import relative
from sickbay_cli.exit_codes import NotFound, Refused
from sickbay_cli.jobs import now
from sickbay_cli.output import Cell, Column, confirm, count, details, document, remark, table

DEFAULT_FILE: Final = ".sickbay/keys.json"
_KEYS: Final = (
    Column("ID"),
    Column("NAME"),
    Column("ROLES"),
    Column("TENANTS", least=60),
    Column("STATE"),
    Column("CREATED", least=80, right=True),
    Column("EXPIRES", least=90, right=True),
    Column("NOTE", least=110, loose=True),
)
_FILE: Final = click.option(
    "--file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="API_KEYS_FILE",
    default=DEFAULT_FILE,
    show_default=True,
    show_envvar=True,
    help="The access file.",
)


@click.group()
def keys() -> None:
    """Make, list, revoke and check API keys.

    They are kept as hashes, with roles, tenants and expiry, in the file that the services read (API_KEYS_FILE); a change counts within
    two seconds. A key is shown once, when it is made.
    """


@keys.command(
    epilog=options.examples(
        "sickbay keys new --name shop --role submit --tenant acme",
        "sickbay keys new --name ci --role operate --expires 90d > ci.key",
        "sickbay keys new --name billing --role submit --certificate billing.internal",
    )
)
@click.option("--name", required=True, help="Whose key it is; several keys of one name are one principal, as for a rotation.")
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice([role.value for role in Role]), help="Repeatable.")
@click.option("--tenant", "tenants", multiple=True, help="Repeatable; without it the key is for all tenants.")
@click.option("--expires", type=options.SPAN, metavar="SPAN", help="Until then it counts: 90d, 12h. Default: until it is revoked.")
@click.option("--note", default="", help="For people.")
@click.option("--certificate", default="", metavar="NAME", help="Make no key: client certificates with this name are the principal's.")
@_FILE
def new(*, name: str, roles: Sequence[str], tenants: Sequence[str], expires: int | None, note: str, certificate: str, file: Path) -> None:
    """Make a key and print it, once."""
    wrong = next((tenant for tenant in tenants if not is_name(tenant)), None)
    if wrong is not None:
        raise click.UsageError(f"--tenant {wrong!r} is invalid; it must match {NAME_PATTERN}")
    mine = frozenset(map(Role, roles))
    whose: Tenants = frozenset(tenants) if tenants else None
    if certificate:
        if expires or note:
            raise click.UsageError("--certificate takes neither --expires nor --note: the certificate has its own end")
        added = Certificate(name, certificate, mine, whose)
        _change(file, lambda old: replace(old, certificates=[*old.certificates, added]))
        remark(f"client certificates with the name {certificate} are {name}, {_words(mine, whose)}, in {file}")
        return
    key, key_id = make_key()
    made_at = now()
    entry = AccessKey(key_id, name, hash_key(key), mine, whose, made_at, made_at + expires if expires else 0, note=note)
    _change(file, lambda old: replace(old, keys=[*old.keys, entry]))
    if not os.environ.get("API_KEYS_FILE"):
        remark(f"services read this file with API_KEYS_FILE={file}")
    remark(f"the key {key_id} of {name}, {_words(mine, whose)}, is in {file} as a hash; this is the only time it is shown:")
    click.echo(key)


@keys.command("list", epilog=options.examples("sickbay keys list", "sickbay keys list --json"))
@options.as_json
@_FILE
def list_(*, as_json: bool, file: Path) -> None:
    """List keys and certificates."""
    found, at = _read(file), now()
    if as_json:
        document({"keys": [_view(key, at) for key in found.keys], "certificates": [_certificate_view(one) for one in found.certificates]})
        return
    rows: list[list[Cell]] = [_row(key, at) for key in found.keys]
    rows += [
        ["(certificate)", one.name, _roles(one.roles), _tenants(one.tenants), "valid", "", "", one.certificate]
        for one in found.certificates
    ]
    if rows:
        table(_KEYS, rows)
    else:
        remark(f"{file} has no keys; `sickbay keys new` makes one")


@keys.command(epilog=options.examples("sickbay keys revoke 3f8Kd02LmQ", "sickbay keys revoke shop --yes"))
@click.argument("which")
@options.yes
@_FILE
def revoke(*, which: str, yes: bool, file: Path) -> None:
    """Revoke a key by its id, or all keys and certificates of a name: within two seconds they are refused, and their streams end."""
    before = _read(file)
    found = [key for key in before.named(which) if not key.revoked]
    certificates = [] if any(key.id == which for key in found) else before.certificates_of(which)
    if not found and not certificates:
        raise NotFound(f"{file} has no key with the id or name {which!r} that is not revoked; `sickbay keys list` shows all")
    if len(found) + len(certificates) > 1:
        what = " and ".join(count(len(some), noun) for some, noun in ((found, "key"), (certificates, "certificate")) if some)
        confirm(f"Revoke {what} of {which}?", yes=yes, as_json=False)
    ids, at = frozenset(key.id for key in found), now()
    _change(file, lambda old: replace(old, certificates=[one for one in old.certificates if one not in certificates]).revoking(ids, at))
    for key in found:
        remark(f"revoked the key {key.id} of {key.name}")
    for one in certificates:
        remark(f"removed the certificate {one.certificate} of {one.name}")


@keys.command(epilog=options.examples("sickbay keys check < shop.key"))
@options.as_json
@_FILE
def check(*, as_json: bool, file: Path) -> None:
    """Say whose key it is that stdin has, and whether it counts. It is no argument: other users of the machine can read those."""
    key = (getpass.getpass("key (not shown): ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    found, at = _read(file), now()
    try:
        key_id = id_of(key)
        entry = next((one for one in found.keys if one.id == key_id), None)
        check_key(key, entry, at)
    except Unauthenticated as error:
        raise Refused(str(error)) from None
    if entry is None:
        return
    if as_json:
        document(_view(entry, at))
        return
    details(
        [
            ("key", entry.id),
            ("name", entry.name),
            ("roles", _roles(entry.roles)),
            ("tenants", _tenants(entry.tenants)),
            ("state", entry.state(at)),
            ("expires", relative(entry.expires, at)),
            ("note", entry.note),
        ]
    )


def _read(file: Path) -> AccessFile:
    if not file.exists():
        raise NotFound(f"there is no access file {file}; `sickbay keys new` makes one, or name another with --file or API_KEYS_FILE")
    try:
        return read_access_file(file)
    except SettingsError as error:
        raise Refused(str(error)) from None


def _change(file: Path, change: Callable[[AccessFile], AccessFile]) -> None:
    try:
        change_access_file(file, change)
    except SettingsError as error:
        raise Refused(str(error)) from None


def _words(roles: frozenset[Role], tenants: Tenants) -> str:
    return f"with {_roles(roles)}, for {'all tenants' if tenants is None else _tenants(tenants)}"


def _roles(roles: frozenset[Role]) -> str:
    return ", ".join(sorted(roles))


def _tenants(tenants: Tenants) -> str:
    return "all" if tenants is None else ", ".join(sorted(tenants))


def _row(key: AccessKey, at: int) -> list[Cell]:
    state = key.state(at)
    styled: Cell = state if state == "valid" else (state, "red")
    created, expires = relative(key.created, at), relative(key.expires, at)
    return [key.id, key.name, _roles(key.roles), _tenants(key.tenants), styled, created, expires, key.note]


def _view(key: AccessKey, at: int) -> dict[str, Any]:
    times = {"createdAt": key.created, "expiresAt": key.expires, "revokedAt": key.revoked}
    return {
        "id": key.id,
        "name": key.name,
        "roles": sorted(key.roles),
        "tenants": None if key.tenants is None else sorted(key.tenants),
        "state": key.state(at),
        **{name: rfc3339(ms) for name, ms in times.items() if ms},
        "note": key.note,
    }


def _certificate_view(one: Certificate) -> dict[str, Any]:
    tenants = None if one.tenants is None else sorted(one.tenants)
    return {"name": one.name, "certificate": one.certificate, "roles": sorted(one.roles), "tenants": tenants}

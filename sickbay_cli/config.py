"""The commands about the settings file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from sickbay.domain.errors import SettingsError
from sickbay.domain.job import NAME_PATTERN, is_name
from sickbay.runtime.in_force import InForce, explain, explain_limits, explain_principal, explain_tenant
from sickbay.runtime.settings import Settings
from sickbay.runtime.settings_file import SettingsFile, SettingsFileError, json_schema, load_file
from sickbay.runtime.settings_limits import LimitsTable, PrincipalTable, TenantTable
from sickbay_cli.exit_codes import Refused
from sickbay_cli.options import SETTINGS_FILE, as_json, examples
from sickbay_cli.output import Column, document, table

_COLUMNS: Final = (Column("TYPE"), Column("KEY"), Column("VALUE"), Column("FROM"))
ALL_TYPES: Final = "(all)"
ALL_TENANTS: Final = "(all together)"
"""Not a tenant's name: the limits that all share."""


@click.group()
def config() -> None:
    """Check or explain the settings file (SICKBAY_CONFIG), or print its JSON Schema."""


@config.command(epilog=examples("sickbay config check sickbay.toml"))
@click.argument("file", type=SETTINGS_FILE)
def check(file: Path) -> None:
    """Report every mistake in FILE; exits with 1 if there is any."""
    _load(file)
    click.echo(f"{file} is valid")


@config.command(epilog=examples("sickbay config show", "sickbay config show sickbay.toml --type email"))
@click.argument("file", type=SETTINGS_FILE, required=False)
@click.option("--type", "job_type", help="Only this job type, whether FILE names it or not.")
@as_json
def show(file: Path | None, job_type: str | None, *, as_json: bool) -> None:
    """Show what is in force for all job types and for each that FILE names, and where each value comes from.

    Limits of tenants and principals, too. FILE is SICKBAY_CONFIG unless it is named here. The environment is that of this command:
    run it where the service runs. It does not
    know handlers, and says where their options decide.
    """
    if job_type is not None and not is_name(job_type):
        raise click.UsageError(f"the job type {job_type!r} is invalid; it must match {NAME_PATTERN}")
    try:
        settings = Settings.read()
    except SettingsError as error:
        raise Refused(str(error)) from None
    if file is None and settings.sickbay_config:
        file = Path(settings.sickbay_config)
    content = _load(file) if file is not None else SettingsFile()
    asked = [job_type] if job_type is not None else [None, *sorted(content.types)]
    found = [(name, explain(settings, content, name)) for name in asked]
    limited = _limits(content) if job_type is None else []
    principals = _principals(content) if job_type is None else []
    if as_json:
        document({**_view(file, found), **_limits_view(limited), **_principals_view(principals)})
        return
    if file is None:
        click.echo("no settings file: SICKBAY_CONFIG is not set, and none is named", err=True)
    rows = [(name or ALL_TYPES, values) for name, values in found]
    rows += [(f"tenant {name or ALL_TYPES}", values) for name, values in limited if name != ALL_TENANTS]
    rows += [(ALL_TENANTS, values) for name, values in limited if name == ALL_TENANTS]
    rows += [(f"principal {name or ALL_TYPES}", values) for name, values in principals]
    table(_COLUMNS, [(name, one.key, one.value, one.origin) for name, values in rows for one in values])


@config.command(epilog=examples("sickbay config schema > sickbay.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the settings file, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))


def _load(file: Path) -> SettingsFile:
    try:
        return load_file(file)
    except SettingsFileError as error:
        raise Refused("\n".join(f"{file}: {mistake}" for mistake in error.mistakes)) from None


def _limits(content: SettingsFile) -> Sequence[tuple[str | None, Sequence[InForce]]]:
    """What the file says of tenants, and of all of them together; nothing if it says nothing of them."""
    if not content.tenants and content.defaults.tenant == TenantTable() and content.limits == LimitsTable():
        return []
    tenants = [(name, explain_tenant(content, name)) for name in [None, *sorted(content.tenants)]]
    return [*tenants, (ALL_TENANTS, explain_limits(content))]


def _principals(content: SettingsFile) -> Sequence[tuple[str | None, Sequence[InForce]]]:
    """What the file says of principals; nothing if it says nothing of them."""
    if not content.principals and content.defaults.principal == PrincipalTable():
        return []
    return [(name, explain_principal(content, name)) for name in [None, *sorted(content.principals)]]


def _principals_view(limited: Sequence[tuple[str | None, Sequence[InForce]]]) -> Mapping[str, Any]:
    """`defaultPrincipal` is what holds for all principals that the file does not name."""
    views = {name: {one.key: _value_view(one) for one in values} for name, values in limited}
    named = {name: view for name, view in views.items() if name is not None}
    return {"defaultPrincipal": views[None], "principals": named} if views else {}


def _limits_view(limited: Sequence[tuple[str | None, Sequence[InForce]]]) -> Mapping[str, Any]:
    """`defaultTenant` is what holds for all tenants that the file does not name, `limits` what holds for all together."""
    names = {None: "defaultTenant", ALL_TENANTS: "limits"}
    views = {name: {one.key: _value_view(one) for one in values} for name, values in limited}
    fixed = {names[name]: view for name, view in views.items() if name in names}
    return fixed | ({"tenants": {name: view for name, view in views.items() if name not in names}} if limited else {})


def _view(file: Path | None, found: Sequence[tuple[str | None, Sequence[InForce]]]) -> Mapping[str, Any]:
    """`defaults` is what holds for all types that the file does not name."""
    views = {name: {one.key: _value_view(one) for one in values} for name, values in found}
    types = {name: view for name, view in views.items() if name is not None}
    return {"file": None if file is None else str(file)} | ({"defaults": views[None]} if None in views else {}) | {"types": types}


def _value_view(one: InForce) -> Mapping[str, str]:
    view = {"value": one.value, "source": one.source.value, "name": one.name, "unless": one.unless}
    return {key: text for key, text in view.items() if text}

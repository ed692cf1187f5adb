"""The commands about the settings file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from sickbay.domain.errors import SettingsError
from sickbay.domain.job import NAME_PATTERN, is_name
from sickbay.runtime.in_force import InForce, explain
from sickbay.runtime.settings import Settings
from sickbay.runtime.settings_file import SettingsFile, SettingsFileError, json_schema, load_file
from sickbay_cli.exit_codes import Refused
from sickbay_cli.options import SETTINGS_FILE, as_json, examples
from sickbay_cli.output import Column, document, table

_COLUMNS: Final = (Column("TYPE"), Column("KEY"), Column("VALUE"), Column("FROM"))
ALL_TYPES: Final = "(all)"


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

    FILE is SICKBAY_CONFIG unless it is named here. The environment is that of this command: run it where the service runs. It does not
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
    if as_json:
        document(_view(file, found))
        return
    if file is None:
        click.echo("no settings file: SICKBAY_CONFIG is not set, and none is named", err=True)
    table(_COLUMNS, [(name or ALL_TYPES, one.key, one.value, one.origin) for name, values in found for one in values])


@config.command(epilog=examples("sickbay config schema > sickbay.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the settings file, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))


def _load(file: Path) -> SettingsFile:
    try:
        return load_file(file)
    except SettingsFileError as error:
        raise Refused("\n".join(f"{file}: {mistake}" for mistake in error.mistakes)) from None


def _view(file: Path | None, found: Sequence[tuple[str | None, Sequence[InForce]]]) -> Mapping[str, Any]:
    """`defaults` is what holds for all types that the file does not name."""
    views = {name: {one.key: _value_view(one) for one in values} for name, values in found}
    types = {name: view for name, view in views.items() if name is not None}
    return {"file": None if file is None else str(file)} | ({"defaults": views[None]} if None in views else {}) | {"types": types}


def _value_view(one: InForce) -> Mapping[str, str]:
    view = {"value": one.value, "source": one.source.value, "name": one.name, "unless": one.unless}
    return {key: text for key, text in view.items() if text}

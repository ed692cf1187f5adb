"""The commands about the settings file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sickbay.runtime.settings_file import SettingsFileError, json_schema, load_file
from sickbay_cli.exit_codes import Refused
from sickbay_cli.options import examples


@click.group()
def config() -> None:
    """Check the settings file (SICKBAY_CONFIG), or print its JSON Schema."""


@config.command(epilog=examples("sickbay config check sickbay.toml"))
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Report every mistake in FILE; exits with 1 if there is any."""
    try:
        load_file(file)
    except SettingsFileError as error:
        raise Refused("\n".join(f"{file}: {mistake}" for mistake in error.mistakes)) from None
    click.echo(f"{file} is valid")


@config.command(epilog=examples("sickbay config schema > sickbay.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the settings file, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))

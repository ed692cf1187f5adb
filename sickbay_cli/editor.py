"""Editing a payload in the user's editor; a syntax error does not lose the edit."""

from __future__ import annotations

import sys
import tempfile

import click

from sickbay_cli.exit_codes import Refused
from sickbay_cli.output import remark
from sickbay_cli.payload import check, pretty


def edit_payload(payload: str) -> str:
    """The payload as the user saved it, a valid JSON object; Refused if it was not changed."""
    original = pretty(payload)
    text = original
    while True:
        saved = click.edit(f"{text}\n", extension=".json")
        if saved is None or saved.strip() == original.strip():
            raise Refused("the payload was not changed; nothing was submitted")
        try:
            check(saved)
        except ValueError as error:
            _ask_again(str(error))
            text = saved.rstrip()
        else:
            return saved.strip()


def save_draft(text: str) -> str:
    """Save an edit that could not be sent to a file, and return its name."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="sickbay-", suffix=".json", delete=False) as file:
        file.write(text)
    return file.name


def _ask_again(problem: str) -> None:
    remark(problem)
    if not sys.stdin.isatty() or not click.confirm("Edit it again?", default=True, err=True):
        raise Refused("nothing was submitted")

"""A payload on the command line: JSON text, `@file`, or `-` for stdin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from sickbay_cli.streams import is_text


class _Payload(click.ParamType[str]):
    name = "payload"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            text = _read(str(value))
            check(text)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return text


PAYLOAD: Final = _Payload()
"""The command gets the text byte for byte; it is a valid JSON object."""


def check(text: str) -> None:
    """Raise ValueError with a sentence for the user unless the text is a JSON object."""
    if not is_text(text):
        raise ValueError("not UTF-8 text")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"""not valid JSON ({error.msg}, {where}); quote it for the shell, as in '{{"to": "a@example.com"}}'""") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:  # more digits than Python reads
        raise ValueError("a number is too long to be read; send it as a string") from None
    if not isinstance(content, dict):
        raise ValueError("a payload must be a JSON object, as in '{\"id\": 1}'")  # noqa: TRY004 - the user's mistake, not a type error


def pretty(text: str) -> str:
    """Indented, with every number as it was sent; unchanged if it is not JSON."""
    try:
        return msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:
        return text


def _read(value: str) -> str:
    if value != "-" and not value.startswith("@"):
        return value
    try:
        data = sys.stdin.buffer.read() if value == "-" else Path(value[1:]).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {value[1:]!r}: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None

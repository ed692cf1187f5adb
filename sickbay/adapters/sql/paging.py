"""Cursors of the lists: the sort key of the last row shown, as plain text (the server signs and encodes it)."""

from __future__ import annotations

import re
from typing import Final

from sickbay.domain.errors import ErrorReason, InvalidArgument

_NUMBER: Final = re.compile(r"[0-9]{1,18}")


def cursor(number: int, *parts: str) -> str:
    """Write a cursor; no part but the last may contain a colon."""
    return ":".join((str(number), *parts))


def parse_cursor(text: str, parts: int) -> tuple[int, tuple[str, ...]]:
    """Parse a cursor of a number and `parts` more parts; InvalidArgument(INVALID_PAGE_TOKEN) if it is invalid."""
    number, *rest = text.split(":", parts)
    if not _NUMBER.fullmatch(number) or len(rest) != parts:
        raise InvalidArgument("the page token is not from this list", ErrorReason.INVALID_PAGE_TOKEN)
    return int(number), tuple(rest)

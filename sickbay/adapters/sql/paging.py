"""Cursors of the lists: the sort key of the last row shown, as plain text (the doors sign and hide it)."""

from __future__ import annotations

import re
from typing import Final

from sickbay.domain.errors import ErrorReason, InvalidArgument

_NUMBER: Final = re.compile(r"[0-9]{1,18}")


def cursor(number: int, *parts: str) -> str:
    """Write a cursor; no part but the last may contain a colon."""
    return ":".join((str(number), *parts))


def parsed(text: str, parts: int) -> tuple[int, tuple[str, ...]]:
    """Read a cursor of a number and so many parts; InvalidArgument(INVALID_PAGE_TOKEN) if it is not one."""
    number, *rest = text.split(":", parts)
    if not _NUMBER.fullmatch(number) or len(rest) != parts:
        raise InvalidArgument("the page token is not from this list", ErrorReason.INVALID_PAGE_TOKEN)
    return int(number), tuple(rest)

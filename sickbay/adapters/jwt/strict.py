"""The parts of a token, read strictly: one form for each token, no duplicate keys, nothing that JSON does not have.

What two programs read differently is what forgeries are made of. Nothing here is trusted yet: the signature is checked afterwards.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from typing import Any, Final

MAX_TOKEN_CHARS: Final = 16_384
MAX_HEADER_CHARS: Final = 4_096
_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


class Malformed(ValueError):
    """It is not a token; `str()` says why, without any part of it."""


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token in the compact form. Malformed if it is too long, or not of that form."""
    if len(token) > MAX_TOKEN_CHARS:
        raise Malformed(f"it is longer than {MAX_TOKEN_CHARS:,} characters")
    match = _FORM.fullmatch(token)
    if match is None:
        raise Malformed("it is not three parts of base64url without padding")
    if len(match[1]) > MAX_HEADER_CHARS:
        raise Malformed(f"its header is longer than {MAX_HEADER_CHARS:,} characters")
    return _object(match[1], "header"), _object(match[2], "payload")


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object without duplicate keys; Malformed otherwise."""
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed(f"its {what} is not JSON") from None
    if not isinstance(found, dict):
        raise Malformed(f"its {what} is not a JSON object")
    return found


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise Malformed(f"its {what} is not base64url") from None
    return parse_object(data, what)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("it says something twice")
    return found


def _no_constant(_: str) -> Any:
    raise Malformed("it has a number that JSON does not have")

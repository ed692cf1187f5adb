"""Answers of an HTTP port that its application knows nothing of."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from sickbay.server.http.head import Header
from sickbay.server.rest.errors import error_view
from sickbay.server.rest.guard import SEALS
from sickbay.server.rest.views import encode

BUSY: Final = "the service has as many connections as it may; try again in a moment"
BUSY_PEER: Final = "your address has as many connections as it may; use fewer, or try again in a moment"
NO_ROOM: Final = "the service takes in as many large bodies as it may; try again in a moment, or send less in one request"
MALFORMED: Final = "this is no HTTP/1.1 request that can be answered"
LATE_HEADER: Final = "the header did not come in time"
LATE_BODY: Final = "the body did not come in time"
LARGE_HEADER: Final = "the header is too large"
LARGE_FRAMES: Final = "the extensions and trailers of the chunks are too large"

_SEALS: Final = [f"{name}: {value}".encode() for name, value in SEALS.items()]


def refusal(status: int, message: str, headers: Iterable[Header]) -> bytes:
    """A whole answer in the one form of errors; the connection is to be closed after it."""
    found = HTTPStatus(status)
    body = encode(error_view(status, message, found.name))
    lines = [b"HTTP/1.1 %d %b" % (status, found.phrase.encode())]
    lines += [b"%b: %b" % header for header in headers]
    lines += _SEALS
    lines += [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close"]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append(b"retry-after: 1")
    return b"\r\n".join([*lines, b"", body])

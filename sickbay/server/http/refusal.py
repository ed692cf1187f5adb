"""Error responses that the HTTP port sends instead of the application."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from sickbay.server.http.head import Header
from sickbay.server.rest.errors import error_view
from sickbay.server.rest.guard import SECURITY_HEADERS
from sickbay.server.rest.views import encode

BUSY: Final = "too many connections to this service; try again in a moment"
BUSY_PEER: Final = "too many connections from your address; use fewer, or try again in a moment"
NO_ROOM: Final = "too many large request bodies at a time; try again in a moment, or send less in one request"
MALFORMED: Final = "not a valid HTTP/1.1 request"
LATE_HEADER: Final = "request timed out: the header was not complete in time"
LATE_BODY: Final = "request timed out: the body was not complete in time"
LARGE_HEADER: Final = "the header is too large"
LARGE_FRAMES: Final = "the extensions and trailers of the chunks are too large"

_SECURITY_HEADERS: Final = [f"{name}: {value}".encode() for name, value in SECURITY_HEADERS.items()]


def refusal(status: int, message: str, headers: Iterable[Header]) -> bytes:
    """A complete response with the usual body of errors; the connection must be closed after it."""
    found = HTTPStatus(status)
    body = encode(error_view(status, message, found.name))
    lines = [b"HTTP/1.1 %d %b" % (status, found.phrase.encode())]
    lines += [b"%b: %b" % header for header in headers]
    lines += _SECURITY_HEADERS
    lines += [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close"]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append(b"retry-after: 1")
    return b"\r\n".join([*lines, b"", body])

"""Validation of a request's head beyond that of the parser (llhttp, strict): rejects what two servers could parse differently."""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[bytes, bytes]


class BadRequest(Exception):
    """The status and message for a request that is rejected."""

    def __init__(self, status: int, message: str) -> None:
        """Reject with these."""
        super().__init__(message)
        self.status, self.message = status, message


def body_size(version: str, headers: Iterable[Header], *, upgrades: bool) -> int | None:
    """The body size that a head declares, None for a chunked body; header names are in lower case. Raises BadRequest.

    The parser has already rejected: Content-Length with Transfer-Encoding, repeated or not of digits, folded lines, NUL and other control
    characters, line ends without CR, and chunk sizes that are not hexadecimal numbers of 64 bits.
    """
    hosts, size, codings = 0, 0, b""
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            size = int(value)
        elif name == b"transfer-encoding":
            codings = codings + b"," + value if codings else value
    if version not in {"1.0", "1.1"}:
        raise BadRequest(505, "only HTTP/1.1 and HTTP/1.0 are supported on this port")
    if hosts != 1 and (hosts or version == "1.1"):
        raise BadRequest(400, "exactly one Host header is required")
    if codings and (version == "1.0" or codings.strip().lower() != b"chunked"):
        raise BadRequest(501, "the only supported Transfer-Encoding is chunked, with HTTP/1.1")
    if upgrades and (size or codings):
        raise BadRequest(400, "Upgrade to another protocol is not supported; send the body without Upgrade")
    return None if codings else size

"""Posts notices to a webhook: one connection for each, no redirects, and an answer of which only the status counts."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from typing import Final

from sickbay.adapters.webhook.address import WebhookAddress, parse_address
from sickbay.adapters.webhook.signature import parse_secret, signed_headers
from sickbay.ports import Clock
from sickbay.ports.incidents import Notice, Undelivered
from sickbay.version import VERSION

TIMEOUT_S: Final = 10.0
"""For everything: name, connection, TLS, request and the head of the answer."""
MAX_HEAD_BYTES: Final = 65_536
MAX_WAIT_S: Final = 3_600
"""The longest Retry-After that is taken at its word."""

_HEAD_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |\r)")
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_GONE: Final = 410


class HttpWebhook:
    """Implements `Webhook`."""

    def __init__(self, url: str, secret: str | None, clock: Clock) -> None:
        """SettingsError if the URL or the secret cannot be used; without a secret nothing is signed."""
        self._address = parse_address(url)
        self._key = parse_secret(secret) if secret is not None else None
        self._clock = clock
        self._tls = ssl.create_default_context() if self._address.is_tls else None

    async def deliver(self, notice: Notice) -> None:
        """Post it; Undelivered unless the answer is 2xx."""
        request = self._request(notice)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                head = await self._exchange(request)
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise Undelivered(_reason(error, self._address)) from None
        _check(head)

    async def _exchange(self, request: bytes) -> bytes:
        """Send the request; returns the head of the answer."""
        where = self._address
        reader, writer = await asyncio.open_connection(where.host, where.port, ssl=self._tls, limit=MAX_HEAD_BYTES)
        try:
            writer.write(request)
            await writer.drain()
            while (head := await reader.readuntil(_HEAD_END)).startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
                pass  # an interim answer
            return head
        finally:
            writer.transport.abort()

    def _request(self, notice: Notice) -> bytes:
        headers = {
            "Host": self._address.header,
            "User-Agent": f"sickbay/{VERSION}",
            "Content-Type": "application/json",
            "Content-Length": str(len(notice.body)),
            "Connection": "close",
        }
        if self._key is None:
            headers["webhook-id"] = notice.notice_id
        else:
            headers |= signed_headers([self._key], notice.notice_id, self._clock() // 1000, notice.body)
        lines = [f"POST {self._address.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode("ascii") + _HEAD_END + notice.body


def _check(head: bytes) -> None:
    found = _STATUS.match(head)
    if found is None:
        raise Undelivered("it did not answer in HTTP/1.1")
    status = int(found[1])
    if status // 100 == 2:  # noqa: PLR2004 - HTTP's own number
        return
    if status // 100 == 3:  # noqa: PLR2004 - the same
        raise Undelivered(f"it answered {status}, and redirects are not followed: name the final address in WEBHOOK_URL")
    if status == _GONE:
        raise Undelivered("it answered 410: it wants no more notices", is_final=True)
    wait = _RETRY_AFTER.search(head)
    raise Undelivered(f"it answered {status}", retry_after_s=min(int(wait[1]), MAX_WAIT_S) if wait else 0)


def _reason(error: Exception, where: WebhookAddress) -> str:
    """Why, in our own words: the system's may contain the address."""
    reasons: dict[type[Exception], str] = {
        TimeoutError: f"it did not answer within {TIMEOUT_S:g} s",
        ConnectionRefusedError: "the connection was refused",
        ssl.SSLCertVerificationError: f"its certificate is not valid for {where.host}, or its authority is unknown (see SSL_CERT_FILE)",
        ssl.SSLError: "it does not support TLS on this port",
        socket.gaierror: f"the name {where.host} is not known",
        asyncio.LimitOverrunError: "the head of its answer is too long",
    }
    return next((words for kind, words in reasons.items() if isinstance(error, kind)), "the connection was lost")

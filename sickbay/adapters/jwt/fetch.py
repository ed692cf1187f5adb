"""Fetches the key set of an issuer: no redirects, a bounded body, a bounded time, and https unless the host is this machine."""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import httpcore

from sickbay.adapters.jwt.key_set import MAX_SET_BYTES
from sickbay.adapters.jwt.strict import Malformed, parse_object
from sickbay.domain.errors import SettingsError
from sickbay.version import VERSION

TIMEOUT_S: Final = 5.0
"""For everything: name, connection, TLS, request and answer."""
DISCOVERY: Final = "/.well-known/openid-configuration"
_VISIBLE: Final = re.compile("[!-~]{1,2048}")
_MAX_AGE: Final = re.compile(rb"(?:^|[ ,])max-age=([0-9]{1,9})(?:$|[ ,])", re.IGNORECASE)
_OK: Final = 200


class NotFetched(Exception):
    """The document is not to be had now; `str()` says why."""


@dataclass(frozen=True, slots=True)
class Document:
    """A body, and for how long its server says that it holds (seconds; None if it does not say)."""

    body: bytes
    max_age_s: int | None = None


def checked_url(url: str, name: str) -> str:
    """The URL; SettingsError, with the name of the setting, unless it is https, or http of this machine, without a user in it."""
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    if not port_is_right or not _VISIBLE.fullmatch(url) or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(f"{name} must be a URL like https://issuer.example.com/path")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise SettingsError(f"{name} must have no user, password or fragment")
    if parts.scheme == "http" and not _is_here(parts.hostname):
        raise SettingsError(f"{name} must begin with https://: whoever is on the way could replace the keys")
    return url


class Fetcher:
    """Fetches one document at a time; `https` connections are checked against the system's authorities (SSL_CERT_FILE)."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        """`timeout_s` is for everything."""
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context()

    async def get(self, url: str) -> Document:
        """The document there; NotFetched if it is not answered with 200, in time, and within MAX_SET_BYTES."""
        headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": f"sickbay/{VERSION}"}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                httpcore.AsyncConnectionPool(ssl_context=self._tls, max_connections=1) as pool,
                pool.stream("GET", url, headers=list(headers.items())) as answer,
            ):
                if answer.status != _OK:
                    also = ", and redirects are not followed" if answer.status // 100 == 3 else ""  # noqa: PLR2004 - HTTP's own number
                    raise NotFetched(f"it answered {answer.status}{also}")
                body = bytearray()
                async for chunk in answer.aiter_stream():
                    body += chunk
                    if len(body) > MAX_SET_BYTES:
                        raise NotFetched(f"its answer is larger than {MAX_SET_BYTES:,} bytes")
                return Document(bytes(body), _max_age(answer.headers))
        except TimeoutError:
            raise NotFetched(f"it did not answer within {self._timeout_s:g} s") from None
        except ssl.SSLError:
            raise NotFetched("its certificate is not valid, or its authority is unknown (see SSL_CERT_FILE)") from None
        except httpcore.ConnectError as error:
            is_tls = isinstance(error.__cause__, ssl.SSLError) or "certificate" in str(error).lower()
            why = "its certificate is not valid, or its authority is unknown (see SSL_CERT_FILE)" if is_tls else "it cannot be reached"
            raise NotFetched(why) from None
        except (OSError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise NotFetched("it did not answer in HTTP") from None

    async def discover(self, issuer: str) -> str:
        """The address of the key set, by the issuer's own document (OpenID Connect Discovery). NotFetched if that does not say it."""
        document = await self.get(issuer.rstrip("/") + DISCOVERY)
        try:
            found = parse_object(document.body, "document")
        except Malformed:
            raise NotFetched("its discovery document is not a JSON object") from None
        url = found.get("jwks_uri")
        if found.get("issuer") != issuer or not isinstance(url, str):
            raise NotFetched("its discovery document is of another issuer than JWT_ISSUER, or has no jwks_uri")
        if urlsplit(issuer).scheme == "https" and not url.startswith("https://"):
            raise NotFetched("the jwks_uri of its discovery document is not https")
        try:
            return checked_url(url, "jwks_uri")
        except SettingsError as error:
            raise NotFetched(str(error)) from None


def _max_age(headers: list[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name.lower() == b"cache-control" and (match := _MAX_AGE.search(value)):
            return int(match[1])
    return None


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

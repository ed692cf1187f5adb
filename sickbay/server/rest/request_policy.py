"""Which HTTP requests are rejected before routing: those for other hosts, those of foreign web pages, and bodies that are not JSON.

A browser adds `Sec-Fetch-Site` (Fetch Metadata) or at least `Origin` (RFC 6454) to requests of a page; programs send neither. Without a
preflight a page can send bodies to another origin only as a form, as text or without a type: so a JSON body must be declared as such.
Pages of the origins in CORS_ORIGINS may send what programs may, and read the responses (`cors.py`); others get no CORS header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from sickbay.system.hostnames import Hosts, host_name

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Safe methods (RFC 9110, section 9.2.1)."""
_OWN_PAGES: Final = frozenset({"same-origin", "none"})
_SHOWN_CHARS: Final = 80
_PORTS: Final = MappingProxyType({"http": ":80", "https": ":443"})
_JSON: Final = "send JSON with the header Content-Type: application/json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is rejected, and what to do."""

    status: HTTPStatus
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


class RequestHeaders:
    """The headers of a request."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """`headers` as in ASGI, with names in lower case."""
        self._values: dict[str, list[str]] = {}
        for name, value in headers:
            self._values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1").strip())

    def all(self, name: str) -> list[str]:
        """All values, in order."""
        return self._values.get(name, [])

    def one(self, name: str) -> str | None:
        """The value, None without one; several values are joined, which equals no valid value."""
        values = self._values.get(name)
        return ", ".join(values) if values else None


def find_refusal(
    method: str, http_version: str, headers: RequestHeaders, hosts: Hosts, origins: frozenset[str] = frozenset()
) -> Refusal | None:
    """Why this request is rejected; None if it is accepted. Pages of `origins` are as pages of our own."""
    if (refusal := _check_host(http_version, headers, hosts)) is not None or method in SAFE:
        return refusal
    return (None if headers.one("origin") in origins else _check_origin(headers)) or _check_content_type(headers)


def _check_host(http_version: str, headers: RequestHeaders, hosts: Hosts) -> Refusal | None:
    """The Host header: RFC 9112, section 3.2, and our own names. HTTP/1.0 may lack it; no browser uses that."""
    values = headers.all("host")
    if not values and http_version == "1.0":
        return None
    name = host_name(values[0]) if len(values) == 1 else None
    if name is None:
        return Refusal(HTTPStatus.BAD_REQUEST, "a request needs one valid Host header; send the host's name, and the port if it is not 80")
    if hosts.answer(name):
        return None
    message = f"the host name {_shown(name)} is not allowed; use localhost, or add it to the service's ALLOWED_HOSTS"
    return Refusal(HTTPStatus.MISDIRECTED_REQUEST, message)


def _check_origin(headers: RequestHeaders) -> Refusal | None:
    site, origin = headers.one("sec-fetch-site"), headers.one("origin")
    if site in _OWN_PAGES or (site is None and (origin is None or _is_own(origin, headers.one("host") or ""))):
        return None
    whose = "another site" if origin is None else f"the origin {_shown(origin)}"
    message = f"changes by a web page of {whose} are not allowed; use a page of this address, or a program (it sends no Origin)"
    return Refusal(HTTPStatus.FORBIDDEN, message)


def _is_own(origin: str, host: str) -> bool:
    """Whether an origin has the host of the request; the scheme may differ, because a proxy may terminate TLS."""
    scheme, found, authority = origin.lower().partition("://")
    if not found or scheme not in _PORTS:
        return False
    usual = _PORTS[scheme]
    return authority.removesuffix(usual) == host.lower().removesuffix(usual)


def _check_content_type(headers: RequestHeaders) -> Refusal | None:
    if not _has_body(headers):
        return None
    coding = headers.one("content-encoding")
    if coding is not None and coding.lower() not in {"", "identity"}:
        message = f"the Content-Encoding {_shown(coding)} is not supported; send the body uncompressed"
        return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, {"accept-encoding": "identity"})
    kind = headers.one("content-type")
    if kind is not None and _is_json(kind):
        return None
    problem = "the body has no Content-Type" if kind is None else f"the Content-Type {_shown(kind)} is not supported"
    return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{problem}; {_JSON}", {"accept": "application/json"})


def _has_body(headers: RequestHeaders) -> bool:
    return headers.one("transfer-encoding") is not None or any(length.strip("0") for length in headers.all("content-length"))


def _is_json(kind: str) -> bool:
    essence = kind.partition(";")[0].strip().lower()
    return essence == "application/json" or (essence.startswith("application/") and essence.endswith("+json") and essence.isascii())


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...")

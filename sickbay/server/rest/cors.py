"""CORS for the origins of CORS_ORIGINS: the answers to their preflights, and the headers by which their pages may read responses.

Never credentials: browsers send no cookie and no client certificate, and a page sends its token itself. Without origins nothing is added.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from starlette.datastructures import MutableHeaders

from sickbay.server.rest.request_policy import RequestHeaders

_ORIGINS: Final = "cors_origins"
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_REQUEST_HEADERS: Final = "authorization, content-type, idempotency-key, last-event-id"
_READABLE: Final = "retry-after, ratelimit, ratelimit-policy, location, www-authenticate"
_PREFLIGHT: Final = {
    "access-control-allow-methods": _METHODS,
    "access-control-allow-headers": _REQUEST_HEADERS,
    "access-control-max-age": "600",
}


def allow_origins(app: Any, origins: Collection[str]) -> None:
    """Let web pages of these origins (`origins.cors_origins`) call this application."""
    setattr(app.state, _ORIGINS, frozenset(origins))


def origins_of(app: Any) -> frozenset[str]:
    """The origins of `allow_origins`."""
    found: frozenset[str] = getattr(app.state, _ORIGINS, frozenset())
    return found


def is_preflight(method: str, headers: RequestHeaders) -> bool:
    """Whether a browser asks what a page may send."""
    return method == "OPTIONS" and headers.one("access-control-request-method") is not None


def preflight_headers(origin: str) -> Mapping[str, str]:
    """The headers of the answer to a preflight of an allowed origin."""
    return {**_PREFLIGHT, "access-control-allow-origin": origin, "vary": "Origin"}


def add_cors(headers: MutableHeaders, origin: str | None, origins: frozenset[str]) -> None:
    """Let the page of an allowed origin read the response; caches must not give it to others."""
    if not origins:
        return
    headers.add_vary_header("Origin")
    if origin in origins:
        headers["access-control-allow-origin"] = str(origin)
        headers["access-control-expose-headers"] = _READABLE

"""Middleware before all REST routes: it rejects cross-site requests, adds security headers to every response, and implements HEAD.

Path segments are percent-decoded one by one (RFC 3986, section 2.2), so that an id may contain a slash: the guard keeps `%2F` and `%25`,
and `Name` decodes them after routing.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import unquote_to_bytes

from pydantic import AfterValidator
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sickbay.domain.errors import ErrorReason
from sickbay.server.rest.cors import add_cors, is_preflight, origins_of, preflight_headers
from sickbay.server.rest.request_policy import Refusal, RequestHeaders, find_refusal
from sickbay.server.rest.views import encode
from sickbay.system.hostnames import EVERY_HOST, Hosts

_HOSTS: Final = "hosts"
SECURITY_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
"""Added to responses that do not set them: a response is data, for this origin only, and must not be cached or framed."""


def allow_hosts(app: Any, hosts: Hosts) -> None:
    """Accept requests to these hosts only."""
    setattr(app.state, _HOSTS, hosts)


class Guard:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` is the application to protect."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject the request or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hosts: Hosts = getattr(scope["app"].state, _HOSTS, EVERY_HOST)
        path = _path(scope)
        headers, origins = RequestHeaders(scope["headers"]), origins_of(scope["app"])
        origin = headers.one("origin") if origins else None
        secured = _with_security_headers(send, origin, origins)
        refusal = find_refusal(scope["method"], scope.get("http_version", "1.1"), headers, hosts, origins) or _check_path(path)
        if refusal:
            await _response(refusal)(scope, receive, secured)
        elif origin in origins and is_preflight(scope["method"], headers):
            await Response(status_code=HTTPStatus.NO_CONTENT, headers=preflight_headers(str(origin)))(scope, receive, secured)
        elif scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET", "path": path}, receive, _headers_only(secured))
        else:
            await self._app({**scope, "path": path}, receive, secured)


def _decode_name(text: str) -> str:
    return text.replace("%2F", "/").replace("%25", "%")


Name = Annotated[str, AfterValidator(_decode_name)]
"""A percent-decoded path parameter of a route."""


def _path(scope: Scope) -> str | None:
    """The path, decoded segment by segment; None if it is not UTF-8."""
    raw = scope.get("raw_path")
    if raw is None or b"%" not in raw:
        return str(scope["path"])
    decoded = (unquote_to_bytes(segment).replace(b"%", b"%25").replace(b"/", b"%2F") for segment in raw.partition(b"?")[0].split(b"/"))
    try:
        return b"/".join(decoded).decode()
    except UnicodeDecodeError:
        return None


def _check_path(path: str | None) -> Refusal | None:
    if path is not None:
        return None
    return Refusal(HTTPStatus.BAD_REQUEST, "the path is not UTF-8; encode names as UTF-8 before they are percent-encoded")


def _response(refusal: Refusal) -> Response:
    status = refusal.status
    reason = ErrorReason.INVALID_FIELD if status is HTTPStatus.BAD_REQUEST else status.name
    view = {"statusCode": status, "message": refusal.message, "reason": reason}
    return Response(encode(view), status, refusal.headers, media_type="application/json")


def _with_security_headers(send: Send, origin: str | None, origins: frozenset[str]) -> Send:
    async def send_secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            add_cors(headers, origin, origins)
            message["headers"] = headers.raw
        await send(message)

    return send_secured


def _headers_only(send: Send) -> Send:
    """Send only the headers of a response. The application sees a disconnected client afterwards, so that streams end at once."""

    async def headers_only(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})

    return headers_only

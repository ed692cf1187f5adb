"""What stands before every REST route: it refuses what browsers are abused for, seals every answer, and makes HEAD of GET.

Names in a path come percent-encoded one by one (RFC 3986, section 2.2), so that an id may hold a slash: the guard leaves `%2F` and `%25`
as they are, and `Name` reads them when the route is found.
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
from sickbay.server.rest.intruders import Refusal, Sent, refused
from sickbay.server.rest.views import encode
from sickbay.system.hostnames import EVERY_HOST, Hosts

_HOSTS: Final = "hosts"
SEALS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
"""On every answer that does not say otherwise itself: it is data, for this origin alone, and nobody keeps or frames it."""


def answer_only(app: Any, hosts: Hosts) -> None:
    """Answer requests to these hosts only."""
    setattr(app.state, _HOSTS, hosts)


class Guard:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request or let it in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hosts: Hosts = getattr(scope["app"].state, _HOSTS, EVERY_HOST)
        path = _path(scope)
        refusal = refused(scope["method"], scope.get("http_version", "1.1"), Sent(scope["headers"]), hosts) or _illegible(path)
        if refusal:
            await _told(refusal)(scope, receive, _sealed(send))
        elif scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET", "path": path}, receive, _headers_only(_sealed(send)))
        else:
            await self._app({**scope, "path": path}, receive, _sealed(send))


def _named(text: str) -> str:
    return text.replace("%2F", "/").replace("%25", "%")


Name = Annotated[str, AfterValidator(_named)]
"""A name that a route takes from its path, as it was before it was percent-encoded."""


def _path(scope: Scope) -> str | None:
    """The path, decoded segment by segment; None if that gives no UTF-8."""
    raw = scope.get("raw_path")
    if raw is None or b"%" not in raw:
        return str(scope["path"])
    decoded = (unquote_to_bytes(segment).replace(b"%", b"%25").replace(b"/", b"%2F") for segment in raw.partition(b"?")[0].split(b"/"))
    try:
        return b"/".join(decoded).decode()
    except UnicodeDecodeError:
        return None


def _illegible(path: str | None) -> Refusal | None:
    if path is not None:
        return None
    return Refusal(HTTPStatus.BAD_REQUEST, "the path is not UTF-8; encode names as UTF-8 before they are percent-encoded")


def _told(refusal: Refusal) -> Response:
    status = refusal.status
    reason = ErrorReason.INVALID_FIELD if status is HTTPStatus.BAD_REQUEST else status.name
    view = {"statusCode": status, "message": refusal.message, "reason": reason}
    return Response(encode(view), status, refusal.headers, media_type="application/json")


def _sealed(send: Send) -> Send:
    async def sealed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in SEALS.items():
                headers.setdefault(name, value)
            message["headers"] = headers.raw
        await send(message)

    return sealed


def _headers_only(send: Send) -> Send:
    """Send the beginning of an answer and nothing else: the client is gone for whoever goes on, so that streams end at once."""

    async def headers_only(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})

    return headers_only

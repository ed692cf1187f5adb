"""Parts of `/openapi.json` for routes: their errors and event streams."""

from __future__ import annotations

from typing import Any, Final

from sickbay.contract.access import HEALTH_PATHS
from sickbay.server.rest.schemas import ErrorBody

MISDIRECTED: Final[dict[int | str, dict[str, Any]]] = {421: {"model": ErrorBody}}
"""The response of every route to a host name that is not accepted (`hostnames.py`)."""


def fails(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route with these error statuses; 421, 500 and 503 are always possible."""
    return {status: {"model": ErrorBody} for status in (*statuses, 500, 503)} | MISDIRECTED


ENDED: Final[dict[int | str, dict[str, Any]]] = {204: {"description": "The job has ended, and its end was sent before `Last-Event-ID`."}}
"""The response of a finite stream to a client that has received all of it: a browser does not reconnect."""


def streams(what: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route with server-sent events."""
    return {200: {"description": what, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}


_BEARER: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, or a token of the issuer; needed if the service runs with AUTH=required.",
}
_REFUSED: Final = {
    "401": "No credential was sent, or it does not count (any longer); see `WWW-Authenticate`.",
    "403": "The principal may not do that; or a change by a web page of another origin.",
}
_ERROR: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}


def protect(document: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """The document with the credential of every route but health, which is optional unless `required`, and the errors without it."""
    document["components"].setdefault("securitySchemes", {})["bearer"] = _BEARER
    document["security"] = [{"bearer": []}] if required else [{}, {"bearer": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in HEALTH_PATHS:
                operation["security"] = []
                continue
            found = operation.setdefault("responses", {})
            for status, text in _REFUSED.items():
                found[status] = {"description": text, "content": _ERROR}
    return document

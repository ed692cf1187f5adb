"""Parts of `/openapi.json` for routes: their errors and event streams."""

from __future__ import annotations

from typing import Any, Final

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

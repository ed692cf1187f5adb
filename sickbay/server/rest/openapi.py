"""What a route tells `/openapi.json` of itself: how it fails, and that it streams."""

from __future__ import annotations

from typing import Any, Final

from sickbay.server.rest.schemas import ErrorBody

MISDIRECTED: Final[dict[int | str, dict[str, Any]]] = {421: {"model": ErrorBody}}
"""What every route answers under a name that is not this service's (`hostnames.py`)."""


def fails(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail so; it always can with 421, 500 and 503."""
    return {status: {"model": ErrorBody} for status in (*statuses, 500, 503)} | MISDIRECTED


ENDED: Final[dict[int | str, dict[str, Any]]] = {204: {"description": "The job has ended, and `Last-Event-ID` says that its end was told."}}
"""What a stream with an end answers to who knows all of it: a browser does not ask again."""


def streams(what: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers server-sent events."""
    return {200: {"description": what, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}

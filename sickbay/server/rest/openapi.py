"""What a route tells `/openapi.json` of itself: the body that it reads, how it fails, and that it streams."""

from __future__ import annotations

from typing import Any, Final

from sickbay.domain.job import NAME_PATTERN
from sickbay.server.rest.schemas import ErrorBody

_NAME: Final = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}
_PAYLOAD: Final = {"type": "object", "additionalProperties": True}
_TENANT: Final = {"type": "string", "pattern": f"^({NAME_PATTERN})?$"}
"""Empty means `default`."""
JOB_FIELDS: Final[dict[str, Any]] = {"jobType": _NAME, "payload": _PAYLOAD, "tenant": _TENANT}


def takes(
    properties: dict[str, Any], *, required: tuple[str, ...] = (), example: Any = None, can_be_missing: bool = False
) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its body itself."""
    schema = {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": not can_be_missing, "content": {"application/json": content}}}


MISDIRECTED: Final[dict[int | str, dict[str, Any]]] = {421: {"model": ErrorBody}}
"""What every route answers under a name that is not this service's (`hostnames.py`)."""


def fails(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail so; it always can with 421, 500 and 503."""
    return {status: {"model": ErrorBody} for status in (*statuses, 500, 503)} | MISDIRECTED


def changes(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that changes something: it also refuses pages of other origins, and bodies that are no JSON."""
    return fails(400, 403, 415, *statuses)


ENDED: Final[dict[int | str, dict[str, Any]]] = {204: {"description": "The job has ended, and `Last-Event-ID` says that its end was told."}}
"""What a stream with an end answers to who knows all of it: a browser does not ask again."""


def streams(what: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers server-sent events."""
    return {200: {"description": what, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}

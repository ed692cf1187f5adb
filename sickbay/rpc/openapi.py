"""What a route tells `/openapi.json` of itself: the body that it reads, how it fails, and that it streams."""

from __future__ import annotations

from typing import Any, Final

from sickbay.job import NAME_PATTERN
from sickbay.rpc.schemas import ErrorBody

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


def fails(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail so; 500 and 503 always can."""
    return {status: {"model": ErrorBody} for status in (*statuses, 500, 503)}


def streams(what: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers server-sent events."""
    return {200: {"description": what, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}

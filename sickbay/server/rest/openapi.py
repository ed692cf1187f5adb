"""What a route tells `/openapi.json` of itself: the body that it reads, how it fails, and that it streams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from sickbay.server.rest.comments import comment
from sickbay.server.rest.documents import Documents
from sickbay.server.rest.errors import STATUSES
from sickbay.server.rest.fields import JsonField
from sickbay.server.rest.routes import Route, in_place, is_whole_body
from sickbay.server.rest.schemas import ErrorBody

MISDIRECTED: Final[dict[int | str, dict[str, Any]]] = {421: {"model": ErrorBody}}
"""What every route answers under a name that is not this service's (`hostnames.py`)."""


def fails(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail so; it always can with 421, 500 and 503."""
    return {status: {"model": ErrorBody} for status in (*statuses, 500, 503)} | MISDIRECTED


def statuses(route: Route, fields: Sequence[JsonField]) -> dict[int | str, dict[str, Any]]:
    """How an RPC's route can fail: by what it reads, and by the codes that the RPC's comment names."""
    said = comment(route.rpc)
    found = {status for code, status in STATUSES.items() if re.search(rf"\b{code.name}\b", said)}
    if fields:
        found.add(HTTPStatus.BAD_REQUEST)
    if route.changes:
        found |= {HTTPStatus.FORBIDDEN, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
    if route.body:
        found.add(413)
    if any(_repeats(field.proto) for field in fields):
        found |= {HTTPStatus.CONFLICT, 422}
    return fails(*sorted(found))


def _repeats(field: FieldDescriptor) -> bool:
    """Whether a field tells a repeated request, or has one that does."""
    return field.name == "request_id" or (field.message_type is not None and "request_id" in field.message_type.fields_by_name)


def described(route: Route, fields: Sequence[JsonField], documents: Documents, example: Any) -> dict[str, Any] | None:
    """The body of a route, which it reads itself."""
    if not route.body:
        return None
    descriptor = route.rpc.input_type
    inside = in_place(route, list(fields), "body")
    schema = documents.asked(descriptor, inside)
    if not is_whole_body(route):
        schema = schema["properties"][inside[0].name]
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": bool(schema.get("required")), "content": {"application/json": content}}}


ENDED: Final[dict[int | str, dict[str, Any]]] = {204: {"description": "The job has ended, and `Last-Event-ID` says that its end was told."}}
"""What a stream with an end answers to who knows all of it: a browser does not ask again."""


def streams(what: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers server-sent events."""
    return {200: {"description": what, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}

"""REST requests to messages: path, query, headers and body, each read once and validated strictly.

FastAPI reads path, query and headers with the parameters created here; `body.py` reads the body with a struct created here. So all routes
have the same error messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import Parameter
from typing import Annotated, Any, Final

import msgspec
from fastapi import Header, Path, Query, Request
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from pydantic import ConfigDict, Field, create_model

from sickbay.domain.errors import InvalidArgument
from sickbay.server.rest.body import read_body
from sickbay.server.rest.guard import Name
from sickbay.server.rest.transcoding.bodies import BodyReader, Read, Values, build_message, reader_of, with_field_name
from sickbay.server.rest.transcoding.comments import comment
from sickbay.server.rest.transcoding.fields import PLAIN, JsonField, Shapes, request_fields
from sickbay.server.rest.transcoding.kinds import JSON_TEXT, REPEAT_DESCRIPTION, Kind
from sickbay.server.rest.transcoding.routes import Route, in_place, is_whole_body

_QUERY: Final = "_query"
_HEADERS: Final[Mapping[str, tuple[str, Any]]] = {
    "request_id": ("idempotency-key", {"min_length": 1, "max_length": 128, "description": REPEAT_DESCRIPTION}),
    "resume_token": ("Last-Event-ID", {"description": "The id of the last event of an earlier stream, to continue after it."}),
}
_ONCE: Final = {"request_id": "Idempotency-Key"}
"""Headers that must not be repeated: the sender expects protection, and would not have it."""


class RequestReader:
    """Converts the requests of one route to messages."""

    def __init__(self, route: Route, shapes: Shapes, *, lenient: bool = False) -> None:
        """`lenient`: ignore unknown parameters in the query of a list."""
        descriptor = route.rpc.input_type
        self.fields = request_fields(descriptor, shapes.get(descriptor.full_name, PLAIN))
        self._message: Any = GetMessageClass(descriptor)
        self._path, self._query, self._header = (in_place(route, self.fields, place) for place in ("path", "query", "header"))
        self._reads = {field.proto.name: _reader(field) for field in (*self._path, *self._query)}
        forbid = "page_token" in descriptor.fields_by_name and not lenient
        self._model = _query_model(route, self._query, forbid=forbid) if self._query else None
        self._body = self._body_reader(route, shapes)
        self._part = "" if is_whole_body(route) else route.body

    def _body_reader(self, route: Route, shapes: Shapes) -> BodyReader | None:
        if not route.body:
            return None
        if is_whole_body(route):
            return BodyReader(route.rpc.input_type, in_place(route, self.fields, "body"), shapes)
        (part,) = in_place(route, self.fields, "body")
        return reader_of(part.message, shapes)

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters that FastAPI reads."""
        path = [
            Parameter(one.name, Parameter.KEYWORD_ONLY, annotation=Annotated[_path_type(one), Path(**_description(one))])
            for one in self._path
        ]
        query = [Parameter(_QUERY, Parameter.KEYWORD_ONLY, annotation=Annotated[self._model, Query()])] if self._query else []
        return [*path, *query, *map(_header, self._header)]

    async def message(self, request: Request, given: Mapping[str, Any]) -> Message:
        """The message, from the parameters that FastAPI has read and from the body; InvalidArgument says what is wrong."""
        values: Values = {}
        if self._body is not None:
            body = await read_body(request, self._body.struct)
            values = {self._part: self._body.message(body)} if self._part else self._body.values(body)
        for one in self._path:
            values[one.proto.name] = self._read(one, given[one.name])
        query = given.get(_QUERY)
        for one in self._query:
            value = getattr(query, _attribute(one))
            if value is not None and value != one.default:
                values[one.proto.name] = self._read(one, value)
        for one in self._header:
            values[one.proto.name] = _sent_once(request, one, given[one.proto.name])
        return build_message(self._message, values)

    def _read(self, one: JsonField, value: Any) -> Any:
        read = self._reads[one.proto.name]
        return read(value) if read else value


def _reader(field: JsonField) -> Read | None:
    kind = _scalar(field)
    read = None if kind is JSON_TEXT else kind.read
    if read is None:
        return None
    return with_field_name(field.name, read if not field.proto.is_repeated else lambda values: [read(value) for value in values])


def _scalar(field: JsonField) -> Kind:
    if field.kind is None or field.entries is not None or (field.kind.type is msgspec.Raw and field.kind is not JSON_TEXT):
        raise ValueError(f"{field.proto.full_name} is a message, which cannot be sent in a query or path; give its RPC a body")
    return field.kind


def _plain_type(field: JsonField) -> Any:
    """The type of one value for pydantic."""
    kind = _scalar(field)
    return str if kind is JSON_TEXT else Annotated[kind.type, _bounded(kind)] if kind.bounds else kind.type


def _bounded(kind: Kind) -> Any:
    return Field(ge=kind.bounds.get("ge"), le=kind.bounds.get("le"))


def _path_type(field: JsonField) -> Any:
    return Name if _scalar(field).type is str else _plain_type(field)


def _query_model(route: Route, fields: Sequence[JsonField], *, forbid: bool) -> Any:
    members: Any = {_attribute(field): _query_member(field) for field in fields}
    return create_model(f"{route.rpc.name}Query", __config__=ConfigDict(extra="forbid" if forbid else "ignore"), **members)


def _query_member(field: JsonField) -> tuple[Any, Any]:
    schema, default = dict(field.schema), field.default
    kind, of = _scalar(field), _plain_type(field)
    names = schema.get("enum", kind.schema.get("enum"))
    if field.proto.is_repeated:
        of, default = list[of], []  # type: ignore[valid-type]
        schema = schema | ({"items": {"enum": names}} if names else {})
    elif default is msgspec.UNSET:
        of, default = of | None, None
    elif names:
        schema = schema | {"enum": ["", *names]}
    return of, Field(default=default, alias=field.name, json_schema_extra=schema or None, **_description(field))


def _header(field: JsonField) -> Parameter:
    alias, extra = _HEADERS[field.proto.name]
    annotation = Annotated[str, Header(alias=alias, **(_description(field) | extra))]
    return Parameter(field.proto.name, Parameter.KEYWORD_ONLY, default="", annotation=annotation)


def _sent_once(request: Request, field: JsonField, value: str) -> str:
    header = _ONCE.get(field.proto.name)
    if header and len(request.headers.getlist(header)) > 1:
        raise InvalidArgument(f"duplicate header {header}; send it once")
    return value


def _attribute(field: JsonField) -> str:
    return f"f_{field.proto.name}"


def _description(field: JsonField) -> dict[str, Any]:
    description = field.schema.get("description") or comment(field.proto)
    return {"description": description} if description else {}

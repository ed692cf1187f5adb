"""JSON Schema of requests and responses, for `/openapi.json`, with the contract's comments as descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from pydantic import TypeAdapter

from sickbay.server.rest import schemas
from sickbay.server.rest.errors import STATUSES
from sickbay.server.rest.openapi import fails
from sickbay.server.rest.transcoding.comments import comment
from sickbay.server.rest.transcoding.fields import PLAIN, JsonField, Shape, Shapes, request_fields, response_fields
from sickbay.server.rest.transcoding.kinds import Schema
from sickbay.server.rest.transcoding.render import ALWAYS_SPARSE
from sickbay.server.rest.transcoding.routes import Route, in_place, is_whole_body

_REF: Final = "#/components/schemas/"


class Documents:
    """The schemas of one application; `components` are those referenced by others."""

    def __init__(self, shapes: Shapes) -> None:
        """`shapes` are the exceptions for some messages."""
        self._shapes = shapes
        self.components: dict[str, Any] = {}

    def response_schema(self, descriptor: Descriptor, field: str = "") -> Schema:
        """The schema of a response; `field` is the only field that is sent, if set."""
        if not field:
            return self._ref(descriptor)
        shape = self._shape(descriptor)
        return next(self._response_field(one) for one in response_fields(descriptor, shape) if one.proto.name == field)

    def request_schema(self, descriptor: Descriptor, fields: Sequence[JsonField], within: frozenset[str] = frozenset()) -> Schema:
        """The schema of a request body."""
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {one.name: self._request_field(one, within | {descriptor.full_name}) for one in fields},
            "required": [one.name for one in fields if is_required(one)],
        }

    def body(self, route: Route, fields: Sequence[JsonField], example: Any) -> dict[str, Any] | None:
        """The `openapi_extra` of a route, since FastAPI does not read its body."""
        if not route.body:
            return None
        inside = in_place(route, fields, "body")
        schema = self.request_schema(route.rpc.input_type, inside)
        if not is_whole_body(route):
            schema = schema["properties"][inside[0].name]
        content = {"schema": schema} if example is None else {"schema": schema, "example": example}
        return {"requestBody": {"required": bool(schema.get("required")), "content": {"application/json": content}}}

    def _shape(self, descriptor: Descriptor) -> Shape:
        return self._shapes.get(descriptor.full_name, PLAIN)

    def _request_field(self, one: JsonField, within: frozenset[str]) -> Schema:
        value: Schema = {} if one.kind is None else one.kind.schema
        of = one.message
        if one.kind is None and of.full_name not in within:
            value = self.request_schema(of, request_fields(of, self._shape(of)), within)
        return _merged(_with_description(one, _as_collection(one, value)), one.schema)

    def _response_field(self, one: JsonField) -> Schema:
        return _with_description(one, _as_collection(one, self._ref(one.message) if one.kind is None else one.kind.schema))

    def _ref(self, descriptor: Descriptor) -> Schema:
        shape = self._shape(descriptor)
        name = shape.body or descriptor.full_name.removeprefix(f"{descriptor.file.package}.").replace(".", "")
        if name not in self.components:
            self.components[name] = {}  # it may be recursive
            self.components.update(_model(name) if shape.body else {name: self._object(descriptor, shape)})
        return {"$ref": _REF + name}

    def _object(self, descriptor: Descriptor, shape: Shape) -> Schema:
        fields = response_fields(descriptor, shape)
        inner = next((one for one in fields if one.proto.name == shape.inline), None)
        base = self._object(inner.message, self._shape(inner.message)) if inner else {"properties": {}, "required": []}
        others = [one for one in fields if one is not inner]
        return {
            "type": "object",
            "description": comment(descriptor),
            "additionalProperties": False,
            "properties": base["properties"] | {one.name: self._response_field(one) for one in others},
            "required": base["required"] + [one.name for one in others if _is_always_set(one, shape)],
        }


def statuses(route: Route, fields: Sequence[JsonField]) -> dict[int | str, dict[str, Any]]:
    """The error responses of an RPC's route: by its parameters, and by the codes that the RPC's comment names."""
    description = comment(route.rpc)
    found = {status for code, status in STATUSES.items() if re.search(rf"\b{code.name}\b", description)}
    if fields:
        found.add(HTTPStatus.BAD_REQUEST)
    if route.changes:
        found |= {HTTPStatus.FORBIDDEN, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
    if route.body:
        found.add(413)
    if any(_has_idempotency_key(field.proto) for field in fields):
        found |= {HTTPStatus.CONFLICT, 422}
    return fails(*sorted(found))


def _has_idempotency_key(field: FieldDescriptor) -> bool:
    """Whether a field is an idempotency key, or a message with one."""
    return field.name == "request_id" or (field.message_type is not None and "request_id" in field.message_type.fields_by_name)


def is_required(one: JsonField) -> bool:
    """Whether the comment of a field, or of its oneof, says that it is required."""
    oneof = one.proto.containing_oneof
    return comment(one.proto).startswith("Required") or (oneof is not None and comment(oneof).startswith("Required"))


def _is_always_set(one: JsonField, shape: Shape) -> bool:
    name = one.proto.name
    sparse = name in shape.sparse | ALWAYS_SPARSE or name in shape.along
    text = one.kind is not None and one.kind.write is not None and one.proto.name.endswith("_json")
    return not sparse and not text and (one.proto.is_repeated or not one.proto.has_presence)


def _as_collection(one: JsonField, value: Schema) -> Schema:
    if one.entries is not None:
        return {"type": "object", "additionalProperties": value}
    return {"type": "array", "items": value} if one.proto.is_repeated else value


def _with_description(one: JsonField, schema: Schema) -> Schema:
    description = comment(one.proto)
    return {"description": description, **schema} if description else schema


def _merged(schema: Schema, more: Schema) -> Schema:
    both = {
        name: _merged(schema[name], value) if isinstance(value, Mapping) and isinstance(schema.get(name), Mapping) else value
        for name, value in more.items()
    }
    return {**schema, **both}


def _model(name: str) -> dict[str, Any]:
    """A model of `schemas.py`, with its nested models."""
    found = TypeAdapter(getattr(schemas, name)).json_schema(ref_template=_REF + "{model}")
    return {**found.pop("$defs", {}), name: found}

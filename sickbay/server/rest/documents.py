"""JSON Schema of messages, for `/openapi.json`: of what is asked for and of what is told, with the contract's comments as descriptions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from pydantic import TypeAdapter

from sickbay.server.rest import schemas
from sickbay.server.rest.comments import comment
from sickbay.server.rest.fields import PLAIN, JsonField, Shape, Shapes, asked_fields, told_fields
from sickbay.server.rest.kinds import Schema
from sickbay.server.rest.render import ALWAYS_SPARSE

_REF: Final = "#/components/schemas/"


class Documents:
    """The schemas of one application; `components` are those that others refer to."""

    def __init__(self, shapes: Shapes) -> None:
        """`shapes` is what some messages do otherwise."""
        self._shapes = shapes
        self.components: dict[str, Any] = {}

    def told(self, descriptor: Descriptor, field: str = "") -> Schema:
        """What an answer holds; `field` is what alone is told of the message."""
        if not field:
            return self._ref(descriptor)
        shape = self._shape(descriptor)
        return next(self._told_field(one) for one in told_fields(descriptor, shape) if one.proto.name == field)

    def asked(self, descriptor: Descriptor, fields: Iterable[JsonField], within: frozenset[str] = frozenset()) -> Schema:
        """What a body may hold."""
        fields = list(fields)
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {one.name: self._asked_field(one, within | {descriptor.full_name}) for one in fields},
            "required": [one.name for one in fields if is_required(one)],
        }

    def _shape(self, descriptor: Descriptor) -> Shape:
        return self._shapes.get(descriptor.full_name, PLAIN)

    def _asked_field(self, one: JsonField, within: frozenset[str]) -> Schema:
        value: Schema = {} if one.kind is None else one.kind.schema
        of = one.message
        if one.kind is None and of.full_name not in within:
            value = self.asked(of, asked_fields(of, self._shape(of)), within)
        return _merged(_described(one, _gathered(one, value)), one.schema)

    def _told_field(self, one: JsonField) -> Schema:
        return _described(one, _gathered(one, self._ref(one.message) if one.kind is None else one.kind.schema))

    def _ref(self, descriptor: Descriptor) -> Schema:
        shape = self._shape(descriptor)
        name = shape.body or descriptor.full_name.removeprefix(f"{descriptor.file.package}.").replace(".", "")
        if name not in self.components:
            self.components[name] = {}  # it may hold itself
            self.components.update(_model(name) if shape.body else {name: self._object(descriptor, shape)})
        return {"$ref": _REF + name}

    def _object(self, descriptor: Descriptor, shape: Shape) -> Schema:
        fields = told_fields(descriptor, shape)
        inner = next((one for one in fields if one.proto.name == shape.inline), None)
        base = self._object(inner.message, self._shape(inner.message)) if inner else {"properties": {}, "required": []}
        others = [one for one in fields if one is not inner]
        return {
            "type": "object",
            "description": comment(descriptor),
            "additionalProperties": False,
            "properties": base["properties"] | {one.name: self._told_field(one) for one in others},
            "required": base["required"] + [one.name for one in others if _always(one, shape)],
        }


def is_required(one: JsonField) -> bool:
    """Whether the contract calls a field of a request, or the choice that it is the answer to, required."""
    oneof = one.proto.containing_oneof
    return comment(one.proto).startswith("Required") or (oneof is not None and comment(oneof).startswith("Required"))


def _always(one: JsonField, shape: Shape) -> bool:
    name = one.proto.name
    sparse = name in shape.sparse | ALWAYS_SPARSE or name in shape.along
    text = one.kind is not None and one.kind.write is not None and one.proto.name.endswith("_json")
    return not sparse and not text and (one.proto.is_repeated or not one.proto.has_presence)


def _gathered(one: JsonField, value: Schema) -> Schema:
    if one.entries is not None:
        return {"type": "object", "additionalProperties": value}
    return {"type": "array", "items": value} if one.proto.is_repeated else value


def _described(one: JsonField, schema: Schema) -> Schema:
    said = comment(one.proto)
    return {"description": said, **schema} if said else schema


def _merged(schema: Schema, more: Schema) -> Schema:
    both = {
        name: _merged(schema[name], value) if isinstance(value, Mapping) and isinstance(schema.get(name), Mapping) else value
        for name, value in more.items()
    }
    return {**schema, **both}


def _model(name: str) -> dict[str, Any]:
    """A model of `schemas.py`, and those that it holds."""
    found = TypeAdapter(getattr(schemas, name)).json_schema(ref_template=_REF + "{model}")
    return {**found.pop("$defs", {}), name: found}

"""The fields of a message in JSON and their names, and the exceptions for a message (`Shape`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration

from sickbay.server.rest.transcoding.kinds import Kind, Schema, is_json_text, of_field

View = dict[str, Any]
"""An object that `encode` converts to JSON."""

REQUEST_NAMES: Final[Mapping[str, str]] = {"actor": "by", "request_id": "idempotencyKey"}
"""Names in requests only."""
_NOT_IN_RESPONSES: Final = frozenset({"resume_token"})
"""It is sent as the id of its event."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The exceptions of one message from these rules. Every key is the name of a field in the contract."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Names in JSON."""
    hidden: frozenset[str] = frozenset()
    """Neither in requests nor in responses."""
    sparse: frozenset[str] = frozenset()
    """Omitted from responses if empty."""
    along: Mapping[str, str] = field(default_factory=dict)
    """In responses only if the other field is not empty."""
    inline: str = ""
    """A message whose fields replace it, beside the other fields."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Formats of values."""
    documented: Mapping[str, Schema] = field(default_factory=dict)
    """What the servicer validates, for `/openapi.json`: it is merged into the field's schema."""
    view: Callable[[Any], View] | None = None
    """Creates the whole response; its schema is the model `body` of `schemas.py`."""
    body: str = ""


Shapes = Mapping[str, Shape]
"""By the full name of the message."""
PLAIN: Final = Shape()


@dataclass(frozen=True, slots=True)
class JsonField:
    """One field: `kind` is None for a message with its own fields."""

    proto: FieldDescriptor
    name: str
    kind: Kind | None
    schema: Schema

    @property
    def entries(self) -> Descriptor | None:
        """The entry message of a map; None if the field is not a map."""
        of = self.proto.message_type
        return of if of is not None and of.GetOptions().map_entry else None

    @property
    def message(self) -> Any:
        """The message type of one value."""
        entries = self.entries
        return self.proto.message_type if entries is None else entries.fields_by_name["value"].message_type

    @property
    def default(self) -> Any:
        """The value if a request omits it; UNSET if that is different from all values."""
        return msgspec.UNSET if self.kind is None or (self.proto.has_presence and not self.proto.is_repeated) else self.kind.default


def request_fields(descriptor: Descriptor, shape: Shape) -> list[JsonField]:
    """The fields of a request."""
    return [_field(proto, shape, REQUEST_NAMES) for proto in _shown(descriptor, shape)]


def response_fields(descriptor: Descriptor, shape: Shape) -> list[JsonField]:
    """The fields of a response."""
    return [_field(proto, shape, {}) for proto in _shown(descriptor, shape) if proto.name not in _NOT_IN_RESPONSES]


def _shown(descriptor: Descriptor, shape: Shape) -> list[FieldDescriptor]:
    """A Struct is omitted if the same content is available as JSON text, which is lossless."""
    twins = {f.name.removesuffix("_json") for f in descriptor.fields if is_json_text(f)}
    return [proto for proto in descriptor.fields if proto.name not in shape.hidden | twins]


def _field(proto: FieldDescriptor, shape: Shape, names: Mapping[str, str]) -> JsonField:
    name = shape.names.get(proto.name) or names.get(proto.name) or _name(proto)
    entry = proto.message_type if proto.message_type is not None and proto.message_type.GetOptions().map_entry else None
    value = entry.fields_by_name["value"] if entry is not None else proto
    return JsonField(proto, name, shape.kinds.get(proto.name) or of_field(value), shape.documented.get(proto.name, {}))


def _name(proto: FieldDescriptor) -> str:
    name = str(proto.json_name)
    if is_json_text(proto):
        return name.removesuffix("Json")
    is_span = proto.message_type is not None and proto.message_type.full_name == Duration.DESCRIPTOR.full_name
    return f"{name}Seconds" if is_span else name

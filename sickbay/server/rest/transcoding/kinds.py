"""The JSON format of the value of one protobuf field, independent of the message that contains it.

Differences from protobuf JSON: enums lose their prefix, times have milliseconds, a Duration is a number of seconds, and text that is itself
JSON (`payload_json`) is passed through byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from sickbay.server.enums import number
from sickbay.server.rest.body import text
from sickbay.server.rest.transcoding.times import millis, rfc3339

Schema = Mapping[str, Any]
"""JSON Schema."""

_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MAX_SECONDS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Kind:
    """One format. `type` is what msgspec decodes in a body; `read` and `write` convert from JSON to protobuf and back (None: unchanged)."""

    type: Any
    schema: Schema
    default: Any = msgspec.UNSET
    read: Callable[[Any], Any] | None = None
    write: Callable[[Any], Any] | None = None
    bounds: Mapping[str, int] = field(default_factory=dict)
    """`ge` and `le`, for values in a query."""


def whole(least: int, most: int) -> Kind:
    """An integer within bounds."""
    bounds = {"ge": least, "le": most}
    return Kind(Annotated[int, msgspec.Meta(ge=least, le=most)], {"type": "integer", "minimum": least, "maximum": most}, 0, bounds=bounds)


def whole_seconds(least: int, most: int) -> Kind:
    """A Duration as an integer."""
    kind = whole(least, most)
    return Kind(kind.type, kind.schema, read=lambda seconds: Duration(seconds=seconds), write=_seconds, bounds=kind.bounds)


def flag(no: int, yes: int) -> Kind:
    """An enum of which requests use two values, as a boolean."""
    return Kind(bool, {"type": "boolean"}, default=False, read=lambda wanted: yes if wanted else no)


def of_enum(enum: EnumDescriptor) -> Kind:
    """An enum by name, without the prefix that protobuf requires; the zero value cannot be requested."""
    prefix = _HUMP.sub("_", enum.name).upper()
    names = {value.number: value.name.removeprefix(f"{prefix}_") for value in enum.values}
    known = [name for value, name in names.items() if value]
    wrapper: Any = EnumTypeWrapper(enum)
    return Kind(
        str,
        {"type": "string", "enum": known},
        "",
        read=lambda name: number(wrapper, prefix, name),
        write=lambda value: names.get(value, value),
    )


def known_value(enum: EnumDescriptor) -> Kind:
    """An enum of which the zero value is omitted from responses: it says that there is nothing to say."""
    kind = of_enum(enum)
    return replace(kind, write=lambda value: kind.write(value) if value and kind.write is not None else None)


def of_any(descriptor: Descriptor) -> Kind:
    """A message in protobuf's JSON format: for Struct and similar types, and for recursive messages."""
    kind: Any = GetMessageClass(descriptor)

    def read(raw: msgspec.Raw) -> Any:
        try:
            return json_format.Parse(text(raw), kind())
        except json_format.ParseError as error:
            raise ValueError(str(error)[:_SHOWN_CHARS]) from None

    return Kind(msgspec.Raw, {}, read=read, write=json_format.MessageToDict)


def of_field(proto: FieldDescriptor) -> Kind | None:
    """The format of one value of a field; None for messages of the contract."""
    if proto.message_type is not None:
        return _of_message(proto.message_type)
    if proto.enum_type is not None:
        return of_enum(proto.enum_type)
    if is_json_text(proto):
        return JSON_TEXT
    return _BY_NAME.get(proto.name) or _BY_TYPE[proto.cpp_type if proto.type != FieldDescriptor.TYPE_BYTES else _BYTES]


def is_json_text(proto: FieldDescriptor) -> bool:
    """Whether a field contains JSON text, which is embedded in JSON instead of quoted."""
    return bool(proto.type == FieldDescriptor.TYPE_STRING and proto.name.endswith("_json"))


def _of_message(descriptor: Descriptor) -> Kind | None:
    if descriptor.full_name == Timestamp.DESCRIPTOR.full_name:
        return TIME
    if descriptor.full_name == Duration.DESCRIPTOR.full_name:
        return SECONDS
    return of_any(descriptor) if descriptor.full_name.startswith("google.") else None


def _time(words: str) -> Timestamp:
    time = Timestamp()
    try:
        time.FromJsonString(words)
    except ValueError:
        raise ValueError("expected a time as RFC 3339, for example 2024-01-01T00:00:00Z") from None
    return time


def _seconds(span: Duration) -> float:
    ms = span.seconds * 1000 + span.nanos // 1_000_000
    return ms / 1000 if ms % 1000 else ms // 1000


def _span(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    span = Duration()
    span.FromMilliseconds(round(min(max(seconds, -_MAX_SECONDS), _MAX_SECONDS) * 1000))
    return span


def _bytes(words: str) -> bytes:
    try:
        return base64.b64decode(words, validate=True)
    except binascii.Error:
        raise ValueError("expected base64") from None


def _key(words: str) -> str:
    """Reject an empty key: its sender expects protection against repeats, and would not have it."""
    if not words:
        raise ValueError("idempotencyKey is empty; send a key, for example a UUID, or leave it out")
    return words


def _uint64(value: int) -> int:
    if value >= 2**64:
        raise ValueError("expected an integer below 2^64")
    return value


REPEAT_DESCRIPTION: Final = "A repeat with the same key within 24 hours returns the first response."
"""The description of an idempotency key."""
_SHOWN_CHARS: Final = 200
_BYTES: Final = -1
TEXT: Final = Kind(str, {"type": "string"}, "")
JSON_TEXT: Final = Kind(
    msgspec.Raw,
    {"type": "object", "additionalProperties": True},
    read=text,
    write=lambda words: msgspec.Raw(words.encode()) if words else None,
)
JSON_VALUE: Final = replace(JSON_TEXT, schema={})
"""The same for text whose value need not be an object."""
TIME: Final = Kind(str, {"type": "string", "format": "date-time"}, read=_time, write=lambda time: rfc3339(millis(time)))
SECONDS: Final = Kind(float | None, {"type": ["number", "null"]}, read=_span, write=_seconds)
_NUMBER: Final = Kind(float, {"type": "number"}, 0.0)
_BY_TYPE: Final[Mapping[int, Kind]] = {
    FieldDescriptor.CPPTYPE_INT32: whole(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: whole(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: whole(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: Kind(
        Annotated[int, msgspec.Meta(ge=0)], {"type": "integer", "minimum": 0}, 0, read=_uint64, bounds={"ge": 0}
    ),
    FieldDescriptor.CPPTYPE_DOUBLE: _NUMBER,
    FieldDescriptor.CPPTYPE_FLOAT: _NUMBER,
    FieldDescriptor.CPPTYPE_BOOL: Kind(bool, {"type": "boolean"}, default=False),
    FieldDescriptor.CPPTYPE_STRING: TEXT,
    _BYTES: Kind(str, {"type": "string", "format": "byte"}, "", read=_bytes, write=lambda data: base64.b64encode(data).decode()),
}
_BY_NAME: Final[Mapping[str, Kind]] = {
    "page_size": whole(0, 1000),
    "request_id": Kind(str, {"type": "string", "minLength": 1, "maxLength": 128, "description": REPEAT_DESCRIPTION}, read=_key),
}
"""Formats of fields by name, in all requests."""

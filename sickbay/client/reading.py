"""Turns messages of the contract into frozen dataclasses: field by field, by name.

Times become aware datetimes in UTC, durations timedeltas, enums the domain's StrEnums (or text, where the set is open), repeated fields
tuples, payloads JSON text. What is unset is None. A field that a newer service sends and the dataclass lacks is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from sickbay.client.errors import ServerFault
from sickbay.domain.priority import Priority

T = TypeVar("T")

_UNSET: Final[Mapping[type[StrEnum], StrEnum]] = {Priority: Priority.NORMAL}
"""What the zero value means: a service from before there were priorities sends none."""
_UNIONS: Final = (Union, UnionType)
_Reader = Callable[[Any], Any]


def read(message: Message, kind: type[T]) -> T:
    """The message as a `kind`, a dataclass whose fields are all fields of the message. ServerFault if a closed enum has a new value."""
    return kind(**{name: reader(message) for name, reader in _readers(cast("Hashable", kind), message.DESCRIPTOR).items()})


@cache
def _readers(kind: Hashable, descriptor: Hashable) -> Mapping[str, _Reader]:
    hints = get_type_hints(kind)
    found = cast("Any", descriptor).fields_by_name
    return {one.name: _reader(found[one.name], hints[one.name]) for one in fields(cast("Any", kind)) if one.init}


def _reader(field: FieldDescriptor, hint: Any) -> _Reader:
    name, is_optional = field.name, get_origin(hint) in _UNIONS
    inner = next(one for one in get_args(hint) if one is not type(None)) if is_optional else hint
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return lambda message: dict(getattr(message, name))
    if field.is_repeated:
        element = _converter(field, get_args(inner)[0])
        return lambda message: tuple(map(element, getattr(message, name)))
    if field.message_type is not None and field.message_type.full_name == Struct.DESCRIPTOR.full_name:
        return lambda message: getattr(message, f"{name}_json")  # beside each payload, and the one that services send
    convert = _converter(field, inner)
    if field.has_presence:
        return lambda message: convert(getattr(message, name)) if message.HasField(name) else None
    if is_optional and field.enum_type is not None:
        return lambda message: convert(getattr(message, name)) if getattr(message, name) else None
    return lambda message: convert(getattr(message, name))


def _converter(field: FieldDescriptor, kind: Any) -> _Reader:
    if field.message_type is not None:
        full_name = field.message_type.full_name
        if full_name == Timestamp.DESCRIPTOR.full_name:
            return moment
        if full_name == Duration.DESCRIPTOR.full_name:
            return _span
        return lambda message: read(message, kind)
    if field.enum_type is not None:
        enum_type = field.enum_type
        if issubclass(kind, StrEnum):
            return lambda number: _member(enum_type, number, kind)
        return lambda number: _name(enum_type, number)
    return str.encode if kind is bytes else _same


def moment(time: Timestamp) -> datetime:
    """To the microsecond."""
    return datetime.fromtimestamp(time.seconds, UTC) + timedelta(microseconds=time.nanos // 1_000)


def _span(duration: Duration) -> timedelta:
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos / 1_000)


def _member(enum: EnumDescriptor, number: int, kind: type[StrEnum]) -> StrEnum:
    if not number and kind in _UNSET:
        return _UNSET[kind]
    try:
        return kind(_name(enum, number))
    except ValueError:
        msg = f"this version of the client does not know {enum.full_name} {number}; update it"
        raise ServerFault(msg) from None


def _name(enum: EnumDescriptor, number: int) -> str:
    """The name without the enum's prefix; empty for the zero value, and the digits of a number that a newer service has added."""
    if not number:
        return ""
    known = enum.values_by_number.get(number)
    return known.name.removeprefix(prefix(enum)) if known is not None else str(number)


def prefix(enum: EnumDescriptor) -> str:
    """What all values of an enum begin with, for example `STATE_`."""
    return str(enum.values_by_number[0].name).removesuffix("UNSPECIFIED")


def number(enum: EnumDescriptor, name: str | None) -> int:
    """The value of that name without prefix, in upper or lower case; 0 for None and for empty text. ValueError if there is none."""
    if not name:
        return 0
    known = enum.values_by_name.get(f"{prefix(enum)}{name.upper()}")
    if known is None:
        expected = ", ".join(one.name.removeprefix(prefix(enum)) for one in enum.values if one.number)
        msg = f"{name!r} is none of {expected}"
        raise ValueError(msg)
    return int(known.number)


def _same(value: Any) -> Any:
    return value

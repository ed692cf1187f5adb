"""JSON bodies to messages: for each message a msgspec struct is created once, and `body.py` reports the errors of a request."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sickbay.domain.errors import InvalidArgument
from sickbay.server.rest.body import Body, decode
from sickbay.server.rest.transcoding.fields import PLAIN, JsonField, Shapes, request_fields
from sickbay.server.rest.transcoding.kinds import JSON_TEXT, of_any

_INTEGER: Final = re.compile(r"-?[0-9]{1,20}")

Read = Callable[[Any], Any]
Values = dict[str, Any]
"""Fields of a message by their names in the contract."""


class BodyReader:
    """Converts JSON objects with all or some fields of a message to messages."""

    def __init__(self, descriptor: Descriptor, fields: Sequence[JsonField], shapes: Shapes, within: frozenset[str] = frozenset()) -> None:
        """`within` are the messages that contain this one."""
        self._message: Any = GetMessageClass(descriptor)
        parts = [_Member(field, shapes, within | {descriptor.full_name}) for field in fields]
        members = [(one.attribute, one.type, msgspec.field(default=one.default, name=one.name)) for one in parts]
        self._steps = [(one.attribute, one.default, one.field, one.read) for one in parts]
        self.struct: type[Body] = msgspec.defstruct(descriptor.name, members, bases=(Body,), frozen=True)  # type: ignore[assignment]
        self._choices = _choices(fields)

    def decode(self, data: bytes) -> Message:
        """The message of a JSON object; InvalidArgument says what is wrong."""
        return self.message(decode(data, self.struct))

    def message(self, body: Body) -> Message:
        """The message of a decoded object."""
        return build_message(self._message, self.values(body))

    def values(self, body: Body) -> Values:
        """Its fields by their names in the contract, without defaults."""
        values: Values = {}
        for attribute, default, name, read in self._steps:
            given = getattr(body, attribute)
            if given is not default and given != default:
                values[name] = given if read is None else read(given)
        for names in self._choices:
            if sum(one in values for one in names) > 1:
                raise InvalidArgument(f"send only one of {', '.join(names.values())}")
        return values


def build_message(kind: Any, values: Values) -> Message:
    """The message with these values; InvalidArgument if one is out of range."""
    try:
        message: Message = kind(**values)
    except (ValueError, OverflowError):
        raise InvalidArgument("a number is out of the range of its field") from None
    return message


def reader_of(descriptor: Descriptor, shapes: Shapes, within: frozenset[str] = frozenset()) -> BodyReader:
    """The reader of a whole message."""
    return BodyReader(descriptor, request_fields(descriptor, shapes.get(descriptor.full_name, PLAIN)), shapes, within)


class _Member:
    """One field of a body."""

    def __init__(self, field: JsonField, shapes: Shapes, within: frozenset[str]) -> None:
        self.field, self.name = field.proto.name, field.name
        self.attribute = f"f_{self.field}"
        self.type: Any
        self.default: Any
        self.read: Read | None
        of, read = _one(field, shapes, within)
        if field.entries is not None:
            self.type, self.read, self.default = dict[str, of], _each_entry(field.entries, read), msgspec.UNSET  # type: ignore[valid-type]
        elif field.proto.is_repeated:
            self.type, self.read, self.default = tuple[of, ...], _each(read), ()  # type: ignore[valid-type]
        else:
            self.read, self.default = read, field.default
            self.type = of if self.default is not msgspec.UNSET else of | msgspec.UnsetType
        if self.read is not None and field.kind is not JSON_TEXT:
            self.read = with_field_name(self.name, self.read)


def _one(field: JsonField, shapes: Shapes, within: frozenset[str]) -> tuple[Any, Read | None]:
    """The type of one value of a field, and its conversion to protobuf."""
    kind = field.kind
    if kind is None:
        if field.message.full_name not in within:
            reader = reader_of(field.message, shapes, within)
            return reader.struct, reader.message
        kind = of_any(field.message)
    return kind.type, kind.read


def with_field_name(name: str, read: Read) -> Read:
    """A conversion that adds the name of the field to errors."""

    def read_named(value: Any) -> Any:
        try:
            return read(value)
        except ValueError as error:
            problem = str(error)
            raise InvalidArgument(problem if problem.startswith(name) else f"{name}: {problem}") from None

    return read_named


def _each(read: Read | None) -> Read | None:
    return (lambda values: [read(value) for value in values]) if read else None


def _each_entry(entry: Descriptor, read: Read | None) -> Read | None:
    name, change = _entry_name(entry), read or (lambda value: value)
    return lambda values: {name(key): change(value) for key, value in values.items()}


def _entry_name(entry: Descriptor) -> Read:
    """The conversion of a name in a JSON object to the key of a map."""
    key = entry.fields_by_name["key"]
    if key.cpp_type == key.CPPTYPE_STRING:
        return str
    return _boolean if key.cpp_type == key.CPPTYPE_BOOL else _integer


def _boolean(name: str) -> bool:
    if name not in {"true", "false"}:
        raise ValueError("every name must be true or false")
    return name == "true"


def _integer(name: str) -> int:
    if not _INTEGER.fullmatch(name):
        raise ValueError("every name must be an integer")
    return int(name)


def _choices(fields: Sequence[JsonField]) -> list[dict[str, str]]:
    """The names of fields of which only one may be set."""
    groups: dict[str, dict[str, str]] = {}
    for field in fields:
        oneof = field.proto.containing_oneof
        if oneof is not None:
            groups.setdefault(oneof.name, {})[field.proto.name] = field.name
    return [names for names in groups.values() if len(names) > 1]

"""Messages to the JSON of REST. Each type is analysed once; afterwards rendering costs one call per field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from sickbay.server.rest.transcoding.fields import PLAIN, JsonField, Shape, Shapes, View, response_fields

Get = Callable[[Any], Any]
"""Gets the value of one field in JSON, None if it is omitted."""

ALWAYS_SPARSE: Final = frozenset({"next_page_token"})
"""It is empty on the last page."""


class Renderer:
    """Converts messages to views."""

    def __init__(self, shapes: Shapes) -> None:
        """`shapes` are the exceptions for some messages."""
        self._shapes = shapes
        self._renderers: dict[type, Callable[[Any], View]] = {}

    def __call__(self, message: Message) -> View:
        """The view of a message."""
        kind: Any = type(message)
        renderer = self._renderers.get(kind)
        if renderer is None:
            renderer = self._renderers[kind] = self._make(kind.DESCRIPTOR, self._shapes.get(kind.DESCRIPTOR.full_name, PLAIN))
        return renderer(message)

    def answer(self, descriptor: Descriptor, field: str) -> Get:
        """A function from a reply to the body of the response; `field` is the only field that is sent, empty for all."""
        if not field:
            return self
        shape = self._shapes.get(descriptor.full_name, PLAIN)
        one = next(one for one in response_fields(descriptor, shape) if one.proto.name == field)
        if one.kind is None and not one.proto.is_repeated:
            part = attrgetter(field)
            return lambda reply: self(part(reply))
        return self._get(one, shape)

    def event(self, descriptor: Descriptor) -> tuple[str, Get]:
        """The name of a stream's events, that of the first message field of a reply, and their data: that message and the other fields."""
        shape = self._shapes.get(descriptor.full_name, PLAIN)
        fields = response_fields(descriptor, shape)
        subject = next((one for one in fields if one.kind is None and not one.proto.is_repeated), fields[0])
        return subject.name, self._make(descriptor, replace(shape, inline=subject.proto.name if subject.kind is None else ""))

    def _make(self, descriptor: Descriptor, shape: Shape) -> Callable[[Any], View]:
        if shape.view is not None:
            return shape.view
        parts = [(one.name, self._get(one, shape)) for one in response_fields(descriptor, shape) if one.proto.name != shape.inline]

        def render(message: Any) -> View:
            return {name: value for name, get in parts if (value := get(message)) is not None}

        if not shape.inline:
            return render
        inner = attrgetter(shape.inline)
        return lambda message: self(inner(message)) | render(message)

    def _get(self, one: JsonField, shape: Shape) -> Get:
        name = one.proto.name
        get = self._value(one)
        if name in shape.sparse | ALWAYS_SPARSE:
            return lambda message: get(message) or None
        if name in shape.along:
            other = attrgetter(shape.along[name])
            return lambda message: get(message) if other(message) else get(message) or None
        return get

    def _value(self, one: JsonField) -> Get:
        get: Get = attrgetter(one.proto.name)
        write = self if one.kind is None else one.kind.write
        if one.entries is not None:
            change = write or _identity
            return lambda message: {str(key): change(value) for key, value in sorted(get(message).items())}
        if one.proto.is_repeated:
            return (lambda message: [write(value) for value in get(message)]) if write else lambda message: list(get(message))
        if one.proto.has_presence:
            return _present(one.proto.name, write or _identity)
        return (lambda message: write(get(message))) if write else get


def _present(name: str, write: Get) -> Get:
    return lambda message: write(getattr(message, name)) if message.HasField(name) else None


def _identity(value: Any) -> Any:
    return value

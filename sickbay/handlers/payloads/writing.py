"""Writes payloads that are objects."""

from __future__ import annotations

import dataclasses
import importlib
from base64 import b64encode
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

from sickbay.domain.raised import class_name
from sickbay.handlers.payloads.finding import is_pydantic, is_typed
from sickbay.handlers.scalars import SCALARS, text_of_scalar


def is_payload_object(value: object) -> bool:
    """Whether it is an object of a class that payloads can have."""
    return not isinstance(value, type) and is_typed(type(value))


def payload_of(value: Any) -> dict[str, Any]:
    """The payload of such an object, in dictionaries, lists, texts, numbers, booleans and None, as its library writes them.

    TypeError if it has something that JSON cannot write; what serializers of the user raise otherwise.
    """
    payload = _plain(value)
    if not isinstance(payload, dict):
        msg = f"{class_name(type(value))} is written as {class_name(type(payload))}, and a payload must be an object"
        raise TypeError(msg)
    return payload


def _plain(value: Any) -> Any:
    if value is None or type(value) in {str, int, float, bool}:
        return value
    if is_pydantic(type(value)):
        return _dumped(value)
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Mapping):
        return {_name(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    fields = _fields(value)
    return _scalar(value) if fields is None else {name: _plain(one) for name, one in fields.items()}


def _dumped(model: Any) -> Any:
    """A model of pydantic, as it can be read again: by its aliases, without computed fields."""
    return model.__pydantic_serializer__.to_python(model, mode="json", by_alias=True, round_trip=True)


def _fields(value: Any) -> dict[str, Any] | None:
    """The fields of an object; None if it is of no such class."""
    cls = type(value)
    if hasattr(cls, "__struct_fields__"):
        found: dict[str, Any] = importlib.import_module("msgspec").to_builtins(value)
        return found
    if hasattr(cls, "__attrs_attrs__"):
        return {one.name: getattr(value, one.name) for one in cls.__attrs_attrs__}
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)} if dataclasses.is_dataclass(cls) else None


def _name(key: Any) -> str:
    plain = _plain(key)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, int) and not isinstance(plain, bool):
        return str(plain)
    msg = f"a name in it is {class_name(type(key))}"
    raise TypeError(msg)


def _scalar(value: Any) -> Any:
    if isinstance(value, SCALARS):
        return text_of_scalar(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    msg = f"it has an object of the class {class_name(type(value))}"
    raise TypeError(msg)

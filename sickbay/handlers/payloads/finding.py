"""Finds out whether an annotation is the type of a payload, and which library reads it."""

from __future__ import annotations

import dataclasses
import importlib
import types
from collections.abc import Iterator
from typing import Annotated, Any, Final, Protocol, Union, get_args, get_origin, get_type_hints

from sickbay.domain.job import Job
from sickbay.handlers.checks import HandlerMistake, show
from sickbay.handlers.payloads.naming import job_type_of

UNIONS: Final = (Union, types.UnionType)


class PayloadType(Protocol):
    """A type of payloads, with the library that reads it."""

    @property
    def name(self) -> str:
        """What the type is called, for messages."""

    @property
    def cls(self) -> Any:
        """The type itself."""

    def decode(self, text: bytes) -> Any:
        """The object in the JSON text. PayloadMismatch if it has none of this type; what a validator of the user raises otherwise."""

    def schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of what `decode` takes; raises whatever the library raises if there is none."""


class Unsupported(TypeError):
    """The type cannot be read; the message says why."""


def payload_type_of(annotation: Any) -> PayloadType:
    """How to read payloads of this type. Unsupported if that is impossible, because the type or a library is missing."""
    if not is_typed(annotation):
        raise Unsupported("a payload is a model of pydantic, a msgspec Struct, a dataclass, a class of attrs or a TypedDict")
    library = "pydantic" if any(map(is_pydantic, _mentioned(annotation))) else "msgspec"
    try:
        reader = importlib.import_module(f"sickbay.handlers.payloads.by_{library}")
        found: PayloadType = reader.Payload(annotation, name_of(annotation))
    except ImportError:
        raise Unsupported(f"it is read with {library}, which is not installed: install sickbay[server]") from None
    except Exception as error:
        raise Unsupported(f"{library} cannot read it: {error}") from error
    return found


def check_payload(handled: str, payload: PayloadType | None, validate: Any) -> None:
    """Raise HandlerMistake if the type of the payload belongs to another job type, or if nothing can be validated."""
    if validate not in ("run", "submit"):
        raise HandlerMistake(f'validate must be "run" or "submit", not {show(validate)}')
    if validate == "submit" and payload is None:
        raise HandlerMistake(
            f'the handler of {handled!r} says validate="submit", but not what its payload is: annotate its parameter, for example '
            "job: Job[Email]"
        )
    if payload is not None and (own := job_type_of(payload.cls)) and own != handled:
        raise HandlerMistake(
            f"the handler of {handled!r} takes {payload.name}, whose job type is {own!r}: make them the same, or give the handler a class "
            "of its own"
        )


def is_typed(annotation: Any) -> bool:
    """Whether this is the type of a payload: a class with fields, or a union of such."""
    plain = _plain(annotation)
    if get_origin(plain) in UNIONS:
        return all(map(is_typed, get_args(plain)))
    return _has_fields(get_origin(plain) or plain)


def name_of(annotation: Any) -> str:
    """The name of a type as one writes it."""
    plain = _plain(annotation)
    return plain.__name__ if isinstance(plain, type) and not get_args(plain) else str(plain)


def _plain(annotation: Any) -> Any:
    """Without `Annotated` and `type` aliases."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = annotation.__origin__
        elif hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        else:
            return annotation


def _has_fields(cls: Any) -> bool:
    if not isinstance(cls, type) or issubclass(cls, Job):
        return False
    is_dict = hasattr(cls, "__required_keys__") and hasattr(cls, "__total__")
    return (
        is_dict or is_pydantic(cls) or any(hasattr(cls, mark) for mark in ("__struct_fields__", "__attrs_attrs__", "__dataclass_fields__"))
    )


def is_pydantic(cls: Any) -> bool:
    """Whether it is a model of pydantic, or a dataclass of pydantic's own."""
    return isinstance(cls, type) and hasattr(cls, "__pydantic_validator__")


def _mentioned(annotation: Any) -> Iterator[Any]:
    """The classes in a type: itself, its arguments, and those of its fields."""
    waiting, seen = [annotation], set[int]()
    while waiting:
        one = _plain(waiting.pop())
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += get_args(one)
        cls = get_origin(one) or one
        if cls is not one:
            waiting.append(cls)
        if _has_fields(cls) and not is_pydantic(cls):
            waiting += _fields_of(cls)


def _fields_of(cls: type) -> list[Any]:
    try:
        return list(get_type_hints(cls, include_extras=True).values())
    except Exception:  # noqa: BLE001 - then its library says what is wrong with it
        return [one.type for one in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []

"""The classes of payload objects, for type checkers: what marks the classes of each library."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _Struct(Protocol):
    __struct_fields__: ClassVar[tuple[str, ...]]


class _Model(Protocol):
    __pydantic_fields__: ClassVar[dict[str, Any]]


class _Attrs(Protocol):
    __attrs_attrs__: ClassVar[Any]


PayloadObject = _Dataclass | _Struct | _Model | _Attrs
"""A dataclass, a msgspec Struct, a model of pydantic or an object of attrs."""

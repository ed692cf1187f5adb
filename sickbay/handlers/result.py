"""Encodes what a handler returned as JSON, to be kept with its job. Nothing here raises, whatever the value is and does.

The value is copied into plain types first, and the copy stops at 64 KiB. So a huge value costs no more than a small one, and no single
call into C holds the interpreter, and with it the other jobs of the worker, for long: encoding a list of ten million numbers would.
Foreign code (properties, pydantic's serializers) runs in here, so call it where the handler itself runs.
"""

from __future__ import annotations

import json
import math
import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from sickbay.domain.job import MAX_DIGITS
from sickbay.domain.raised import class_name, is_a
from sickbay.domain.result import MAX_RESULT_BYTES, Result, read_result, too_large
from sickbay.handlers.scalars import SCALARS, text_of_scalar

MAX_DEPTH: Final = 200
"""Levels of nesting; as many as a payload may have."""
UNREAD_IN_TIME: Final = Result(note="the result could not be read within the handler's timeout")
TOO_LARGE: Final = f"the result has more than {MAX_RESULT_BYTES:,} bytes of JSON, the most that is kept"
"""What is said of a result whose size is not known."""
_TOO_DEEP: Final = f"the result is not JSON: it is nested more than {MAX_DEPTH} levels deep, or contains itself"
_SURROGATE: Final = "the result is not JSON: it has a character that UTF-8 does not have (a lone surrogate)"
_TOO_MANY_DIGITS: Final = f"the result is not JSON: it has an integer of more than {MAX_DIGITS:,} digits"
_MAX_BITS: Final = math.ceil(MAX_DIGITS * math.log2(10))

_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def result_of(returned: object) -> Result | None:
    """What is kept of a handler's return value: its JSON, or a sentence why not; None for None."""
    if returned is None:
        return None
    try:
        text = _encode(_Copy().of(returned, 0)).encode()
    except _NotKept as why:
        return Result(note=str(why))
    except UnicodeEncodeError:
        return Result(note=_SURROGATE)
    except BaseException as error:  # noqa: BLE001 - the code of the returned object runs in there
        return Result(note=f"the result is not JSON: reading it raised {class_name(type(error))}")
    return Result(text) if len(text) <= MAX_RESULT_BYTES else too_large(len(text))


def result_of_text(text: bytes) -> Result | None:
    """What is kept of a result that is JSON already: the text as it is, if such a value could be returned; None for null."""
    try:
        value = json.loads(text.decode())
        _Copy().of(value, 0)
        _encode(value).encode()
    except _NotKept as why:
        return Result(note=str(why))
    except RecursionError:
        return Result(note=_TOO_DEEP)
    except ValueError as error:
        return Result(note=_why_not(error))
    return None if value is None else read_result(text.strip())


def _why_not(error: ValueError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return _SURROGATE
    if isinstance(error, UnicodeDecodeError):
        return "the result is not JSON: it is not UTF-8"
    return f"the result is not JSON: {error}" if isinstance(error, json.JSONDecodeError) else _TOO_MANY_DIGITS


class _NotKept(Exception):
    """Why the value is not kept, in a sentence."""


class _Copy:
    """Copies one value into dictionaries, lists, texts and numbers, until it is certain that its JSON is too large."""

    def __init__(self) -> None:
        self._left = MAX_RESULT_BYTES

    def of(self, value: Any, depth: int) -> Any:
        """The copy of a value that is `depth` levels deep."""
        copy = _EXACT.get(type(value))
        if copy is None:
            return self._of_rare(value, depth)
        if depth > MAX_DEPTH:
            raise _NotKept(_TOO_DEEP)
        return copy(self, value, depth)

    def _of_rare(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _NotKept(_TOO_DEEP)
        if is_a(value, Enum):
            return self.of(value.value, depth + 1)
        for kind, copy in _COPIES:
            if is_a(value, kind):
                return copy(self, value, depth)
        if _is_model(value):
            return self._model(value, depth)
        return self._dict(_content_of(value), depth)

    def _take(self, size: int) -> None:
        """Count the bytes that something will have at least."""
        self._left -= size
        if self._left < 0:
            raise _NotKept(TOO_LARGE)

    def _constant(self, value: Any, _: int) -> Any:
        self._take(4)
        return value

    def _str(self, value: str, _: int = 0) -> str:
        self._take(str.__len__(value) + 2)
        return str.__str__(value)

    def _int(self, value: int, _: int = 0) -> int:
        if int.bit_length(value) > _MAX_BITS:
            raise _NotKept(_TOO_MANY_DIGITS)
        self._take(1)
        return int.__int__(value)

    def _float(self, value: float, _: int) -> float:
        number = float.__float__(value)
        if not math.isfinite(number):
            raise _NotKept(f"the result is not JSON: it has the number {number}, which JSON does not have")
        self._take(1)
        return number

    def _bytes(self, value: bytes | bytearray, _: int) -> str:
        if len(value) > MAX_RESULT_BYTES:
            raise _NotKept(TOO_LARGE)
        return self._str(b64encode(value).decode())

    def _decimal(self, value: Decimal, _: int) -> str:
        if Decimal.__sizeof__(value) > MAX_RESULT_BYTES:  # more than a hundred thousand digits
            raise _NotKept(TOO_LARGE)
        return self._str(str(value))

    def _scalar(self, value: Any, _: int = 0) -> str:
        return self._str(str(text_of_scalar(value)))

    def _list(self, value: list[Any], depth: int) -> list[Any]:
        return self._items(list.__iter__(value), depth)

    def _tuple(self, value: tuple[Any, ...], depth: int) -> list[Any]:
        return self._items(tuple.__iter__(value), depth)

    def _set(self, value: set[Any], depth: int) -> list[Any]:
        return self._items(set.__iter__(value), depth)

    def _frozenset(self, value: frozenset[Any], depth: int) -> list[Any]:
        return self._items(frozenset.__iter__(value), depth)

    def _items(self, items: Any, depth: int) -> list[Any]:
        self._take(1)
        copied = []
        for item in items:
            self._take(1)
            copied.append(self.of(item, depth + 1))
        return copied

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        self._take(1)
        copied = {}
        for name, item in dict.items(value):
            self._take(2)
            copied[self._key(name)] = self.of(item, depth + 1)
        return copied

    def _key(self, name: Any) -> str:
        if is_a(name, Enum):
            return self._key(name.value)
        if is_a(name, str):
            return self._str(name)
        if is_a(name, int) and name is not True and name is not False:
            return str(self._int(name))
        if is_a(name, SCALARS):
            return self._scalar(name)
        raise _NotKept(f"the result is not JSON: it has a key of the class {class_name(type(name))}")

    def _model(self, model: Any, depth: int) -> Any:
        """A model as pydantic itself writes it, after a look at its fields, because nothing stops pydantic at 64 KiB."""
        before = self._left
        try:
            self.of(dict(vars(model)), depth)
        except _NotKept as why:
            if str(why) == TOO_LARGE:
                raise
        self._left = before
        return self.of(model.model_dump(mode="json"), depth)


_COPIES: Final[tuple[tuple[Any, Callable[[_Copy, Any, int], Any]], ...]] = (
    (str, _Copy._str),  # noqa: SLF001 - here and below: the table of its own methods
    (dict, _Copy._dict),  # noqa: SLF001
    (int, _Copy._int),  # noqa: SLF001
    (float, _Copy._float),  # noqa: SLF001
    (list, _Copy._list),  # noqa: SLF001
    (tuple, _Copy._tuple),  # noqa: SLF001
    (set, _Copy._set),  # noqa: SLF001
    (frozenset, _Copy._frozenset),  # noqa: SLF001
    ((bytes, bytearray), _Copy._bytes),  # noqa: SLF001
    (Decimal, _Copy._decimal),  # noqa: SLF001
    (SCALARS, _Copy._scalar),  # noqa: SLF001
)
_EXACT: Final[dict[type, Callable[[_Copy, Any, int], Any]]] = {
    type(None): _Copy._constant,  # noqa: SLF001
    bool: _Copy._constant,  # noqa: SLF001
    **{kind: copy for kind, copy in _COPIES if isinstance(kind, type)},
}
"""The quick way to most of them."""


def _content_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass or a msgspec.Struct."""
    if _is_of("msgspec", "Struct", value):
        tag = value.__struct_config__.tag
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        own = {shown: getattr(value, name) for shown, name in names}
        return own if tag is None else {value.__struct_config__.tag_field: tag, **own}
    if is_dataclass(type(value)):
        return {one.name: getattr(value, one.name) for one in fields(value) if not one.name.startswith("_")}
    raise _NotKept(f"the result is not JSON: it has an object of the class {class_name(type(value))}")


def _is_model(value: object) -> bool:
    """Whether it is a model of pydantic."""
    return _is_of("pydantic", "BaseModel", value)


def _is_of(library: str, name: str, value: object) -> bool:
    """Whether it is of this class of a library; if nobody has imported that, it is not."""
    base = getattr(sys.modules.get(library), name, None)
    return base is not None and is_a(value, base)

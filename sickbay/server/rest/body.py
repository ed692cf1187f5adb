"""JSON bodies of REST requests: size-limited, decoded once, and payloads kept byte for byte.

A gateway declares the expected body and gets exactly that:

    class SubmitBody(Body):
        job_type: str = ""
        payload: msgspec.Raw = msgspec.Raw()

    body = await read_body(request, SubmitBody)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import inspect

from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.job import MAX_PAYLOAD_BYTES

if TYPE_CHECKING:  # decoding alone needs no web framework
    from starlette.requests import Request

MAX_BODY_BYTES: Final = MAX_PAYLOAD_BYTES + 16 * 1024
"""One payload and its envelope."""

_UNKNOWN: Final = re.compile(r"unknown field `(.*?)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_MISSING: Final = re.compile(r"missing required field `(.*?)`")
_EXPECTED: Final = re.compile(r"Expected (.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_POSITION: Final = re.compile(r"\(byte \d+\)")
_SHOWN_CHARS: Final = 80


class Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """A JSON object of a request: fields in camelCase, unknown ones are rejected."""


B = TypeVar("B", bound=Body)


def text(raw: msgspec.Raw) -> str:
    """A raw value as text, byte for byte; InvalidArgument if it is not UTF-8."""
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        raise InvalidArgument("the body is not UTF-8", ErrorReason.INVALID_PAYLOAD) from None


async def read_body(request: Request, kind: type[B], limit: int = MAX_BODY_BYTES) -> B:
    """The request's body as a `kind`; an empty one counts as `{}`. InvalidArgument says what is wrong and where.

    At most `limit` bytes are read, whatever Content-Length says (PAYLOAD_TOO_LARGE beyond).
    """
    return decode(await _bytes(request, limit) or b"{}", kind)


def decode(data: bytes, kind: type[B]) -> B:
    """The JSON object as a `kind`; InvalidArgument says what is wrong and where."""
    try:
        found = msgspec.json.decode(data, type=kind)
        _check_names(data)
        return found  # noqa: TRY300 - errors of both are handled below
    except msgspec.ValidationError as error:
        raise InvalidArgument(_advice(str(error), kind)) from None
    except msgspec.DecodeError as error:
        place = _POSITION.search(str(error))
        raise InvalidArgument(f"the body is not valid JSON{f' {place.group()}' if place else ''}") from None
    except UnicodeDecodeError:
        raise InvalidArgument("the body is not UTF-8") from None
    except RecursionError:
        raise InvalidArgument("the body is nested too deep", ErrorReason.INVALID_PAYLOAD) from None


class _Name:
    """The name of a member, as a separate type without equality, so that msgspec keeps duplicate names."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


_MEMBERS: Final = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=lambda _, text: _Name(text))


def _check_names(data: bytes) -> None:
    """Reject duplicate names in the object itself (RFC 8259, section 4: parsers differ in what they mean); values are not checked."""
    names = [name.text for name in _MEMBERS.decode(data)]
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InvalidArgument(f"duplicate field {twice!r}; send it once")


async def _bytes(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > limit:
                raise _too_large(limit)
        return bytes(data)
    finally:
        data.clear()  # an error keeps this frame in a cycle: the garbage collector would free large bodies later, many at once


def _too_large(limit: int) -> InvalidArgument:
    return InvalidArgument(f"the body is larger than {limit:,} bytes; send less in one request", ErrorReason.PAYLOAD_TOO_LARGE)


def _advice(problem: str, kind: type[Body]) -> str:
    if unknown := _UNKNOWN.search(problem):
        return _unknown_field(unknown[1], kind)
    if missing := _MISSING.search(problem):
        return f"{missing[1]} is missing"
    if (expected := _EXPECTED.match(problem)) and expected[2]:
        return f"{expected[2]}: expected {expected[1].replace('`', '')}"
    if expected:
        return f"the body must be a JSON object: expected {expected[1].replace('`', '')}"
    return "the body does not have the documented form"


def _unknown_field(name: str, kind: type[Body]) -> str:
    known = sorted(set(_names(inspect.type_info(kind))))
    shown = name if len(name) <= _SHOWN_CHARS else name[:_SHOWN_CHARS] + "..."
    close = get_close_matches(name[:_SHOWN_CHARS], known, n=1) or [
        one for one in known if one.casefold() == name.replace("_", "").casefold()
    ]
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}" if known else "none is known here"
    return f"unknown field {shown!r}; {hint}"


def _names(kind: inspect.Type) -> Iterator[str]:
    """The names of all fields in a type and its nested types."""
    match kind:
        case inspect.StructType():
            for field in kind.fields:
                yield field.encode_name
                yield from _names(field.type)
        case inspect.ListType() | inspect.VarTupleType():
            yield from _names(kind.item_type)
        case inspect.UnionType():
            for one in kind.types:
                yield from _names(one)
        case _:
            return

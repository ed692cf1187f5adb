"""Validation of payloads, and conversion of a protobuf Struct to JSON text.

A payload is one JSON object of at most `MAX_PAYLOAD_BYTES`, nested at most `MAX_DEPTH` deep, whose numbers a worker can read: integers of
at most `MAX_DIGITS` digits, others within a double. Text is kept byte for byte; of duplicate names the last one counts, as usual.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

import msgspec
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.job import MAX_DIGITS, MAX_PAYLOAD_BYTES

MAX_DEPTH: Final = 200
"""Nesting of objects and lists. Every JSON parser that sees a job manages this many levels; far more would overflow their stacks."""
MAX_EXACT: Final = 2**53
"""Up to here a double represents every integer exactly."""

_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_LONG_NUMBER: Final = re.compile(rb"(?<![0-9])[0-9]{200}")
_LONG_EXPONENT: Final = re.compile(rb"[0-9][eE][+]?[0-9]{3}")
"""Without a match no number is too large or too long; strings may match, too."""
_SHOWN_DIGITS: Final = 30
_JSON_SPACE: Final = b" \t\r\n"
_POSITION: Final = re.compile(r"\(byte \d+\)")
_TO_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def checked_text(text: str) -> bytes:
    """The text as UTF-8, byte for byte, if it is a valid payload; InvalidArgument otherwise."""
    data = text.encode()
    _check_size(data)
    try:
        _RAW.decode(data)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.DecodeError as error:
        found = _POSITION.search(str(error))
        where = f" {found.group()}" if found else ""
        raise _invalid(f"the payload is not valid JSON{where}") from None
    if data.lstrip(_JSON_SPACE)[:1] != b"{":
        raise _invalid('the payload must be a JSON object, for example {"to": "user@example.com"}')
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and not _is_shallow(data):
        raise _too_deep()
    if _LONG_NUMBER.search(data) or _LONG_EXPONENT.search(data):
        json.loads(data, parse_int=_check_integer, parse_float=_check_float)
    return data


def struct_text(struct: Struct) -> bytes:
    """The Struct as compact JSON; integral numbers become integers. InvalidArgument(NUMBER_TOO_LARGE) beyond 2^53."""
    data = msgspec.json.encode(_object(struct, MAX_DEPTH))
    _check_size(data)
    return data


def _check_integer(digits: str) -> None:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        msg = f"the payload has an integer of {len(digits):,} digits, at most {MAX_DIGITS:,} can be read; send it as a string"
        raise InvalidArgument(msg, ErrorReason.NUMBER_TOO_LARGE)


def _check_float(digits: str) -> None:
    if not math.isfinite(float(digits)):
        shown = digits if len(digits) <= _SHOWN_DIGITS else f"{digits[:_SHOWN_DIGITS]}..."
        raise InvalidArgument(f"the number {shown} is too large to be read; send it as a string", ErrorReason.NUMBER_TOO_LARGE)


def _object(struct: Struct, depth: int) -> dict[str, Any]:
    if depth == 0:
        raise _too_deep()
    return {name: _value(value, depth - 1) for name, value in struct.fields.items()}


def _list(values: ListValue, depth: int) -> list[Any]:
    if depth == 0:
        raise _too_deep()
    return [_value(value, depth - 1) for value in values.values]


def _value(value: Value, depth: int) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return _number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "null_value":
            return None
        case "struct_value":
            return _object(value.struct_value, depth)
        case "list_value":
            return _list(value.list_value, depth)
        case _:
            raise _invalid("the payload has an empty value; set one of null, number, string, bool, struct or list")


def _number(number: float) -> float | int:
    if not math.isfinite(number):
        raise _invalid("the payload has a number that JSON cannot write (NaN or infinity); leave it out or send it as a string")
    if not number.is_integer():
        return number
    if abs(number) > MAX_EXACT:
        msg = f"the number {number:.17g} is beyond 2^53, where a Struct does not hold every integer; send the content as payload_json"
        raise InvalidArgument(msg, ErrorReason.NUMBER_TOO_LARGE)
    return int(number)


def _is_shallow(valid: bytes) -> bool:
    """Remove the innermost brackets, level by level: at C speed and without recursion, however deep the nesting."""
    outside = valid.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    rest = b"".join(outside).translate(None, _NO_BRACKETS).translate(_TO_SQUARE)
    for _ in range(MAX_DEPTH):
        if not rest:
            return True
        rest = rest.replace(b"[]", b"")
    return not rest


def _check_size(data: bytes) -> None:
    if len(data) > MAX_PAYLOAD_BYTES:
        msg = f"the payload is {len(data):,} bytes long, at most {MAX_PAYLOAD_BYTES:,} are allowed; store it elsewhere and send a reference"
        raise InvalidArgument(msg, ErrorReason.PAYLOAD_TOO_LARGE)


def _too_deep() -> InvalidArgument:
    return _invalid(f"the payload is nested too deep; at most {MAX_DEPTH} levels of objects and lists are allowed")


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(message, ErrorReason.INVALID_PAYLOAD)

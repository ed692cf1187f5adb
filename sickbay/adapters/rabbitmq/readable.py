"""Which properties and headers of a message the driver can read, and the message without the others. Pure.

Each property tells its own length (AMQP 0-9-1, section 4.2.6.1), so one that cannot be read is left out and the next one is found. Frames
keep their length: what is left out comes back as zeros behind the last property, where nobody looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from struct import Struct
from typing import Final

MAX_HEADERS: Final = 100
"""Headers of one message that are read; nobody here needs more than three."""
MAX_HEADER_BYTES: Final = 16 * 1024
"""What they may come to, so that a copy of the message always fits a frame, too."""
_MAX_DEPTH: Final = 8
_DELIVER: Final = b"\x00\x3c\x00\x3c"
_LAST_TIMESTAMP: Final = 1 << 47
"""The driver takes seconds, or milliseconds beyond the year 2106: about the year 6429."""

_U32: Final = Struct(">I")
_U64: Final = Struct(">Q")
_FLAGS_AT: Final = 12
_SHORT: Final = b"s"
_OCTET: Final = b"o"
_TIME: Final = b"t"
_TABLE: Final = b"h"
# content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to, expiration, message_id, timestamp, type,
# user_id, app_id, cluster_id: from bit 15 down.
_KINDS: Final = (_SHORT, _SHORT, _TABLE, _OCTET, _OCTET, _SHORT, _SHORT, _SHORT, _SHORT, _TIME, _SHORT, _SHORT, _SHORT, _SHORT)
_UNUSUAL: Final = 1 << 13 | 1
"""Headers, or more flags than there are properties."""
_SIZES: Final = {
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"lLdT", 8),
    **dict.fromkeys(b"V\0", 0),
    ord("D"): 5,
}
"""The length of a header's value by its type (https://www.rabbitmq.com/amqp-0-9-1-errata.html)."""


class _Illegible(Exception):
    """The end of this one is not where it says, or not to be found."""


def legible_delivery(payload: bytes) -> bytes | None:
    """What comes instead of a method frame's payload so that its exchange and routing key can be read; None if they can."""
    if not payload.startswith(_DELIVER) or len(payload) < len(_DELIVER) + 1:
        return None
    names_at = len(_DELIVER) + 1 + payload[4] + 9  # behind the consumer's tag, the delivery's tag and a bit
    if payload[names_at:].isascii():
        return None
    fixed = bytearray(payload)
    for _ in range(2):
        if names_at >= len(payload):
            break
        end = names_at + 1 + payload[names_at]
        if not _is_text(payload[names_at + 1 : end]):
            fixed[names_at + 1 : end] = bytes(byte if byte < 128 else ord("?") for byte in payload[names_at + 1 : end])  # noqa: PLR2004 - ASCII
        names_at = end
    return bytes(fixed) if fixed != payload else None


def legible_content(payload: bytes) -> bytes | None:
    """What comes instead of a content header's payload, of the same length; None if it can be read as it is."""
    if len(payload) < _FLAGS_AT + 2:
        return None
    flags = payload[_FLAGS_AT] << 8 | payload[_FLAGS_AT + 1]
    if _is_plain(payload, flags):
        return None
    position, more = _FLAGS_AT + 2, flags & 1
    while more and position + 2 <= len(payload):
        more = payload[position + 1] & 1
        position += 2
    kept, values, is_whole = 0, [], not flags & 1 and not more
    try:
        for bit, start, end in _properties(payload, flags, position):
            value = _legible_property(payload, bit, start, end)
            if value is not None:
                kept |= bit
                values.append(value)
            is_whole = is_whole and value == payload[start:end]
    except _Illegible:
        is_whole = False
    if is_whole:
        return None
    content = payload[:_FLAGS_AT] + kept.to_bytes(2, "big") + b"".join(values)
    return content.ljust(len(payload), b"\0")


def _is_plain(payload: bytes, flags: int) -> bool:
    """Whether there is certainly nothing to leave out, which is so for nearly every message: a microsecond, not five."""
    if flags & _UNUSUAL:
        return False
    position, size = _FLAGS_AT + 2, len(payload)
    for kind in _kinds(flags):
        if position >= size:
            return False
        if kind == _SHORT:
            start, position = position + 1, position + 1 + payload[position]
            if not payload[start:position].isascii():
                return False
        elif kind == _OCTET:
            position += 1
        else:
            if payload[position : position + 3] >= b"\x00\x00\x80":
                return False
            position += 8
    return position <= size


@lru_cache(256)
def _kinds(flags: int) -> tuple[bytes, ...]:
    return tuple(kind for number, kind in enumerate(_KINDS) if flags & 1 << 15 - number)


def _properties(payload: bytes, flags: int, position: int) -> Iterator[tuple[int, int, int]]:
    """The bit, the begin and the end of each property that is there."""
    for number, kind in enumerate(_KINDS):
        bit = 1 << 15 - number
        if flags & bit:
            end = position + _length(payload, kind, position)
            if end > len(payload):
                raise _Illegible
            yield bit, position, end
            position = end


def _length(payload: bytes, kind: bytes, position: int) -> int:
    if kind == _OCTET:
        return 1
    if kind == _TIME:
        return 8
    if kind == _SHORT and position < len(payload):
        return 1 + payload[position]
    if kind == _TABLE and position + 4 <= len(payload):
        return 4 + int(_U32.unpack_from(payload, position)[0])
    raise _Illegible


def _legible_property(payload: bytes, bit: int, start: int, end: int) -> bytes | None:
    """The property as it is, or as much of it as can be read."""
    kind = _KINDS[15 - bit.bit_length() + 1]
    if kind == _TABLE:
        headers = b"".join(_legible_headers(payload, start + 4, end))
        return _U32.pack(len(headers)) + headers
    if kind == _TIME:
        return payload[start:end] if _U64.unpack_from(payload, start)[0] < _LAST_TIMESTAMP else None
    if kind == _SHORT:
        return payload[start:end] if _is_text(payload[start + 1 : end]) else None
    return payload[start:end]


def _legible_headers(data: bytes, position: int, end: int) -> Iterator[bytes]:
    """The entries that can be read; behind one whose length is not to be found there are none."""
    left = MAX_HEADER_BYTES
    for _ in range(MAX_HEADERS):
        if position >= end:
            return
        try:
            value_at = position + 1 + data[position]
            after = _after(data, value_at, end)
        except _Illegible:
            return
        entry = data[position:after]
        if after - position <= left and _is_text(entry[1 : value_at - position]) and _is_legible(data, value_at, after, _MAX_DEPTH):
            left -= len(entry)
            yield entry
        position = after


def _after(data: bytes, position: int, end: int) -> int:
    """Where a value ends that begins here with its type."""
    if position >= end:
        raise _Illegible
    size = _SIZES.get(data[position])
    if size is None:
        if data[position] not in b"SxAF" or position + 5 > end:
            raise _Illegible
        size = 4 + _U32.unpack_from(data, position + 1)[0]
    if position + 1 + size > end:
        raise _Illegible
    return position + 1 + size


def _is_legible(data: bytes, position: int, after: int, depth: int) -> bool:
    """Whether the driver makes something of a value whose end is known."""
    kind = data[position]
    if kind == ord("T"):
        return bool(_U64.unpack_from(data, position + 1)[0] < _LAST_TIMESTAMP)
    if kind == ord("S"):
        return _is_text(data[position + 5 : after])
    return kind not in b"AF" or _is_nest_legible(data, position + 5, after, depth - 1, has_names=kind == ord("F"))


def _is_nest_legible(data: bytes, position: int, end: int, depth: int, *, has_names: bool) -> bool:
    try:
        while position < end and depth:
            if has_names:
                name_at, position = position + 1, position + 1 + data[position]
                if not _is_text(data[name_at:position]):
                    return False
            after = _after(data, position, end)
            if not _is_legible(data, position, after, depth):
                return False
            position = after
    except _Illegible:
        return False
    return position >= end


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

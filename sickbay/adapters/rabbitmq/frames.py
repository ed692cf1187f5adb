"""Lets what a server sends through to the driver, without what would break it: the driver drops the connection on a single odd byte.

AMQP lets a publisher say more than the driver understands: a timestamp beyond the year 9999 (Java's -1 arrives as 2^64 - 1), an id or a
routing key that is not UTF-8, a header of a type it does not know. Such a message would come again to each session, and end each.
Here the property or the header that cannot be read is left out, before the driver sees it; the body stays as it is. This depends on the
protocol alone, not on the driver: it works on the bytes that come from the socket.
"""

from __future__ import annotations

from typing import Final

from sickbay.adapters.rabbitmq.readable import legible_content, legible_delivery

_METHOD: Final = 1
_HEADER: Final = 2
_BODY: Final = 3
_HEARTBEAT: Final = 8
_START_BYTES: Final = 7
"""Type (1), channel (2), and size (4) of what follows without the last byte."""
_LONGEST_HELD: Final = 16 * 1024 * 1024
"""No frame that needs a look is longer than what was agreed on (128 KiB, mostly): a longer one is not AMQP."""


class FrameFilter:
    """Takes the bytes of one connection in pieces of any size, and gives them back in order."""

    def __init__(self) -> None:
        self._begun = b""
        """The begin of a frame that needs a look and has not yet come to its end."""
        self._passing = 0
        """How many bytes of the present frame go through without a look."""
        self._is_foreign = False
        """Whether this is no AMQP: the driver says so best."""

    def feed(self, data: bytes) -> bytes:
        """What of it, and of what was kept back, can be handed on now."""
        if self._is_foreign:
            return data
        if self._begun:
            data, self._begun = self._begun + data, b""
        position, self._passing = self._passing, 0
        size, handed = len(data), 0
        pieces: list[bytes] = []
        while position < size:
            end = self._end(data, position)
            if end > size:
                break
            kind = data[position]
            if kind in {_METHOD, _HEADER}:
                payload = data[position + _START_BYTES : end - 1]
                legible = legible_delivery(payload) if kind == _METHOD else legible_content(payload)
                if legible is not None:
                    pieces += (data[handed : position + _START_BYTES], legible)
                    handed = end - 1
            position = end
        return b"".join((*pieces, self._handed_on(data, handed, position)))

    def _end(self, data: bytes, position: int) -> int:
        """Where the frame ends that begins here; beyond the data if that cannot be known, or is of no matter any more."""
        kind = data[position]
        if len(data) - position < _START_BYTES:
            self._is_foreign = kind not in {_METHOD, _HEADER, _BODY, _HEARTBEAT}
            return len(data) + 1
        length = int.from_bytes(data[position + 3 : position + _START_BYTES], "big")
        if kind in {_METHOD, _HEADER}:
            self._is_foreign = length > _LONGEST_HELD
        else:
            self._is_foreign = kind not in {_BODY, _HEARTBEAT}
        return len(data) + 1 if self._is_foreign else position + _START_BYTES + length + 1

    def _handed_on(self, data: bytes, handed: int, position: int) -> bytes:
        """All up to the frame that is not complete; of a body's frame what there is, too."""
        size = len(data)
        if position >= size:
            self._passing = position - size
        elif not self._is_foreign:
            if size - position >= _START_BYTES and data[position] in {_BODY, _HEARTBEAT}:
                self._passing = self._end(data, position) - size
            else:
                self._begun = data[position:]
                return data[handed:position]
        return data[handed:] if handed else data

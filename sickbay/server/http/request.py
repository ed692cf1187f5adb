"""The progress of receiving a request."""

from __future__ import annotations

from sickbay.server.http import limits as bounds
from sickbay.server.http.inbox import Inbox


class Incoming:
    """Counts the received bytes of a request, and decides which piece may be parsed next."""

    __slots__ = ("_asked", "_head", "_moved", "_size", "_wire", "chunks", "got", "in_body")

    def __init__(self) -> None:
        """Start with nothing received."""
        self._head = self._wire = self._moved = self.got = self.chunks = 0
        self._size: int | None = 0
        self._asked = self.in_body = False

    @property
    def has_begun(self) -> bool:
        """Whether anything was received."""
        return self.in_body or self._head > 0

    @property
    def head_bytes(self) -> int:
        """Bytes of the header so far."""
        return self._head

    @property
    def is_chunked(self) -> bool:
        """Whether its body is chunked."""
        return self._size is None

    @property
    def is_long(self) -> bool:
        """Whether more than a first piece of a chunked body was parsed: its chunks may be tiny, and the rest takes turns."""
        return self._size is None and self._wire >= bounds.CHUNK_PIECE

    @property
    def is_large(self) -> bool:
        """Whether much of an unfinished body was received."""
        return self.in_body and self.got > bounds.SMALL_BODY

    @property
    def excess(self) -> int:
        """Bytes of a chunked body that are neither data nor chunk frames."""
        return self._wire - self.got - bounds.CHUNK_BYTES * self.chunks

    def piece(self, inbox: Inbox, max_header: int) -> memoryview:
        """The next piece for the parser; at most one byte of the header beyond its limit."""
        if not self.in_body:
            piece = inbox.take_to_end(max_header + 1 - self._head)
            self._head += len(piece)
        elif self._size is None:
            piece = inbox.take_to_end(bounds.CHUNK_PIECE)
            self._wire += len(piece)
        else:
            piece = inbox.take(self._size - self.got)
        return piece

    def begin_body(self, size: int | None) -> None:
        """The header is complete, and declares a body of this size, None if chunked."""
        self.in_body, self._size = True, size

    def got_body(self, count: int) -> bool:
        """Count received bytes of the body; returns whether that is progress since the last time."""
        self.got += count
        moved = self.got - self._moved >= bounds.LEAST_RATE * bounds.STALLED_S
        if moved:
            self._moved = self.got
        return moved

    def room_needed(self) -> int:
        """The room that its body needs, returned once; 0 while it is small, and if it is too large for any route."""
        if self._asked:
            return 0
        size = self._size
        if size is None:
            size = bounds.LARGEST_BODY if self.got > bounds.SMALL_BODY else 0
        self._asked = bounds.SMALL_BODY < size <= bounds.LARGEST_BODY
        return size if self._asked else 0

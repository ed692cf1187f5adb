"""Received data of a connection that is not parsed yet, split so that the parser never gets more than one request at a time."""

from __future__ import annotations

from typing import Final

_END: Final = b"\r\n\r\n"
"""Ends a head, and a chunked body."""
_SEAM: Final = len(_END) - 1


class Inbox:
    """A queue of bytes. Pieces are views, so nothing is copied for each of a thousand pipelined requests."""

    def __init__(self) -> None:
        """Start empty."""
        self._data = b""
        self._at = 0
        self._seam = b""

    def __len__(self) -> int:
        return len(self._data) - self._at

    def put(self, data: bytes) -> None:
        """Append received data."""
        self._data = self._data[self._at :] + data if len(self) else data
        self._at = 0

    def take(self, most: int) -> memoryview:
        """The next bytes, at most `most`."""
        self._seam = b""
        return self._next(most)

    def take_to_end(self, most: int) -> memoryview:
        """Everything up to and with the next empty line, even if a part of that was taken before; otherwise all, at most `most`."""
        seam = len(self._seam)
        found = (self._seam + self._data[self._at : self._at + _SEAM]).find(_END)
        if found < 0:
            found, seam = self._data.find(_END, self._at, self._at + most) - self._at, 0
        complete = found >= 0
        piece = self._next(min(found + len(_END) - seam, most) if complete else most)
        self._seam = b"" if complete else (self._seam + bytes(piece[-_SEAM:]))[-_SEAM:]
        return piece

    def give_back(self, data: bytes) -> None:
        """Return the unused rest of the last piece."""
        self._data, self._at, self._seam = data + self._data[self._at :], 0, b""

    def clear(self) -> None:
        """Forget everything."""
        self._data, self._at, self._seam = b"", 0, b""

    def _next(self, most: int) -> memoryview:
        begin, self._at = self._at, min(self._at + most, len(self._data))
        piece = memoryview(self._data)[begin : self._at]
        if self._at == len(self._data):
            self._data, self._at = b"", 0
        return piece

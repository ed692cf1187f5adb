"""HTTP/2 by hand, for clients that no library would be: frames of one's own, windows that are used up, answers that are not read."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Self

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
ACK, END_STREAM, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE: Final = 4
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW: Final = 65_535
_FRAME: Final = 16_384


class Frame(NamedTuple):
    """A frame that came."""

    kind: int
    flags: int
    stream: int
    body: bytes


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """A frame as bytes."""
    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body


def headers(path: str, *more: tuple[str, str]) -> bytes:
    """The headers of a gRPC call, as literals."""
    common = ((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"), ("te", "trailers"))
    return b"".join(_literal(*pair) for pair in (*common, ("content-type", "application/grpc"), *more))


def message(data: bytes, length: int | None = None) -> bytes:
    """A gRPC message; `length` is what it says of itself."""
    return b"\0" + struct.pack(">I", len(data) if length is None else length) + data


class RawHttp2:
    """One connection to 127.0.0.1, from `source`; `window` is how much the server may send in each stream."""

    def __init__(self, port: int, *, source: str = "127.0.0.1", window: int = _WINDOW) -> None:
        """Connect and say hello."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
        self.send(_PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window)))
        self.frames: list[Frame] = []
        self.is_closed = False
        self._next, self._buffer = 1, b""
        self._room = {0: _WINDOW}
        self._first_room = _WINDOW

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; twice is harmless."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """As it is; a server that has gone is not an error here."""
        try:
            self._socket.settimeout(10)
            self._socket.sendall(data)
        except OSError:
            self.is_closed = True

    def open(self, path: str, *more: tuple[str, str]) -> int:
        """Begin a call; its stream."""
        stream, self._next = self._next, self._next + 2
        self._room[stream] = self._first_room
        self.send(frame(HEADERS, END_HEADERS, stream, headers(path, *more)))
        return stream

    def call(self, path: str, data: bytes) -> int:
        """A whole call."""
        stream = self.open(path)
        self.send(frame(DATA, END_STREAM, stream, message(data)))
        return stream

    def begin(self, path: str, length: int) -> int:
        """A call whose message says it has this length, and of which nothing else comes by itself."""
        stream = self.open(path)
        self.send(frame(DATA, 0, stream, message(b"", length)))
        self._spend(stream, 5)
        return stream

    def fill(self, stream: int, most: int) -> int:
        """Send zeros, as many as the server's windows allow; how many."""
        count = max(0, min(most, self._room[0], self._room[stream]))
        self.send(b"".join(frame(DATA, 0, stream, bytes(min(_FRAME, count - sent))) for sent in range(0, count, _FRAME)))
        self._spend(stream, count)
        return count

    def read(self, wait_s: float = 0.0) -> None:
        """Take what has come, and wait for it at most so long; acknowledge what wants that."""
        try:
            self._socket.settimeout(wait_s)
            while data := self._socket.recv(1 << 18):
                self._buffer += data
                self._socket.settimeout(0.0)
            self.is_closed = True
        except (BlockingIOError, TimeoutError):
            pass
        except OSError:
            self.is_closed = True
        while (taken := self._frame()) is not None:
            self._heard(taken)

    def until(self, condition: Callable[[], bool], within_s: float = 20.0) -> bool:
        """Read until that holds; False if it never does."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.read(0.05)
        return True

    def ended(self, stream: int) -> bool:
        """Whether the server has ended this stream, or everything."""
        ends = (one for one in self.frames if one.stream == stream)
        return self.is_closed or any(one.kind == RST_STREAM or one.flags & END_STREAM for one in ends)

    def _spend(self, stream: int, count: int) -> None:
        self._room[0] -= count
        self._room[stream] -= count

    def _frame(self) -> Frame | None:
        if len(self._buffer) < 9:
            return None
        length = int.from_bytes(self._buffer[:3])
        if len(self._buffer) < 9 + length:
            return None
        taken, self._buffer = self._buffer[: 9 + length], self._buffer[9 + length :]
        return Frame(taken[3], taken[4], int.from_bytes(taken[5:9]) & 0x7FFFFFFF, taken[9:])

    def _heard(self, came: Frame) -> None:
        if came.kind == SETTINGS and not came.flags & ACK:
            for name, value in struct.iter_unpack(">HI", came.body):
                if name == INITIAL_WINDOW_SIZE:
                    self._room |= {one: room + value - self._first_room for one, room in self._room.items() if one}
                    self._first_room = value
            self.send(frame(SETTINGS, ACK, 0))
        elif came.kind == WINDOW_UPDATE and came.stream in self._room:
            self._room[came.stream] += int.from_bytes(came.body)
        elif came.kind == PING and not came.flags & ACK:
            self.send(frame(PING, ACK, 0, came.body))
        else:
            self.frames.append(came)


def _literal(name: str, value: str) -> bytes:
    return b"\0" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    data = text.encode()
    return _length(len(data)) + data


def _length(count: int) -> bytes:
    """A number in HPACK's seven bits and more."""
    if count < 127:
        return bytes((count,))
    digits, count = [127], count - 127
    while count >= 128:
        digits.append(count & 127 | 128)
        count >>= 7
    return bytes((*digits, count))

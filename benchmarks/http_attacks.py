"""What hostile and clumsy clients do to an HTTP port, each for a few seconds; used by `hostile.py` and by the tests of `tests/hostile`.

An attack takes the ports, the seconds it may last and its scale, and tells what it saw: bytes that were taken, answers, connections closed.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, repeat
from typing import Final
from urllib.request import Request, urlopen

Seen = dict[str, int]
Ports = Mapping[str, tuple[int, int]]
"""The HTTP and the gRPC port of `Job API`, `Worker` and `Control plane`."""
Attack = Callable[[Ports, float, int], Seen]

MIB: Final = 1 << 20
HEAD: Final = b"Host: localhost\r\nUser-Agent: hostile\r\n"
JSON: Final = b"Content-Type: application/json\r\n"
HEALTH: Final = b"GET /health HTTP/1.1\r\n" + HEAD + b"\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_PIECE: Final = 1 << 18


class Line:
    """One connection that sends what `words` yields, an empty piece for a pause, and reads only if told to."""

    def __init__(self, port: int, words: Iterable[bytes], *, reads: bool = True, room: int = 0) -> None:
        """Connect; `room` bounds the bytes that the kernel takes in for us."""
        self.socket = socket.socket()
        if room:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.reads, self.sent, self.got, self.closed = reads, 0, b"", False
        self._words, self._rest = iter(words), memoryview(b"")
        self._done = False

    def wanted(self) -> int:
        """What to wait for."""
        reading = selectors.EVENT_READ if self.reads else 0
        return reading | (0 if self._done else selectors.EVENT_WRITE)

    def was_reset(self) -> bool:
        """Whether the server has cut it off; who does not read learns of that in this way."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    @property
    def is_over(self) -> bool:
        """Whether the server has closed it, or has answered all that there was to send."""
        return self.closed or (self._done and bool(self.got))

    def step(self, events: int) -> None:
        """Send and read as far as it goes."""
        try:
            if events & selectors.EVENT_READ:
                self._read()
            if events & selectors.EVENT_WRITE:
                self._write()
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True

    def _read(self) -> None:
        data = self.socket.recv(1 << 16)
        self.got = (self.got + data)[:4096]
        self.closed = self.closed or not data

    def _write(self) -> None:
        if not self._rest:
            piece = next(self._words, None)
            self._done = piece is None
            self._rest = memoryview(piece or b"")
        if self._rest:
            sent = self.socket.send(self._rest)
            self.sent += sent
            self._rest = self._rest[sent:]


def run(lines: Iterable[Line], seconds: float, pace: float = 0.0) -> Seen:
    """Drive all of them until time is up, or the server has answered or closed all; `pace` seconds pass between two pieces of each."""
    lines = list(lines)
    drive(lines, lambda: all(line.is_over for line in lines), seconds, pace)
    seen: Counter[str] = Counter(connections=len(lines), closed=sum(line.closed for line in lines), sent=sum(line.sent for line in lines))
    for line in lines:
        seen.update(f"HTTP {status.decode()}" for status in _STATUS.findall(line.got)[:1])
    hang_up(lines)
    return dict(seen)


def drive(lines: Iterable[Line], until: Callable[[], bool], seconds: float, pace: float = 0.0) -> None:
    """Send and read with all of them, until `until` holds or time is up."""
    lines = list(lines)
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        while not until() and time.monotonic() < end:
            for line in lines:
                _register(selector, line)
            if pace:
                time.sleep(pace)
            for key, events in selector.select(0.05):
                key.data.step(events)


def hang_up(lines: Iterable[Line]) -> None:
    """Close our side of all."""
    for line in lines:
        line.socket.close()


def _register(selector: selectors.BaseSelector, line: Line) -> None:
    line.closed = line.closed or (not line.reads and line.was_reset())
    wanted = 0 if line.closed else line.wanted()
    known = selector.get_map().get(line.socket)
    if known is None and wanted:
        selector.register(line.socket, wanted, line)
    elif known is not None and not wanted:
        selector.unregister(line.socket)
    elif known is not None and known.events != wanted:
        selector.modify(line.socket, wanted, line)


def lasting(attack: Attack, ports: Ports, seconds: float, scale: int) -> Seen:
    """An attack again and again until time is up."""
    end, seen = time.monotonic() + seconds, Counter[str]()
    while (left := end - time.monotonic()) > 0:
        seen.update(attack(ports, left, scale))
    return dict(seen)


def _up_to(size: int, piece: bytes) -> Iterator[bytes]:
    sent = 0
    while sent < size:
        yield piece
        sent += len(piece)


def pipelining(ports: Ports, seconds: float, scale: int, request: bytes = HEALTH) -> Seen:
    """`scale` MiB of requests on one connection, and not one answer is read."""
    piece = request * (_PIECE // len(request))
    return run([Line(ports["Job API"][0], _up_to(scale * MIB, piece), reads=False, room=4096)], seconds)


def many_headers(ports: Ports, seconds: float, scale: int) -> Seen:
    """One request with `scale` MiB of small header lines."""
    piece = b"".join(b"X-%05d: v\r\n" % number for number in range(_PIECE // 12))
    return run([Line(ports["Job API"][0], chain([b"GET /health HTTP/1.1\r\n" + HEAD], _up_to(scale * MIB, piece), [b"\r\n"]))], seconds)


def long_header(ports: Ports, seconds: float, scale: int) -> Seen:
    """One request with one header line of `scale` MiB."""
    words = chain([b"GET /health HTTP/1.1\r\n" + HEAD + b"X: "], _up_to(scale * MIB, b"a" * _PIECE), [b"\r\n\r\n"])
    return run([Line(ports["Job API"][0], words)], seconds)


def long_url(ports: Ports, seconds: float, scale: int) -> Seen:
    """One request line of `scale` MiB."""
    words = chain([b"GET /"], _up_to(scale * MIB, b"a" * _PIECE), [b" HTTP/1.1\r\n" + HEAD + b"\r\n"])
    return run([Line(ports["Job API"][0], words)], seconds)


def long_extension(ports: Ports, seconds: float, scale: int) -> Seen:
    """A chunked body whose first chunk has an extension of `scale` MiB."""
    begin = b"POST /jobs HTTP/1.1\r\n" + HEAD + JSON + b"Transfer-Encoding: chunked\r\n\r\n2;"
    return run([Line(ports["Job API"][0], chain([begin], _up_to(scale * MIB, b"a" * _PIECE), [b"\r\n{}\r\n0\r\n\r\n"]))], seconds)


def long_trailer(ports: Ports, seconds: float, scale: int) -> Seen:
    """A chunked body with a trailer of `scale` MiB."""
    begin = b"POST /jobs HTTP/1.1\r\n" + HEAD + JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: "
    return run([Line(ports["Job API"][0], chain([begin], _up_to(scale * MIB, b"a" * _PIECE), [b"\r\n\r\n"]))], seconds)


def tiny_chunks(ports: Ports, seconds: float, scale: int) -> Seen:
    """A body of `scale` MiB on the wire, in chunks of one byte."""
    begin = b"POST /jobs:batch HTTP/1.1\r\n" + HEAD + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    return run([Line(ports["Job API"][0], chain([begin], _up_to(scale * MIB, b"1\r\nx\r\n" * (_PIECE // 6)), [b"0\r\n\r\n"]))], seconds)


def withheld_bodies(ports: Ports, seconds: float, scale: int) -> Seen:
    """`scale` connections with a batch of 16 MiB each, whose last byte never comes."""
    size = 16 * MIB
    begin = b"POST /jobs:batch HTTP/1.1\r\n" + HEAD + JSON + b"Content-Length: %d\r\n\r\n" % size
    lines = (
        Line(ports["Job API"][0], chain([begin], repeat(b" " * _PIECE, size // _PIECE - 1), [b" " * (_PIECE - 1)])) for _ in range(scale)
    )
    return run(lines, seconds)


def slow_headers(ports: Ports, seconds: float, scale: int) -> Seen:
    """`scale` connections that send a header byte by byte."""
    return run((Line(ports["Job API"][0], chain([b"GET /health HTTP/1.1\r\nX: "], repeat(b"a"))) for _ in range(scale)), seconds, 0.3)


def slow_bodies(ports: Ports, seconds: float, scale: int) -> Seen:
    """`scale` connections that send a body byte by byte."""
    begin = b"POST /jobs HTTP/1.1\r\n" + HEAD + JSON + b"Content-Length: 100000\r\n\r\n"
    return run((Line(ports["Job API"][0], chain([begin], repeat(b" "))) for _ in range(scale)), seconds, 0.3)


def silent(ports: Ports, seconds: float, scale: int) -> Seen:
    """`scale` connections to each of the three HTTP ports, which say nothing."""
    return run((Line(http, ()) for _ in range(scale) for http, _ in ports.values()), seconds)


def garbage(ports: Ports, seconds: float, scale: int) -> Seen:
    """`scale` connections, one after the other, with what is no HTTP."""
    end, seen = time.monotonic() + seconds, Counter[str]()
    for number in range(scale):
        if time.monotonic() > end:
            break
        seen.update(run([Line(ports["Job API"][0], [b"\x16\x03\x01 %d no HTTP\r\n\r\n" % number])], 2))
    return dict(seen)


def unread_streams(ports: Ports, seconds: float, scale: int) -> Seen:
    """`scale` clients of event streams that never read, while a circuit changes all the time."""
    plane = ports["Control plane"][0]
    get = b"GET /breakers/events HTTP/1.1\r\n" + HEAD + b"\r\n"
    lines = [Line(plane, [get], reads=False, room=2048) for _ in range(scale)]
    for line in lines:
        line.step(selectors.EVENT_WRITE)
    end = time.monotonic() + seconds
    changes = 0
    while time.monotonic() < end:
        for verb in ("force-open", "reset"):
            with urlopen(_command(plane, verb)):  # noqa: S310
                changes += 1
    return run(lines, 0.5) | {"changes": changes}


def _command(port: int, verb: str) -> Request:
    return Request(f"http://127.0.0.1:{port}/breakers/noise/{verb}", b"{}", {"Content-Type": "application/json"})


ATTACKS: Final[Mapping[str, tuple[Attack, int]]] = {
    "one connection pipelines and never reads": (pipelining, 32),
    "100 MiB of header lines": (many_headers, 100),
    "one header line of 100 MiB": (long_header, 100),
    "a request line of 100 MiB": (long_url, 100),
    "a chunk extension of 100 MiB": (long_extension, 100),
    "a trailer of 100 MiB": (long_trailer, 100),
    "chunks of one byte, 64 MiB": (tiny_chunks, 64),
    "80 bodies of 16 MiB, last byte withheld": (withheld_bodies, 80),
    "400 slow headers": (slow_headers, 400),
    "400 slow bodies": (slow_bodies, 400),
    "400 silent connections to each port": (silent, 400),
    "malformed requests": (garbage, 5_000),
    "50 event streams that are never read": (unread_streams, 50),
}
"""Each attack with its scale."""

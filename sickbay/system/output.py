"""Non-blocking standard output and error of a service process: writes never wait or fail.

A full disk, a pipe that nobody reads, or a stopped or closed terminal must not affect jobs. A thread writes the lines; what cannot be
written, or exceeds MAX_WAITING, is dropped and counted. That applies to logs, and to handlers that print.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import select
import sys
import threading
import time
from typing import Any, Final, TextIO, cast

MAX_WAITING: Final = 1024 * 1024
"""Bytes that may wait to be written, for each of the two streams."""
LAST_S: Final = 1.0
"""Seconds to write the last lines at the end of the process."""
_CHUNK: Final = 4096
"""A pipe that is writable accepts this much without blocking (PIPE_BUF)."""
_LOOK_MS: Final = 1_000

log = logging.getLogger(__name__)


class Writer(io.RawIOBase):
    """A stream that buffers bytes for a file descriptor, and writes them in a thread."""

    def __init__(self, descriptor: int) -> None:
        """The descriptor stays open."""
        super().__init__()
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._has_data = threading.Condition(self._lock)
        self._is_idle = threading.Condition(self._lock)
        self._waiting: list[bytes] = []
        self._size = 0
        self._writing = False
        self._unreported = 0
        self._direct = False
        self.dropped = 0
        """The number of dropped writes; mostly each is one line."""
        threading.Thread(target=self._write_loop, name=f"output-{descriptor}", daemon=True).start()

    def writable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Stay open, see `_Stream`."""

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a terminal is behind it."""
        return os.isatty(self._descriptor)

    def write(self, data: Any, /) -> int:
        """Buffer all of it, or drop it if too much is waiting."""
        piece = bytes(data)
        if self._direct:
            self._write_nonblocking(piece)
        else:
            with self._lock:
                if self._size + len(piece) > MAX_WAITING:
                    self._drop(1)
                else:
                    self._waiting.append(piece)
                    self._size += len(piece)
                    self._has_data.notify()
        return len(piece)

    def drain(self, within_s: float = LAST_S) -> None:
        """Wait until everything was written, at most so many seconds."""
        with self._lock:
            self._is_idle.wait_for(lambda: not self._waiting and not self._writing, within_s)

    def write_directly(self) -> None:
        """Write without a thread from now on, as far as that does not block: the process ends, or is a fork, which has no such thread."""
        self._lock = threading.Lock()
        self._direct = True

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._unreported += count

    def _write_loop(self) -> None:
        while True:
            with self._lock:
                self._writing = False
                if not self._waiting:
                    self._is_idle.notify_all()
                self._has_data.wait_for(lambda: self._waiting)
                pieces, self._waiting, self._size, self._writing = self._waiting, [], 0, True
            failed = 0 if self._write(b"".join(pieces)) else len(pieces)
            with self._lock:
                self._drop(failed)
                lost, self._unreported = (0, self._unreported) if failed else (self._unreported, 0)
            if lost:
                log.warning("%d lines of output were dropped, because they were not read or could not be written", lost)

    def _write(self, piece: bytes) -> bool:
        """Write all of it, however long that takes; False if it fails."""
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # a process that shares it has made it non-blocking
                _has_room(self._descriptor, _LOOK_MS)
            except OSError:
                return False
        return True

    def _write_nonblocking(self, piece: bytes) -> None:
        for begin in range(0, len(piece), _CHUNK):
            if not _has_room(self._descriptor, 0) or not self._write(piece[begin : begin + _CHUNK]):
                self._drop(1)
                return


def _has_room(descriptor: int, wait_ms: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(wait_ms))


class _Stream(io.TextIOWrapper):
    """The replacement of `sys.stdout` and `sys.stderr`."""

    def close(self) -> None:
        """Stay open: a handler that closes it would discard all log lines, and the output of all other handlers."""
        with contextlib.suppress(OSError, ValueError):
            self.flush()


_writers: Final[dict[str, Writer]] = {}


def guard_output() -> None:
    """Make standard output and error of this process non-blocking; calling it again is harmless.

    Streams that were replaced, by a test or an embedding program, are left alone. A closed descriptor becomes /dev/null, or the next file
    that is opened would get its number, and be written to.
    """
    for descriptor in range(3):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if name not in _writers and getattr(sys, name) is getattr(sys, f"__{name}__"):
            setattr(sys, name, _stream(name, descriptor))
    if _writers:
        atexit.register(flush_output)


def _stream(name: str, descriptor: int) -> TextIO:
    before: TextIO | None = getattr(sys, name)
    if before is not None:
        with contextlib.suppress(OSError, ValueError):
            before.flush()
    writer = _writers[name] = Writer(descriptor)
    os.register_at_fork(after_in_child=writer.write_directly)
    encoding = getattr(before, "encoding", None) or "utf-8"
    return _Stream(cast("Any", writer), encoding, "backslashreplace", line_buffering=True, write_through=True)


def is_guarded() -> bool:
    """Whether `guard_output` has replaced a stream."""
    return bool(_writers)


def dropped() -> dict[str, int]:
    """The number of dropped writes, by stream; empty if output is not guarded."""
    return {name: writer.dropped for name, writer in _writers.items()}


def flush_output(within_s: float = LAST_S) -> None:
    """Write what is buffered, in bounded time; later writes are written at once or not at all."""
    deadline = time.monotonic() + within_s
    for writer in _writers.values():
        writer.drain(max(0.0, deadline - time.monotonic()))
        writer.write_directly()

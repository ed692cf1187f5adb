"""Standard output and error of a service process: whoever writes there neither waits nor fails, whatever is behind it.

A full disk, a pipe that nobody reads, a terminal that was stopped or closed: a log line is not worth a job. Lines are handed to a thread
that writes them; what cannot be written, or is more than MAX_WAITING, is dropped and counted. That holds for logs, and for handlers that
print.
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
"""Bytes that may wait to be written, for each of the two."""
LAST_S: Final = 1.0
"""Seconds that the last lines get at the end of the process."""
_CHUNK: Final = 4096
"""A pipe that says it has room takes as much without waiting (PIPE_BUF)."""
_LOOK_MS: Final = 1_000

log = logging.getLogger(__name__)


class Writer(io.RawIOBase):
    """Takes bytes for a file descriptor at once, and lets a thread write them."""

    def __init__(self, descriptor: int) -> None:
        """The descriptor stays open."""
        super().__init__()
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._quiet = threading.Condition(self._lock)
        self._waiting: list[bytes] = []
        self._size = 0
        self._writing = False
        self._untold = 0
        self._direct = False
        self.dropped = 0
        """Writes that were dropped; mostly each was one line."""
        threading.Thread(target=self._write_on, name=f"output-{descriptor}", daemon=True).start()

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
        """Take everything, or drop it where too much waits."""
        piece = bytes(data)
        if self._direct:
            self._try(piece)
        else:
            with self._lock:
                if self._size + len(piece) > MAX_WAITING:
                    self._drop(1)
                else:
                    self._waiting.append(piece)
                    self._size += len(piece)
                    self._news.notify()
        return len(piece)

    def drain(self, within_s: float = LAST_S) -> None:
        """Wait until everything was written; at most so many seconds."""
        with self._lock:
            self._quiet.wait_for(lambda: not self._waiting and not self._writing, within_s)

    def go_direct(self) -> None:
        """Write without a thread from now on, as far as nobody has to wait: the process ends, or is a fork, which has no such thread."""
        self._lock = threading.Lock()
        self._direct = True

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count

    def _write_on(self) -> None:
        while True:
            with self._lock:
                self._writing = False
                if not self._waiting:
                    self._quiet.notify_all()
                self._news.wait_for(lambda: self._waiting)
                pieces, self._waiting, self._size, self._writing = self._waiting, [], 0, True
            failed = 0 if self._write(b"".join(pieces)) else len(pieces)
            with self._lock:
                self._drop(failed)
                lost, self._untold = (0, self._untold) if failed else (self._untold, 0)
            if lost:
                log.warning("%d lines of output were dropped, because they were not read or could not be written", lost)

    def _write(self, piece: bytes) -> bool:
        """Write all of it, however long that takes; False if that is impossible."""
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody who shares it made it so
                _has_room(self._descriptor, _LOOK_MS)
            except OSError:
                return False
        return True

    def _try(self, piece: bytes) -> None:
        for begin in range(0, len(piece), _CHUNK):
            if not _has_room(self._descriptor, 0) or not self._write(piece[begin : begin + _CHUNK]):
                self._drop(1)
                return


def _has_room(descriptor: int, wait_ms: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(wait_ms))


class _Stream(io.TextIOWrapper):
    """What `sys.stdout` and `sys.stderr` are then."""

    def close(self) -> None:
        """Stay open: one handler that closes it would take every log line, and every other handler's words, from all."""
        with contextlib.suppress(OSError, ValueError):
            self.flush()


_writers: Final[dict[str, Writer]] = {}


def guard_output() -> None:
    """Make standard output and error of this process such that nobody waits for them; once is enough.

    Streams that were put in their place, by a test or an embedding program, are left alone. A closed descriptor becomes /dev/null, or the
    next file that is opened would take its number, and be written to.
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
        atexit.register(last_words)


def _stream(name: str, descriptor: int) -> TextIO:
    before: TextIO | None = getattr(sys, name)
    if before is not None:
        with contextlib.suppress(OSError, ValueError):
            before.flush()
    writer = _writers[name] = Writer(descriptor)
    os.register_at_fork(after_in_child=writer.go_direct)
    encoding = getattr(before, "encoding", None) or "utf-8"
    return _Stream(cast("Any", writer), encoding, "backslashreplace", line_buffering=True, write_through=True)


def is_guarded() -> bool:
    """Whether `guard_output` has done something."""
    return bool(_writers)


def dropped() -> dict[str, int]:
    """How many writes were dropped, by stream; empty where output is not guarded."""
    return {name: writer.dropped for name, writer in _writers.items()}


def last_words(within_s: float = LAST_S) -> None:
    """Write what waits, in bounded time; what comes later is written at once or not at all."""
    deadline = time.monotonic() + within_s
    for writer in _writers.values():
        writer.drain(max(0.0, deadline - time.monotonic()))
        writer.go_direct()

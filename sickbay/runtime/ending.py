"""Makes sure that a service process exits: leftovers of handlers may delay that by seconds, not forever.

At its exit Python waits for every non-daemon thread, for the children of `multiprocessing` and for functions registered with `atexit`.
A thread of ours waits, too, and after a timeout it logs what is blocking and exits the process at once.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Final

from sickbay.system.output import flush_output, guard_output, is_guarded

LEFT_BEHIND_S: Final = 3.0
"""Seconds that threads and children left behind by handlers get to end, after everything else has ended."""
CLOSE_S: Final = 20.0
"""Seconds from the end of the drain until everything is closed; mostly for requests in progress."""

log = logging.getLogger("sickbay")


class _Deadline:
    """The time at which this process exits in any case; the latest call of `set` counts."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at = 0.0
        self._code = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def set(self, within_s: float, code: int, *, closed: bool) -> None:
        with self._changed:
            self._at, self._code, self._closed = time.monotonic() + within_s, code, closed
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._wait, name="ending", daemon=True)
                self._thread.start()

    def _wait(self) -> None:
        with self._changed:
            while (left := self._at - time.monotonic()) > 0:
                self._changed.wait(left)
        try:
            log.log(logging.WARNING if self._closed else logging.ERROR, "%s; the process exits now anyway", self._why())
        finally:
            flush_output()
            os._exit(self._code)

    def _why(self) -> str:
        if not self._closed:
            return f"closing everything timed out after {CLOSE_S:g} s (at {_main_thread()})"
        if left := [*map(_thread_name, stray_threads()), *_children()]:
            return f"{', '.join(left)} still runs, left behind by a handler or its module"
        return f"something that runs at the exit of the program does not end (at {_main_thread()})"


_deadline: Final = _Deadline()


def exit_within(within_s: float, code: int = 1, *, closed: bool = False) -> None:
    """Force this process to exit within so many seconds, with this exit code; a later call replaces an earlier one.

    Only within `whole_process`: otherwise the process is not ours, and nothing happens.
    `closed`: everything of ours is closed, so only leftovers of others can be blocking.
    """
    if is_guarded():
        _deadline.set(within_s, code, closed=closed)


@contextlib.contextmanager
def whole_process() -> Iterator[None]:
    """Wraps everything that a service process does: its output never blocks, and after the block the process exits in bounded time."""
    guard_output()
    code = 1
    try:
        yield
        code = 0
    finally:
        exit_within(LEFT_BEHIND_S, code, closed=True)
        gc.freeze()  # the interpreter would look for cycles in everything that was loaded, for half a second


def stray_threads() -> list[threading.Thread]:
    """Threads that Python waits for at exit."""
    return [one for one in threading.enumerate() if not one.daemon and one is not threading.main_thread() and one.is_alive()]


def _thread_name(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented for debugging threads
    place = f" ({_place(traceback.extract_stack(frame))})" if frame else ""
    return f"the thread {thread.name!r}{place}"


def _children() -> list[str]:
    """Children that `multiprocessing` waits for."""
    module = sys.modules.get("multiprocessing")
    return [f"the child process {child.pid}" for child in module.active_children()] if module else []


def _main_thread() -> str:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - the same
    return _place(traceback.extract_stack(frame)) if frame else "an unknown place"


def _place(stack: traceback.StackSummary) -> str:
    """The innermost line outside the standard library."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120 - text, no file is looked at
    frame = next((one for one in reversed(stack) if not one.filename.startswith(library) or "site-packages" in one.filename), stack[-1])
    return f"{frame.filename}:{frame.lineno} in {frame.name}"

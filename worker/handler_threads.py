"""Threads for sync handlers. A thread cannot be stopped from outside: one that outlives its handler's timeout is abandoned and replaced.

There is no fixed pool: a run takes an idle thread or a new one, so no handler ever waits for a thread that another one holds. The number
of threads is limited by the worker's slots, and by the limit on overdue threads of a job type (`overdue.py`).
"""

from __future__ import annotations

import itertools
import os
import queue
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Final

from sickbay.domain.errors import Unavailable
from sickbay.domain.outcome import Outcome
from sickbay.handlers.call import call_handler, end_forked_child, outcome_of_error
from worker.run import Run

IDLE_S: Final = 60.0
"""A thread that was idle for this long ends."""


class HandlerThreads:
    """Starts runs in threads and passes their outcomes to `report`. Belongs to the worker's loop."""

    def __init__(self, report: Callable[[Run], None]) -> None:
        """`report` is called in the run's thread, when its handler has ended or has returned an awaitable."""
        self._report = report
        self._idle: list[_Thread] = []
        self._numbers = itertools.count(1)
        self._closed = False

    def start(self, run: Run) -> None:
        """Start a run at once; Unavailable if the system cannot create another thread."""
        while self._idle:
            if self._idle.pop().offer(run):
                return
        thread = _Thread(next(self._numbers), self._report, self._return_to_idle)
        try:
            thread.start()
        except RuntimeError as error:
            raise Unavailable("no thread could be started: too many threads, or out of memory") from error
        thread.offer(run)

    def frame(self, run: Run) -> FrameType | None:
        """The current frame of the run's thread."""
        return sys._current_frames().get(run.thread_id) if run.thread_id else None  # noqa: SLF001 - documented for debugging stuck threads

    def close(self) -> None:
        """End idle threads; busy ones end with the process."""
        self._closed = True
        while self._idle:
            self._idle.pop().dismiss()

    def _return_to_idle(self, thread: _Thread) -> None:
        """Called in the thread itself; append is atomic."""
        if self._closed:
            thread.dismiss()
        else:
            self._idle.append(thread)


class _Thread(threading.Thread):
    """Runs one handler after the other; a daemon, so that a hung one does not keep the process from exiting."""

    def __init__(self, number: int, report: Callable[[Run], None], on_idle: Callable[[_Thread], None]) -> None:
        super().__init__(name=f"handler-{number}", daemon=True)
        self._report = report
        self._return_to_idle = on_idle
        self._inbox: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._has_ended = False

    def offer(self, run: Run) -> bool:
        """Give it a run; False if it has just ended because it was idle."""
        with self._lock:
            if self._has_ended:
                return False
            self._inbox.put(run)
            return True

    def dismiss(self) -> None:
        """End it."""
        self._inbox.put(None)

    def run(self) -> None:
        """Work until dismissed, or idle for too long."""
        while True:
            try:
                run = self._inbox.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    if not self._inbox.empty():
                        continue
                    self._has_ended = True
                return
            if run is None:
                return
            self._call(run)
            self._return_to_idle(self)
            self._report(run)
            del run

    def _call(self, run: Run) -> None:
        run.thread_id = self.ident or 0
        process = os.getpid()
        try:
            spec = run.spec if run.bind is None else run.bind()
        except BaseException as error:  # noqa: BLE001 - a lifespan that is entered anew may raise anything
            found: Outcome | Awaitable[Any] = outcome_of_error(error, run.spec, run.redact)
        else:
            found = run.context.run(call_handler, spec, run.job, run.redact, run.on_returned)
        end_forked_child(process)
        run.thread_id = 0
        if isinstance(found, Outcome):
            run.outcome = run.outcome or found
            run.ended = True
        else:
            run.pending = found

"""Passes on what handlers say about their progress: at most once per second and run, the newest, and nothing after the run.

A handler may report from any thread and as often as it likes. Its report replaces the one that waits, so nothing piles up, and a run that
reports nothing costs the worker next to nothing. A report is an event RUNNING of its run that says more than the first one did: a
control plane of before merges it into nothing. While the broker is unavailable one event per run waits in the outbox, the newest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, Final

from sickbay.domain.job import JobEvent
from sickbay.domain.progress import MAX_PROGRESS_CHARS, Progress, ReportProgress
from sickbay.domain.raised import Redact, clean, plain
from sickbay.domain.run_context import is_bound
from sickbay.messages.outbox import EventOutbox
from sickbay.ports import Clock

INTERVAL_S: Final = 1.0
"""Between two events about one run."""


@dataclass(slots=True)
class _Waiting:
    """A run that has reported within the last second."""

    started: JobEvent
    newest: Progress | None
    timer: asyncio.TimerHandle | None = None


class ProgressReports:
    """One per worker, made on its loop."""

    def __init__(
        self, events: EventOutbox, clock: Clock, redact: Redact, later: Callable[[float, Callable[..., None], Any], Any] | None = None
    ) -> None:
        """Publish through `events`; `redact` removes secrets from messages, and `later` is `call_later` of the loop."""
        self._events = events
        self._clock = clock
        self._redact = redact
        self._loop = asyncio.get_running_loop()
        self._later = self._loop.call_later if later is None else later
        self._waiting: dict[str, _Waiting] = {}
        self._lock = Lock()

    def of_run(self, started: JobEvent) -> ReportProgress:
        """What the handler of a run reports with; `started` is the event of its begin."""
        return partial(self._report, started)

    def end(self, started: JobEvent) -> None:
        """The run is over: what its handler said last and has not been passed on is dropped."""
        if self._waiting:
            with self._lock:
                waiting = self._waiting.pop(started.run, None)
            if waiting is not None and waiting.timer is not None:
                waiting.timer.cancel()

    def _report(self, started: JobEvent, fraction: float, message: str) -> None:
        """Called in the threads of handlers."""
        progress = Progress(fraction, message, self._clock())
        with self._lock:
            waiting = self._waiting.get(started.run)
            if waiting is not None:
                waiting.newest = progress
                return
            waiting = self._waiting[started.run] = _Waiting(started, progress)
        with contextlib.suppress(RuntimeError):  # the worker's loop is closed
            self._loop.call_soon_threadsafe(self._pass_on, waiting)

    def _pass_on(self, waiting: _Waiting) -> None:
        started = waiting.started
        with self._lock:
            progress, waiting.newest = waiting.newest, None
            if progress is None or not is_bound(started.job):
                self._waiting.pop(started.run, None)
                return
        message = clean(self._redact(clean(plain(progress.message))), MAX_PROGRESS_CHARS)
        self._events.report_start(replace(started, at=progress.at, progress=replace(progress, message=message)))
        waiting.timer = self._later(INTERVAL_S, self._pass_on, waiting)

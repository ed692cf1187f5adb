"""Has the one handlers' loop in use: starts it with the first run, and replaces it when a handler blocks it beyond its timeout."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection
from typing import Final

from sickbay.handlers.call import HUNG
from sickbay.handlers.resources import Resources
from sickbay.handlers.traceback_text import stack_of
from worker.handler_loop import HandlerLoop
from worker.overdue import Overdue
from worker.run import CANCELLED, Run
from worker.watchdog import Watchdog

JOIN_S: Final = 1.5
"""How long `close` waits for the handlers' loop."""


class HandlerLoops:
    """The handlers' loop in use and its watchdog. Belongs to the worker's loop."""

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        report: Callable[[Run], None],
        *,
        resources: Resources,
        overdue: Overdue,
        running: Collection[Run],
        timeout_s: float,
    ) -> None:
        """`later` is `call_later` of the worker's loop, `report` is called in the loop's thread (`HandlerLoop`).

        `resources` are entered anew on each loop. The loop is watched while `running` has any, and for `timeout_s` if it is unknown whose
        code blocks it.
        """
        self._report = report
        self._resources = resources
        self._overdue = overdue
        self._watchdog = Watchdog(later, self._abandon, timeout_s=timeout_s, is_needed=lambda: bool(running))
        self._numbers = itertools.count(1)
        self._current: HandlerLoop | None = None
        self._closed = False
        self.is_stuck = False
        """Whether the loop's thread had not ended JOIN_S after `close`."""

    def current(self) -> HandlerLoop:
        """The one in use, which is started if there is none."""
        if self._current is None:
            self._current = self._new()
        return self._current

    def blocked(self, job_type: str) -> int:
        """How often a handler of this job type blocked the loop; for "" how often it was unknown whose code it was."""
        return self._watchdog.blocked[job_type]

    def start(self, run: Run) -> None:
        """Start a run on it soon, or go on with one that began in a thread."""
        run.on_loop = self.current()
        run.on_loop.start(run)
        self._watchdog.start()

    def close(self) -> None:
        """End it; a handler that blocks it is left behind."""
        self._closed = True
        self._watchdog.stop()
        if self._current is not None:
            self._current.close()
            self.is_stuck = not self._current.join(JOIN_S)

    def _new(self) -> HandlerLoop:
        loop = HandlerLoop(next(self._numbers), self._report)
        self._resources.use(loop.loop)
        loop.bind = self._resources.bound_async
        self._watchdog.watch(loop)
        return loop

    def _abandon(self, blocked: HandlerLoop, culprit: Run | None, place: str) -> None:
        """A handler has blocked the loop beyond its timeout: abandon both and continue with another loop."""
        begun, waiting = blocked.abandon()
        self._current = None if self._closed else self._new()
        for run in begun:
            if run is culprit:
                run.hung_at = stack_of(blocked.frame(), HUNG, run.redact)
                run.outcome = run.outcome or run.timed_out(f"it blocked the event loop at {place}")
                self._overdue.add(run)
            else:
                run.outcome = run.outcome or CANCELLED
            run.finish()
        for run in waiting:
            self.start(run)

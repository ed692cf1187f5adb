"""Runs handlers that are not on the handlers' loop, in threads or elsewhere (programs): the worker's own loop keeps their timeouts."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Final

from sickbay.domain.outcome import Outcome
from sickbay.handlers.call import HUNG, discard
from sickbay.handlers.resources import Resources
from sickbay.handlers.traceback_text import stack_of
from worker.alive import AliveClock
from worker.elsewhere import Call, ElsewhereSpec, Stop
from worker.handler_loops import HandlerLoops
from worker.handler_threads import HandlerThreads
from worker.overdue import Overdue
from worker.run import CANCELLED, Run

_EARLY_S: Final = 0.001


class OffLoop:
    """Runs in threads and elsewhere, with their timers. Belongs to the worker's loop."""

    def __init__(
        self,
        worker_loop: asyncio.AbstractEventLoop,
        report: Callable[[Run], None],
        *,
        clock: AliveClock,
        loops: HandlerLoops,
        overdue: Overdue,
        resources: Resources,
    ) -> None:
        """`report` is called in threads, and has `on_report` called on the worker's loop.

        The `clock` is that of the worker's loop, used while anything runs. What a plain function returns to be awaited goes on in `loops`.
        """
        self._worker_loop = worker_loop
        self._clock = clock
        self._loops = loops
        self._overdue = overdue
        self._resources = resources
        self._threads = HandlerThreads(report)

    def start_in_thread(self, run: Run) -> None:
        """Start it at once; Unavailable if the system cannot create another thread."""
        if run.spec.wanted:
            self._loops.current()
            run.bind = functools.partial(self._resources.bound, run.spec)
        self._threads.start(run)
        self._start_timeout(run)

    def start_elsewhere(self, run: Run, spec: ElsewhereSpec) -> None:
        """Have it begin where the handler says."""
        run.call = spec.begin(run, self._on_end_elsewhere)
        self._start_timeout(run)

    def stop_elsewhere(self, run: Run, call: Call, why: Stop) -> None:
        """End the run, unless it has an outcome; it may go on there for a while."""
        if run.outcome is None:
            run.lost += self._clock.lost() - run.lost_before
            run.outcome = run.timed_out() if why is Stop.TIMEOUT else CANCELLED
            call.stop(why)
        run.finish()

    def abandon(self, run: Run, outcome: Outcome) -> None:
        """End the run although its handler continues: a thread cannot be stopped."""
        if run.outcome is None:
            run.outcome = outcome
        self._overdue.add(run)
        run.finish()

    def on_report(self, run: Run) -> None:
        """Its handler has ended in its thread, perhaps after its run was abandoned; or what it returned is to be awaited on the loop."""
        run.lost += self._clock.lost() - run.lost_before
        if run.ended or run.outcome is not None:
            discard(run.pending)
            run.ended = True
            self._overdue.remove(run)
            run.finish()
            return
        if run.timer is not None:
            run.timer.cancel()
        run.left = max(_EARLY_S, run.seconds - (self._clock.alive() - run.began))
        self._loops.start(run)

    def close(self) -> None:
        """End idle threads; busy ones end with the process."""
        self._threads.close()

    def _start_timeout(self, run: Run) -> None:
        run.began, run.lost_before = self._clock.alive(), self._clock.lost()
        run.timer = self._worker_loop.call_later(run.seconds, self._expire, run)

    def _expire(self, run: Run) -> None:
        left = run.seconds - (self._clock.alive() - run.began)
        if left > 0:
            run.timer = self._worker_loop.call_later(left, self._expire, run)
        elif run.call is not None:
            self.stop_elsewhere(run, run.call, Stop.TIMEOUT)
        else:
            run.hung_at = stack_of(self._threads.frame(run), HUNG, run.redact)
            self.abandon(run, run.timed_out())

    def _on_end_elsewhere(self, run: Run, outcome: Outcome) -> None:
        run.lost += self._clock.lost() - run.lost_before
        run.outcome, run.ended = outcome, True
        run.finish()

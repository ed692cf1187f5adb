"""A separate event loop for async handlers, in a thread of its own, so that a handler never blocks the worker itself.

One at a time is in use. If a handler blocks it beyond its timeout, it is abandoned and replaced by another (`watchdog.py`); when the
handler stops blocking it, the remaining tasks on it are cancelled and the thread ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Final, cast

import uvloop

from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.handlers.call import HUNG, await_result, call_handler, discard, end_forked_child, outcome_of_error
from sickbay.handlers.registry import HandlerSpec
from sickbay.handlers.traceback_text import waiting_of
from worker.alive import AliveClock, machine_seconds
from worker.handler_pools import PoolsByType
from worker.run import CANCELLED, Run

CLEANUP_S: Final = 1.0
"""How long a cancelled handler may clean up before its run ends without it."""
START_S: Final = 10.0
_EARLY_S: Final = 0.001
"""Timers may fire this early."""
_CURRENT: Final[contextvars.ContextVar[Run | None]] = contextvars.ContextVar("run", default=None)

log = logging.getLogger(__name__)


class HandlerLoop:
    """Created by another thread, which starts runs here and receives their outcomes through `report`."""

    def __init__(self, number: int, report: Callable[[Run], None], on_standstill: Callable[[float], None] | None = None) -> None:
        """`report` is called in this loop's thread, when a run's outcome is set and again if its handler ends later."""
        self._report = report
        self._inbox: deque[tuple[Callable[[Run], None], Run]] = deque()
        self._waking = False
        self._woken_at = 0.0
        self._closing = False
        self._started = threading.Event()
        self._process = os.getpid()
        self.bind: Callable[[HandlerSpec], Awaitable[HandlerSpec]] | None = None
        """Gives handlers what lifespans on this loop give."""
        self.loop = uvloop.new_event_loop()
        self.clock = AliveClock(cast("Any", self.loop.call_later), on_standstill=on_standstill)
        self.runs: set[Run] = set()
        self.job_types: set[str] = set()
        """The job types of all runs that it has started."""
        self._pools = PoolsByType(_job_type)
        self.loop.set_default_executor(self._pools)
        if sys.version_info < (3, 12):
            self.loop.set_task_factory(cast("Any", _create_task))
        self._thread = threading.Thread(target=self._run_forever, name=f"handlers-{number}", daemon=True)
        self._thread.start()
        self._started.wait(START_S)

    def start(self, run: Run) -> None:
        """Start a run soon."""
        self._send(self._begin, run)

    def cancel(self, run: Run) -> None:
        """Cancel a run soon; its outcome is CANCELLED, unless it has one already."""
        self._send(self._cancel_run, run)

    def abandon(self) -> tuple[list[Run], list[Run]]:
        """Abandon a blocked loop; returns the runs that have begun (they are cancelled when it unblocks), and those that have not."""
        begun = list(self.runs)
        waiting = []
        while self._inbox:
            verb, run = self._inbox.popleft()
            if verb == self._begin:
                waiting.append(run)
        for run in begun:
            run.cancelled = True
        self.close()
        return begun, waiting

    def close(self) -> None:
        """Cancel the remaining runs and end the thread as soon as the loop is free; does not wait for that."""
        with contextlib.suppress(RuntimeError):  # closed already
            self.loop.call_soon_threadsafe(self._close)

    def join(self, within_s: float) -> bool:
        """Wait until the thread has ended after `close`; returns whether it has."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def stalled_s(self, now: float) -> float:
        """For how many seconds at `now` (`machine_seconds`) the loop has been stalled: no beat, or a new run has not begun."""
        beat = now - self.clock.last_beat_at if self.clock.is_used else 0.0
        return max(beat, now - self._woken_at if self._waking else 0.0)

    def frame(self) -> FrameType | None:
        """The current frame of the thread."""
        return sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - documented for debugging stuck threads

    def current(self) -> Run | None:
        """The run whose code the loop executes now, also in a task that the handler created; None if there is none, or it is unknown."""
        task = asyncio.current_task(self.loop)
        if task is None:
            return None
        if sys.version_info >= (3, 12):
            return task.get_context().get(_CURRENT)
        return getattr(task, "sickbay_run", None)

    def _send(self, verb: Callable[[Run], None], run: Run) -> None:
        self._inbox.append((verb, run))
        if not self._waking:
            self._waking = True
            self._woken_at = machine_seconds()
            with contextlib.suppress(RuntimeError):  # closed already
                self.loop.call_soon_threadsafe(self._receive)

    def _run_forever(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._started.set)
        while not self._closing:
            try:
                self.loop.run_forever()
            except BaseException:
                log.warning("a task of a handler tried to exit the process; this is ignored", exc_info=True)
        self._shut_down()

    def _shut_down(self) -> None:
        """Let cancelled tasks clean up, then close everything; tasks that do not end are lost with the thread."""
        with contextlib.suppress(BaseException):
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            left = asyncio.all_tasks(self.loop)
            if left:
                self.loop.run_until_complete(asyncio.wait(left, timeout=CLEANUP_S))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        with contextlib.suppress(BaseException):
            self._pools.shutdown(wait=False, cancel_futures=True)
            self.loop.close()

    def _close(self) -> None:
        self._closing = True
        for run in list(self.runs):
            self._cancel_run(run)
        self.loop.stop()

    def _receive(self) -> None:
        self._waking = False
        while self._inbox:
            verb, run = self._inbox.popleft()
            try:
                verb(run)
            except BaseException as error:  # a handler can break the loop that it shares with others
                log.exception("internal error in the handlers' event loop")
                self._fail(run, error)

    def _fail(self, run: Run, error: BaseException) -> None:
        """End a run that could not be started or cancelled."""
        if run in self.runs:
            self.runs.discard(run)
            self.clock.release()
        run.ended = True
        self._settle(run, outcome_of_error(error, run.spec))

    def _begin(self, run: Run) -> None:
        if run.cancelled or run.grace_over or self._closing:
            discard(run.pending)
            run.ended = True
            self._settle(run, CANCELLED)
            return
        self.clock.use()
        run.lost_before = self.clock.lost()
        self.runs.add(run)
        self.job_types.add(run.spec.job_type)
        run.context.run(_CURRENT.set, run)
        run.task = _create_task(self.loop, self._body(run), context=run.context)  # not by a task factory that a handler may have set
        run.began = self.clock.alive() - (run.seconds - run.left if run.left else 0)
        run.timer = self.loop.call_later(run.left or run.seconds, self._expire, run)

    async def _body(self, run: Run) -> None:
        try:
            spec = await self.bind(run.spec) if run.spec.wanted and run.pending is None and self.bind is not None else run.spec
            found = call_handler(spec, run.job, run.redact, run.on_returned) if run.pending is None else run.pending
            outcome = found if isinstance(found, Outcome) else await await_result(found, run.spec, run.redact, run.on_returned)
        except BaseException as error:  # noqa: BLE001 - a GeneratorExit closes the awaitable and is raised here
            asked = isinstance(error, asyncio.CancelledError) and (run.cancelled or run.expired or run.is_to_end)
            outcome = CANCELLED if asked else outcome_of_error(error, run.spec, run.redact)
        end_forked_child(self._process)
        self._end_run(run, outcome)

    def _end_run(self, run: Run, outcome: Outcome) -> None:
        if run.timer is not None:
            run.timer.cancel()
        # No reference cycles: the payload would stay in memory until a garbage collection, which the size of bytes does not trigger.
        run.timer = run.task = None
        _CURRENT.set(None)
        run.lost += self.clock.lost() - run.lost_before
        self.runs.discard(run)
        self.clock.release()
        run.ended = True
        if run.expired:
            outcome = run.timed_out()
        elif run.cancelled and not (run.is_to_end and outcome.kind is OutcomeKind.SUCCESS):
            outcome = CANCELLED
        self._settle(run, outcome)

    def _expire(self, run: Run) -> None:
        left = run.seconds - (self.clock.alive() - run.began)
        if left > _EARLY_S:
            run.timer = self.loop.call_later(left, self._expire, run)
            return
        run.expired = True
        run.hung_at = waiting_of(run.task, HUNG, run.redact)
        self._cancel_task(run)

    def _cancel_run(self, run: Run) -> None:
        run.cancelled = True
        if run.task is not None and not run.ended:
            self._cancel_task(run)

    def _cancel_task(self, run: Run) -> None:
        if run.task is not None:
            run.task.cancel()
        if run.timer is not None:
            run.timer.cancel()
        run.timer = self.loop.call_later(CLEANUP_S, self._abandon_run, run)

    def _abandon_run(self, run: Run) -> None:
        """End the run of a handler that swallows its cancellation."""
        run.lost += self.clock.lost() - run.lost_before
        self._settle(run, run.timed_out() if run.expired else CANCELLED)

    def _settle(self, run: Run, outcome: Outcome) -> None:
        if run.outcome is None:
            run.outcome = outcome
        self._report(run)


def _job_type() -> str:
    run = _CURRENT.get()
    return run.spec.job_type if run else ""


def _create_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """A task that knows its run; before Python 3.12 the context of a task is not accessible."""
    task = asyncio.Task(coro, loop=loop, **options)
    if sys.version_info >= (3, 12):
        return task
    context = options.get("context")
    task.sickbay_run = context.get(_CURRENT) if context is not None else _CURRENT.get()  # type: ignore[attr-defined]
    return task

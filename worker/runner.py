"""Runs one handler once, with its timeout, and turns whatever happens into an outcome.

Handlers run apart from the worker: async ones on a loop in a separate thread (`handler_loop.py`), sync ones in threads
(`handler_threads.py`), those of connected programs elsewhere (`elsewhere.py`). So one that blocks, hangs or tries to exit the process
affects neither settling and health nor, as far as possible, other handlers. Only the time in which the process was alive counts
(`alive.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import itertools
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from sickbay.domain.breaker import Permit, PermitKind
from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.domain.raised import Redact, unchanged
from sickbay.domain.run_context import context_of
from sickbay.handlers.call import HUNG, discard
from sickbay.handlers.classify import blame_unreadable_payload
from sickbay.handlers.lifespan import lifespans_of
from sickbay.handlers.registry import HandlerSpec
from sickbay.handlers.resources import Resources
from sickbay.handlers.traceback_text import stack_of
from sickbay.ports import Breakers
from sickbay.runtime.redaction import redacted_outcome
from worker.alive import AliveClock
from worker.elsewhere import Call, ElsewhereSpec, Stop
from worker.excuses import Excuses
from worker.handler_loop import HandlerLoop
from worker.handler_threads import HandlerThreads
from worker.lifespans import enter, leave
from worker.probe_lease import renew_while_running
from worker.run import CANCELLED, Run
from worker.watchdog import Watchdog

MIN_LOST: Final = 4
CANCEL_GRACE_S: Final = 5.0
JOIN_S: Final = 1.5
"""How long `close` waits for the handlers' loop."""
_EARLY_S: Final = 0.001

log = logging.getLogger(__name__)

TimeoutOf = Callable[[str, float | None], float]
"""The timeout, or the grace, in force for a job type whose handler says this itself, in seconds."""


class Runner:
    """Created on the worker's loop. The first run starts threads and loops, `close` ends them."""

    def __init__(
        self,
        breakers: Breakers,
        *,
        timeout_s: float,
        concurrency: int,
        redact: Redact = unchanged,
        timeout_of: TimeoutOf | None = None,
        grace_of: TimeoutOf | None = None,
    ) -> None:
        """`timeout_s` applies to handlers without their own, unless `timeout_of` is asked at each run.

        `grace_of` says how long an async handler may go on after somebody asked to cancel its job; CANCEL_GRACE_S if it is not given.

        If half of `concurrency` runs (at least 4) of a job type have outlived their timeout, no further one of that type begins.
        `redact` removes secrets from the texts of failures.
        """
        self._redact = redact
        self._breakers = breakers
        self._timeout_of: TimeoutOf = timeout_of or (lambda _, own: own or timeout_s)
        self._grace_of: TimeoutOf = grace_of or (lambda _, own: CANCEL_GRACE_S if own is None else own)
        self._max_lost = max(MIN_LOST, concurrency // 2)
        self._worker_loop = asyncio.get_running_loop()
        # Timers that serve all runs must not run in the context of the job that happens to create them.
        later = functools.partial(self._worker_loop.call_later, context=contextvars.Context())
        self._clock = AliveClock(later, on_standstill=self._on_standstill)
        self._threads = HandlerThreads(self._report)
        self._watchdog = Watchdog(later, self._abandon_loop, timeout_s=timeout_s, is_needed=lambda: bool(self._running))
        self._loops = itertools.count(1)
        self._handler_loop: HandlerLoop | None = None
        self._resources = Resources()
        self._in_force: Mapping[str, HandlerSpec] | None = None
        """After a reload, while runs need lifespans of before."""
        self._running: set[Run] = set()
        self._lost: Counter[str] = Counter()
        self._hanging: Counter[int] = Counter()
        """The same by function: one that has replaced it, mended perhaps, starts."""
        self._excuses = Excuses()
        self._reports: deque[Run] = deque()
        self._waking = False
        self._cancelled = False
        self._closed = False
        self._is_stuck = False
        self.is_to_end: Callable[[Job], bool] = lambda _: False
        """Whether somebody asked to cancel this job; of a job whose run has begun `end_run` is called besides."""
        self.standstill_s = 0.0
        """Seconds in which this process was suspended while handlers ran."""

    @property
    def running(self) -> int:
        """The number of running handlers."""
        return len(self._running)

    @property
    def overdue(self) -> int:
        """The number of handlers that still run after their outcome was set, because they cannot be stopped."""
        return self._lost.total()

    @property
    def longest_s(self) -> float:
        """The longest timeout of the running handlers, in seconds; 0 if none runs."""
        return max((run.seconds for run in self._running), default=0.0)

    def lost(self, job_type: str) -> int:
        """The same for one job type."""
        return self._lost[job_type]

    def blocked(self, job_type: str) -> int:
        """How often a handler of this job type blocked the handlers' loop."""
        return self._watchdog.blocked[job_type]

    def timeout_of(self, spec: HandlerSpec) -> float:
        """The timeout of this handler, in seconds."""
        return self._timeout_of(spec.job_type, spec.timeout)

    def is_exhausted(self, spec: HandlerSpec) -> bool:
        """Whether so many runs of this handler have outlived their timeout here that no further one may begin."""
        return self._hanging[id(spec.function)] >= self._max_lost

    def outdated(self, handlers: Mapping[str, HandlerSpec]) -> int:
        """How many handlers are running that are not, or no longer, among these."""
        return sum(1 for run in self._running if handlers.get(run.spec.job_type) is not run.spec)

    async def run(self, spec: HandlerSpec, job: Job, permit: Permit) -> Outcome:
        """Run it once. The outcome of a handler that `cancel_all` cancels is CANCELLED."""
        if permit.kind is PermitKind.PROBE:
            async with renew_while_running(self._breakers, permit):
                return redacted_outcome(await self._run(spec, job), self._redact)
        return redacted_outcome(await self._run(spec, job), self._redact)

    def end_run(self, job_id: str) -> None:
        """Somebody asked to cancel this job: its handler is told at once, and an async one gets CancelledError after its grace.

        If it does not succeed, its outcome is of the kind CANCELLED, unless it had timed out before.
        """
        for run in [run for run in self._running if run.job.job_id == job_id and not run.is_to_end]:
            run.is_to_end = run.outcome is None and not run.expired
            if (context := context_of(run.job)) is not None:
                context.cancel()
            if run.call is not None and run.is_to_end:
                run.call.ask_to_end()
            self._worker_loop.call_later(
                self._grace_of(run.spec.job_type, run.spec.cancel_grace), self._end_grace, run, context=contextvars.Context()
            )

    def _end_grace(self, run: Run) -> None:
        run.grace_over = True
        if run not in self._running or run.outcome is not None:
            return
        if run.on_loop is not None:
            self._cancel_run(run)
        elif run.call is not None:
            self._stop_elsewhere(run, run.call, Stop.CANCELLED)

    def cancel_all(self) -> None:
        """Cancel every running handler, and every later one at once."""
        self._cancelled = True
        for run in self._running:
            self._cancel_run(run)

    @contextlib.asynccontextmanager
    async def lifespans(self, specs: Collection[HandlerSpec]) -> AsyncIterator[None]:
        """While the context lasts, the handlers' lifespans are entered; then everything is closed. SettingsError if one fails."""
        try:
            await self.enter_lifespans(specs)
            yield
        finally:
            await leave(self._resources)
            self.close()

    async def enter_lifespans(self, specs: Collection[HandlerSpec]) -> None:
        """Enter those of the handlers' modules that have not been, before the first run. SettingsError if that fails."""
        if any(lifespans_of(spec.scope) for spec in specs):
            self._have_loop()
            await enter(self._resources, specs)

    def leave_unused(self, handlers: Mapping[str, HandlerSpec]) -> None:
        """Leave those of modules that none of these handlers is in, once the last run of one of before has ended."""
        self._in_force = handlers
        if self.outdated(handlers) == 0:
            self._in_force = None
            self._resources.keep(handlers.values())

    def close(self) -> None:
        """End idle threads and the loop; overdue handlers are abandoned."""
        self._closed = True
        self._watchdog.stop()
        self._threads.close()
        if self._handler_loop is not None:
            self._handler_loop.close()
            self._is_stuck = not self._handler_loop.join(JOIN_S)

    @property
    def is_stuck(self) -> bool:
        """Whether a handler is still running that cannot be stopped."""
        return self._is_stuck or self.overdue > 0

    async def _run(self, spec: HandlerSpec, job: Job) -> Outcome:
        if self._cancelled or self.is_to_end(job):
            return CANCELLED
        run = Run(spec, job, self.timeout_of(spec), contextvars.copy_context(), self._worker_loop.create_future(), redact=self._redact)
        self._running.add(run)
        self._clock.use()
        try:
            if isinstance(spec, ElsewhereSpec):
                self._elsewhere(run, spec)
            elif spec.is_async:
                self._on_loop(run)
            else:
                self._in_thread(run)
            outcome = await run.done
        except asyncio.CancelledError:
            self._cancel_run(run)
            raise
        finally:
            self._running.discard(run)
            self._clock.release()
            if self._in_force is not None:
                self.leave_unused(self._in_force)
        judged = self._excuses.judge(run, blame_unreadable_payload(outcome, job, spec))
        return replace(judged, kind=OutcomeKind.CANCELLED) if run.is_to_end and judged.kind is not OutcomeKind.SUCCESS else judged

    def _on_loop(self, run: Run) -> None:
        run.on_loop = self._have_loop()
        run.on_loop.start(run)
        self._watchdog.start()

    def _have_loop(self) -> HandlerLoop:
        if self._handler_loop is None:
            self._handler_loop = self._new_loop()
        return self._handler_loop

    def _new_loop(self) -> HandlerLoop:
        loop = HandlerLoop(next(self._loops), self._report)
        self._resources.use(loop.loop)
        loop.bind = self._resources.bound_async
        self._watchdog.watch(loop)
        return loop

    def _elsewhere(self, run: Run, spec: ElsewhereSpec) -> None:
        run.call = spec.begin(run, self._on_end_elsewhere)
        self._start_timeout(run)

    def _on_end_elsewhere(self, run: Run, outcome: Outcome) -> None:
        run.lost += self._clock.lost() - run.lost_before
        run.outcome, run.ended = outcome, True
        self._finish(run)

    def _in_thread(self, run: Run) -> None:
        if run.spec.wanted:
            self._have_loop()
            run.bind = functools.partial(self._resources.bound, run.spec)
        self._threads.start(run)
        self._start_timeout(run)

    def _start_timeout(self, run: Run) -> None:
        run.began, run.lost_before = self._clock.alive(), self._clock.lost()
        run.timer = self._worker_loop.call_later(run.seconds, self._expire, run)

    def _expire(self, run: Run) -> None:
        """A handler has timed out that is not on the loop: abandon its thread, or what it runs elsewhere."""
        left = run.seconds - (self._clock.alive() - run.began)
        if left > 0:
            run.timer = self._worker_loop.call_later(left, self._expire, run)
        elif run.call is not None:
            self._stop_elsewhere(run, run.call, Stop.TIMEOUT)
        else:
            run.hung_at = stack_of(self._threads.frame(run), HUNG, run.redact)
            self._abandon(run, run.timed_out())

    def _cancel_run(self, run: Run) -> None:
        run.cancelled = True
        if run.on_loop is not None:
            run.on_loop.cancel(run)
        elif run.call is not None:
            self._stop_elsewhere(run, run.call, Stop.STOPPING)
        else:
            self._abandon(run, CANCELLED)

    def _stop_elsewhere(self, run: Run, call: Call, why: Stop) -> None:
        if run.outcome is None:
            run.lost += self._clock.lost() - run.lost_before
            run.outcome = run.timed_out() if why is Stop.TIMEOUT else CANCELLED
            call.stop(why)
        self._finish(run)

    def _abandon(self, run: Run, outcome: Outcome) -> None:
        """End the run although its handler continues: a thread cannot be stopped."""
        if run.outcome is None:
            run.outcome = outcome
        self._count_lost(run)
        self._finish(run)

    def _count_lost(self, run: Run) -> None:
        if run.overdue or run.ended:
            return
        run.overdue = True
        self._lost[run.spec.job_type] += 1
        self._hanging[id(run.spec.function)] += 1  # of which there is no other meanwhile: the run has it
        if not run.cancelled:
            kind = "on the handlers' loop" if run.on_loop else "in its thread"
            number = self._hanging[id(run.spec.function)]
            log.warning(
                "the handler of %s still runs %s after its timeout of %g s; %d of this type do, and with %d no more start in this worker",
                run.spec.job_type, kind, run.seconds, number, self._max_lost,
                extra={"job_id": run.job.job_id},
            )  # fmt: skip

    def _finish(self, run: Run) -> None:
        if run.timer is not None and run.on_loop is None:
            run.timer.cancel()
            run.timer = None
        if not run.done.done():
            run.done.set_result(run.outcome or CANCELLED)

    def _report(self, run: Run) -> None:
        """Called in the threads of handlers; one wake-up handles many reports."""
        self._reports.append(run)
        if not self._waking:
            self._waking = True
            with contextlib.suppress(RuntimeError):  # the worker's loop is closed
                self._worker_loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._waking = False
        while self._reports:
            run = self._reports.popleft()
            if run.on_loop is None:
                self._on_thread_result(run)
            elif not run.ended:
                self._count_lost(run)
                self._finish(run)
            else:
                self._on_handler_end(run)
                self._finish(run)

    def _on_thread_result(self, run: Run) -> None:
        run.lost += self._clock.lost() - run.lost_before
        if run.ended or run.outcome is not None:
            discard(run.pending)
            run.ended = True
            self._on_handler_end(run)
            self._finish(run)
            return
        if run.timer is not None:
            run.timer.cancel()
        run.left = max(_EARLY_S, run.seconds - (self._clock.alive() - run.began))
        self._on_loop(run)

    def _on_handler_end(self, run: Run) -> None:
        """The handler of an abandoned run has ended after all."""
        if run.overdue:
            run.overdue = False
            self._lost[run.spec.job_type] -= 1
            self._hanging[id(run.spec.function)] -= 1

    def _abandon_loop(self, blocked: HandlerLoop, culprit: Run | None, place: str) -> None:
        """A handler has blocked the loop beyond its timeout: abandon both and continue with another loop."""
        begun, waiting = blocked.abandon()
        self._handler_loop = None if self._closed else self._new_loop()
        for run in begun:
            if run is culprit:
                run.hung_at = stack_of(blocked.frame(), HUNG, run.redact)
                run.outcome = run.outcome or run.timed_out(f"it blocked the event loop at {place}")
            else:
                run.outcome = run.outcome or CANCELLED
            if run is culprit:
                self._count_lost(run)
            self._finish(run)
        for run in waiting:
            self._on_loop(run)

    def _on_standstill(self, seconds: float) -> None:
        self.standstill_s += seconds
        log.warning(
            "this process was suspended for %.1f s (stopped, paused, or starved of CPU); running jobs get that time in addition", seconds
        )

"""Runs one handler once, with its timeout, and turns whatever happens into an outcome.

Handlers run apart from the worker: async ones on a loop in a separate thread (`handler_loops.py`), sync ones in threads, those of connected
programs elsewhere (both `off_loop.py`). So one that blocks, hangs or tries to exit the process affects neither settling and health nor, as
far as possible, other handlers. Only the time in which the process was alive counts (`alive.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace

from sickbay.domain.breaker import Permit, PermitKind
from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.domain.raised import Redact, unchanged
from sickbay.handlers.classify import blame_unreadable_payload
from sickbay.handlers.lifespan import lifespans_of
from sickbay.handlers.registry import HandlerSpec
from sickbay.ports import Breakers
from sickbay.runtime.redaction import redacted_outcome
from worker.alive import AliveClock
from worker.elsewhere import ElsewhereSpec
from worker.excuses import Excuses
from worker.handler_loops import HandlerLoops
from worker.lifespans import Lifespans
from worker.off_loop import OffLoop
from worker.overdue import Overdue
from worker.probe_lease import renew_while_running
from worker.reports import Reports
from worker.run import CANCELLED, Run
from worker.run_cancel import GraceOf, RunCancel

log = logging.getLogger(__name__)

TimeoutOf = Callable[[str, float | None], float]
"""The timeout in force for a job type whose handler says this itself, in seconds."""


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
        grace_of: GraceOf | None = None,
    ) -> None:
        """`timeout_s` applies to handlers without their own, unless `timeout_of` is asked at each run.

        `grace_of` says how long a handler may go on after somebody asked to cancel its job (`run_cancel.py`).

        If half of `concurrency` runs (at least 4) of a job type have outlived their timeout, no further one of that type begins.
        `redact` removes secrets from the texts of failures.
        """
        self._redact = redact
        self._breakers = breakers
        self._timeout_of: TimeoutOf = timeout_of or (lambda _, own: own or timeout_s)
        self._running: set[Run] = set()
        self._cancelled = False
        self._excuses = Excuses()
        self._overdue = Overdue(concurrency)
        self._lifespans = Lifespans(self.outdated)
        self._worker_loop = asyncio.get_running_loop()
        # Timers that serve all runs must not run in the context of the job that happens to create them.
        later = functools.partial(self._worker_loop.call_later, context=contextvars.Context())
        self._clock = AliveClock(later, on_standstill=self._on_standstill)
        reports, resources = Reports(self._worker_loop, self._on_report), self._lifespans.resources
        self._loops = HandlerLoops(
            later, reports.put, resources=resources, overdue=self._overdue, running=self._running, timeout_s=timeout_s
        )
        self._off_loop = OffLoop(
            self._worker_loop, reports.put, clock=self._clock, loops=self._loops, overdue=self._overdue, resources=resources
        )
        self._cancel = RunCancel(self._running, self._off_loop, later, grace_of)
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
        return self._overdue.total

    def lost(self, job_type: str) -> int:
        """The same for one job type."""
        return self._overdue.of(job_type)

    @property
    def longest_s(self) -> float:
        """The longest timeout of the running handlers, in seconds; 0 if none runs."""
        return max((run.seconds for run in self._running), default=0.0)

    def blocked(self, job_type: str) -> int:
        """How often a handler of this job type blocked the handlers' loop."""
        return self._loops.blocked(job_type)

    def timeout_of(self, spec: HandlerSpec) -> float:
        """The timeout of this handler, in seconds."""
        return self._timeout_of(spec.job_type, spec.timeout)

    def is_exhausted(self, spec: HandlerSpec) -> bool:
        """Whether so many runs of this handler have outlived their timeout here that no further one may begin."""
        return self._overdue.is_exhausted(spec)

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
        self._cancel.ask(job_id)

    def cancel_all(self) -> None:
        """Cancel every running handler, and every later one at once."""
        self._cancelled = True
        for run in self._running:
            self._cancel.cancel(run)

    @contextlib.asynccontextmanager
    async def lifespans(self, specs: Collection[HandlerSpec]) -> AsyncIterator[None]:
        """While the context lasts, the handlers' lifespans are entered; then everything is closed. SettingsError if one fails."""
        try:
            await self.enter_lifespans(specs)
            yield
        finally:
            await self._lifespans.leave()
            self.close()

    async def enter_lifespans(self, specs: Collection[HandlerSpec]) -> None:
        """Enter those of the handlers' modules that have not been, before the first run. SettingsError if that fails."""
        if any(lifespans_of(spec.scope) for spec in specs):
            self._loops.current()
            await self._lifespans.enter(specs)

    def leave_unused(self, handlers: Mapping[str, HandlerSpec]) -> None:
        """Leave those of modules that none of these handlers is in, once the last run of one of before has ended."""
        self._lifespans.leave_unused(handlers)

    def close(self) -> None:
        """End idle threads and the loop; overdue handlers are abandoned."""
        self._off_loop.close()
        self._loops.close()

    @property
    def is_stuck(self) -> bool:
        """Whether a handler is still running that cannot be stopped."""
        return self._loops.is_stuck or self.overdue > 0

    async def _run(self, spec: HandlerSpec, job: Job) -> Outcome:
        if self._cancelled or self.is_to_end(job):
            return CANCELLED
        run = Run(spec, job, self.timeout_of(spec), contextvars.copy_context(), self._worker_loop.create_future(), redact=self._redact)
        self._running.add(run)
        self._clock.use()
        try:
            if isinstance(spec, ElsewhereSpec):
                self._off_loop.start_elsewhere(run, spec)
            elif spec.is_async:
                self._loops.start(run)
            else:
                self._off_loop.start_in_thread(run)
            outcome = await run.done
        except asyncio.CancelledError:
            self._cancel.cancel(run)
            raise
        finally:
            self._running.discard(run)
            self._clock.release()
            self._lifespans.on_run_end()
        judged = self._excuses.judge(run, blame_unreadable_payload(outcome, job, spec))
        return replace(judged, kind=OutcomeKind.CANCELLED) if run.is_to_end and judged.kind is not OutcomeKind.SUCCESS else judged

    def _on_report(self, run: Run) -> None:
        if run.on_loop is None:
            self._off_loop.on_report(run)
            return
        if run.ended:
            self._overdue.remove(run)
        else:
            self._overdue.add(run)
        run.finish()

    def _on_standstill(self, seconds: float) -> None:
        self.standstill_s += seconds
        log.warning(
            "this process was suspended for %.1f s (stopped, paused, or starved of CPU); running jobs get that time in addition", seconds
        )

"""What a handler can do with its job while that runs: say how far it is, see that it is to end, and know its deadline.

A run binds one `RunContext` to the object that the handler gets, and takes it away at its end. It is no field of the job, so it is neither
compared nor copied nor pickled: a copy of the job knows no run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from sickbay.domain.follow_up import FollowUp, NewFollowUp, Submit, request_id_of
from sickbay.domain.job_log import logger_of
from sickbay.domain.progress import ReportProgress, checked

if TYPE_CHECKING:
    from sickbay.domain.job import Job
    from sickbay.domain.priority import Priority

_lock: Final = threading.Lock()
"""For what is made only when somebody waits, so one for all runs is enough."""


def _nobody(_: float, __: str) -> None:
    """Nobody wants to know."""


class RunContext:
    """One run of a job, as its handler sees it. Usable in any thread."""

    __slots__ = ("_event", "_wakers", "cancelled", "deadline_ms", "follow_ups", "report", "run", "submit")

    def __init__(self, report: ReportProgress = _nobody, *, run: str = "", deadline_ms: int = 0, submit: Submit | None = None) -> None:
        """`report` gets what the handler says about its progress; `run` names the run; `deadline_ms` is when it times out, 0 if never.

        `submit` begins to submit follow-up jobs.
        """
        self.report = report
        self.submit = submit
        self.follow_ups: list[FollowUp] | None = None
        """Those that the handler has submitted, None before the first one."""
        self.run = run
        self.deadline_ms = deadline_ms
        self.cancelled = False
        self._event: threading.Event | None = None
        self._wakers: list[Callable[[], None]] | None = None

    def begin_submit(self, asked: NewFollowUp, idempotency_key: str, key: str) -> FollowUp:
        """Begin to submit a follow-up of the job with this idempotency key; without a `key` its place among those of its type is one."""
        if self.submit is None:
            raise RuntimeError("the run is over")
        kind = asked.job_type if isinstance(asked.job_type, str) else type(asked.job_type).__name__
        with _lock:
            known = self.follow_ups = self.follow_ups if self.follow_ups is not None else []
            name = key or f"{kind}.{sum(one.job_type == kind and not one.has_key for one in known) + 1}"
            follow_up = FollowUp(kind, request_id_of(idempotency_key, name), has_key=bool(key))
            known.append(follow_up)
        try:
            follow_up.begin(self.submit(replace(asked, request_id=follow_up.request_id)))
        except BaseException:
            with _lock:
                known.remove(follow_up)
            raise
        return follow_up

    def cancel(self) -> None:
        """The handler should end; twice is harmless."""
        with _lock:
            self.cancelled = True
            event, wakers, self._wakers = self._event, self._wakers, None
        if event is not None:
            event.set()
        for wake in wakers or ():
            wake()

    def end(self) -> None:
        """The run is over. Costs nothing unless somebody has waited for its cancellation."""
        self.cancelled = True
        if self._event is not None or self._wakers is not None:
            self.cancel()

    @property
    def event(self) -> threading.Event:
        """Set once `cancelled` is true."""
        with _lock:
            if self._event is None:
                self._event = threading.Event()
            if self.cancelled:
                self._event.set()
            return self._event

    def when_cancelled(self, wake: Callable[[], None]) -> None:
        """Call it in some thread, soon or at once."""
        with _lock:
            if not self.cancelled:
                self._wakers = [*(self._wakers or ()), wake]
                return
        wake()


OVER: Final = RunContext()
"""That of a job whose run is over: what is left of its handler should end."""
OVER.cancel()


class InRun:
    """The part of a job that knows its run."""

    __slots__ = ("_run",)

    _run: RunContext | None

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far this run is: `fraction` from 0 to 1, and a message of at most 200 characters, the rest of which is cut.

        May be called as often as you like, in any thread: it returns at once, and at most one report per second is passed on, the
        newest. After the run, and outside of a worker, it does nothing. Raises ValueError if `fraction` is not a number from 0 to 1.
        """
        valid, text = checked(fraction, message)
        run = context_of(self)
        if run is not None:
            run.report(valid, text)

    @property
    def cancelled(self) -> bool:
        """Whether this run should end: somebody asked to cancel the job, or the run is over and this is what is left of it.

        Readable in any thread; False outside of a worker. An async handler that goes on gets CancelledError after a grace.
        """
        run = context_of(self)
        return run is not None and run.cancelled

    @property
    def cancel_event(self) -> threading.Event:
        """Set as soon as `cancelled` is true: a plain handler pauses with `job.cancel_event.wait(seconds)` in place of `time.sleep`."""
        run = context_of(self)
        return threading.Event() if run is None else run.event

    async def wait_cancelled(self) -> None:
        """Return as soon as `cancelled` is true; outside of a worker never."""
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(woken.set)

        run = context_of(self)
        if run is not None:
            run.when_cancelled(wake)
        await woken.wait()

    @property
    def deadline(self) -> datetime | None:
        """When this run times out, in UTC, by the timeout that is in force; None outside of a worker and without a timeout."""
        run = context_of(self)
        return datetime.fromtimestamp(run.deadline_ms / 1000, UTC) if run is not None and run.deadline_ms else None

    def submit(
        self,
        job_type: Any,
        payload: Any = None,
        *,
        key: str = "",
        priority: Priority | str | None = None,
        tenant: str = "",
        delay: float | timedelta | None = None,
        run_at: datetime | None = None,
    ) -> FollowUp:
        """Submit a follow-up job: `await job.submit(...)`, or `job.submit(...).result()` in a plain handler; both return its id.

        Takes what `submit` of the client takes. It is submitted once for all runs of this job in this generation: the n-th one of its type,
        or that with this `key`, is the same job again when a run is repeated. Tenant and priority are those of this job unless given. The
        run succeeds only when all are durable, awaited or not. Raises SubmitError if it is rejected, RuntimeError outside of a run.

        `delay` (seconds, or a timedelta) or `run_at` (an aware datetime) let it run later. The time that was said first holds: it does not
        move when a run is repeated.
        """
        job, run = cast("Job[Any]", self), context_of(self)
        if run is None or run.submit is None:
            raise RuntimeError("job.submit needs a run of the job: in a worker, or in sickbay.testing.run; elsewhere use sickbay.client")
        content = {} if payload is None and isinstance(job_type, str) else payload
        asked = NewFollowUp(
            job_type, content, tenant=tenant or job.tenant, priority=str(priority or job.priority).upper(), delay=delay, run_at=run_at
        )
        return run.begin_submit(asked, job.idempotency_key, key)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named `job.<job type>` whose lines have the job: job_id, job_type, tenant, attempt, generation, run and trace_id."""
        run = context_of(self)
        return logger_of(cast("Job[Any]", self), "" if run is None else run.run)


def bind(job: InRun, run: RunContext) -> None:
    """A run of the job begins."""
    object.__setattr__(job, "_run", run)


def unbind(job: InRun) -> None:
    """The run is over: what is left of its handler sees that, and says nothing any more."""
    run = context_of(job)
    object.__setattr__(job, "_run", OVER)
    if run is not None:
        run.end()


def context_of(job: InRun) -> RunContext | None:
    """The run of this object, OVER if that is over; None outside of a worker."""
    return getattr(job, "_run", None)


def is_bound(job: InRun) -> bool:
    """Whether a run of this job goes on."""
    run = context_of(job)
    return run is not None and run is not OVER

"""Cancels a job reliably: a waiting one at once, and one that runs by asking its worker.

A worker begins a run without asking anybody, so the workers are asked. First every worker holds the job and answers whether a run of it
has begun. If none has, the cancellation is published to the ledger; it refuses while the job is being released, and then the next
generation is tried. Finally the workers are asked again, so that workers that started meanwhile know of the cancellation, too. A worker
that does not answer may begin a run, and then the error says so.

No worker can have a SCHEDULED job, so they are not asked: the cancellation is published, and the ledger refuses it only if the control
plane is sending the job to them just then. What it has cancelled is not sent any more.

If a run has begun, a request is published instead. The ledger keeps it with the job, and tells the workers: from then on no further run
begins, whatever becomes of this one and of its worker, and only its success is no cancellation (`cancel_requests.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from sickbay.domain.errors import FailedPrecondition, Unavailable
from sickbay.domain.job import JobEvent, JobRecord, JobState, StateChange
from sickbay.domain.queries import HoldAnswer
from sickbay.fleet import count_workers
from sickbay.messages.codec import encode_event
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import Broker, Clock, JobReader, Message
from sickbay.ports.lost import Hold, Holds

PATIENCE_S: Final = 3.0
"""For the ledger to take what was published."""
END_S: Final = 1.0
"""For a run to end that has been asked to: one that looks at `job.cancelled` often has ended by then."""
TRIES: Final = 3
LOOKS: Final = 5
LOOK_S: Final = 0.1


class Canceller:
    """Cancels jobs."""

    def __init__(
        self,
        reader: JobReader,
        holds: Holds,
        broker: Broker,
        clock: Clock,
        find: Callable[[str], Awaitable[JobRecord]],
        *,
        observer: Observer = NOBODY,
    ) -> None:
        """`find` reads a job or raises NotFound."""
        self._reader = reader
        self._holds = holds
        self._broker = broker
        self._publisher = Publisher(broker, observer)
        self._clock = clock
        self._find = find

    async def cancel(self, job_id: str) -> JobRecord:
        """Cancel a job and return it: CANCELLED, or with `cancel_requested_at` if it still runs.

        NotFound; FailedPrecondition if it has ended, or if it runs on a worker that cannot cancel runs; Unavailable if the ledger or a
        worker does not answer.
        """
        record = await self._before_due(await self._find(job_id))
        if record is not None:
            return record
        for _ in range(LOOKS):
            async with self._holds.hold([job_id]) as hold:  # anew, because a hold remembers each run of which it has heard
                record = await self._decide(job_id, hold)
            if record is not None:
                break
            await asyncio.sleep(LOOK_S)
        if record is None:
            raise _lagging()
        return record if record.state is JobState.CANCELLED else await self._end_of(record)

    async def _before_due(self, record: JobRecord) -> JobRecord | None:
        """Cancel a job that is SCHEDULED, and return it as the ledger has it; None if workers may have it, or if the ledger lags behind."""
        _check(record)
        for _ in range(TRIES):  # a change of the job may look like an effect
            if record.state is not JobState.SCHEDULED:
                return None
            await self._publish(_cancellation(record, self._clock()))
            record = await self._find(record.job.job_id)
            if record.state is JobState.CANCELLED:
                return record
            _check(record)
        return None

    async def _decide(self, job_id: str, hold: Hold) -> JobRecord | None:
        """Cancel it, or ask for it, and return the job as the ledger has it then; None if its run is being settled just now."""
        for attempt in range(TRIES):
            answer = await self._ask(hold)
            record = await self._find(job_id)
            if job_id in answer.begun and record.state.in_quarantine:
                return None
            # After the cancellation was published, a run in the ledger is one that the workers reported as over: its end is in flight.
            if job_id in answer.begun or (record.state is JobState.RUNNING and not attempt):
                return await self._find(job_id) if await self._is_requested(record, answer) else None
            if record.state is not JobState.CANCELLED:
                _check(record)
                await self._publish(_cancellation(record, self._clock()))
                record = await self._find(job_id)
            if record.state is JobState.CANCELLED:
                if job_id in (await self._ask(hold)).begun:
                    raise FailedPrecondition("a run of the job had just begun; if it fails, the job is CANCELLED and does not run again")
                return record
        raise _lagging()

    async def _ask(self, hold: Hold) -> HoldAnswer:
        """Which runs have begun. Unavailable if none is known and not every worker has answered."""
        workers = await count_workers(self._broker)
        answer = await hold.ask(workers)
        if answer.workers < workers and not answer.begun:
            raise Unavailable(
                f"{workers - answer.workers} of {workers} workers did not answer, so one of them may begin a run of the job; "
                "make sure that they can connect to the ledger, look at the job, and try again"
            )
        return answer

    async def _is_requested(self, record: JobRecord, answer: HoldAnswer) -> bool:
        """Ask to cancel a job whose run has begun. False if the run has ended meanwhile in a way that allows another one."""
        _check(record)
        if not answer.can_cancel:
            raise FailedPrecondition("a run of the job has begun, and workers of an earlier version run, which cannot cancel it")
        if not record.cancel_requested_at:
            await self._publish(JobEvent(record.job, JobState.RUNNING, self._clock(), cancel_requested=True))
            record = await self._find(record.job.job_id)
        return record.state.is_final or (bool(record.cancel_requested_at) and not record.state.in_quarantine)

    async def _end_of(self, record: JobRecord) -> JobRecord:
        """The job, once its run has ended or after END_S. A success was faster than the request."""
        job_id = record.job.job_id
        async with self._reader.watch(job_id) as changes:
            record = await self._find(job_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    while not record.state.is_final:
                        record, _ = await anext(changes)
        _check(record)
        return record

    async def _publish(self, event: JobEvent) -> None:
        """Publish it to the ledger, and wait until that shows an effect."""
        async with self._reader.watch(event.job.job_id) as changes:
            await self._publisher.publish([Message("job.cancelled", encode_event(event))])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await _effect(changes, event)


async def _effect(changes: AsyncIterator[tuple[JobRecord, StateChange | None]], event: JobEvent) -> None:
    """Wait for a change; a job whose run is to end may have others, such as its begin, before the request is stored."""
    async for record, _ in changes:
        if not event.cancel_requested or record.cancel_requested_at or record.state.is_final or record.state.in_quarantine:
            return


def _cancellation(record: JobRecord, now: int) -> JobEvent:
    return JobEvent(record.job, JobState.CANCELLED, now, code=JobState.CANCELLED.value)


def _lagging() -> Unavailable:
    return Unavailable("the ledger lags behind, or the job is being released right now; look at the job again in a moment")


def _check(record: JobRecord) -> None:
    if record.state.is_final and record.state is not JobState.CANCELLED:
        raise FailedPrecondition(f"the job is {record.state} and can no longer be cancelled")

"""Cancels a job reliably: once it is CANCELLED no further run of it begins; otherwise the error says that it is too late.

A worker begins a run without asking anybody, so the workers are asked. First every worker holds the job and answers whether a run of it
has begun. Only if none has, the cancellation is published to the ledger; it refuses while the job is being released, and then the next
generation is tried. Finally the workers are asked again, so that workers that started meanwhile know of the cancellation, too. A worker
that does not answer may begin a run, and then the error says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from sickbay.domain.errors import FailedPrecondition, Unavailable
from sickbay.domain.job import JobEvent, JobRecord, JobState
from sickbay.fleet import count_workers
from sickbay.messages.codec import encode_event
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import Broker, Clock, JobReader, Message
from sickbay.ports.lost import Hold, Holds

PATIENCE_S: Final = 3.0
TRIES: Final = 3


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
        """Cancel a job and return it.

        NotFound; FailedPrecondition if it runs or has ended; Unavailable if the ledger or a worker does not answer.
        """
        _check(await self._find(job_id))
        async with self._holds.hold([job_id]) as hold:
            for attempt in range(TRIES):
                if job_id in await self._started_runs(hold):
                    raise FailedPrecondition("a run of the job has begun; it can no longer be cancelled")
                record = await self._find(job_id)
                if record.state is not JobState.CANCELLED:
                    _check(record, is_published=attempt > 0)
                    await self._publish_cancellation(record)
                    record = await self._find(job_id)
                if record.state is JobState.CANCELLED:
                    if job_id in await self._started_runs(hold):
                        raise FailedPrecondition(
                            "a run of the job had just begun; if it fails, the job is CANCELLED and does not run again"
                        )
                    return record
        raise Unavailable("the ledger lags behind, or the job is being released right now; look at the job again in a moment")

    async def _started_runs(self, hold: Hold) -> frozenset[str]:
        workers = await count_workers(self._broker)
        answer = await hold.ask(workers)
        if answer.workers < workers and not answer.begun:
            raise Unavailable(
                f"{workers - answer.workers} of {workers} workers did not answer, so one of them may begin a run of the job; "
                "make sure that they can connect to the ledger, look at the job, and try again"
            )
        return answer.begun

    async def _publish_cancellation(self, record: JobRecord) -> None:
        """Publish the cancellation to the ledger, and wait for the result."""
        async with self._reader.watch(record.job.job_id) as changes:
            cancelled = JobEvent(record.job, JobState.CANCELLED, self._clock(), code="CANCELLED")
            await self._publisher.publish([Message("job.cancelled", encode_event(cancelled))])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await anext(changes)


def _check(record: JobRecord, *, is_published: bool = False) -> None:
    """After the cancellation was published, a run in the ledger is one that the workers reported as over: its end is in flight."""
    if (record.state is JobState.RUNNING and not is_published) or (record.state.is_final and record.state is not JobState.CANCELLED):
        raise FailedPrecondition(f"the job is {record.state} and can no longer be cancelled")

"""Whether anything still runs or is due, and when something will be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Final

from sickbay.domain.breaker import BreakerKey, BreakerState, Snapshot
from sickbay.domain.job import JobRecord, JobState, Reason
from sickbay.domain.queries import JobQuery
from sickbay.ports import Queue
from sickbay.runtime.parts import Backends

_PAGE: Final = 1_000
_UNSETTLED: Final = frozenset({JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING, JobState.RETRYING, JobState.PARKED})
_BUSY: Final = (Queue.HIGH, Queue.MAIN, Queue.DEMOTED, Queue.LOW, Queue.LEDGER)


class Settled:
    """Looks at the ledger, the breakers and the queues; all times are ms of the test's clock."""

    def __init__(self, backends: Backends) -> None:
        """Of this system."""
        self._backends = backends

    async def due(self, submitted: Collection[str]) -> tuple[bool, int | None]:
        """Whether something runs or is due now; else when the next thing is, None if nothing will be by itself.

        `submitted` are ids of jobs that were accepted: they may be on their way into the ledger.
        """
        for queue in _BUSY:
            if await self._backends.broker.depth(queue):
                return True, None
        breakers = {one.key: one for one in await self._backends.breakers.snapshots()}
        now, times = self._backends.clock(), []
        async for record in self._unsettled():
            at = self._due_at(record, breakers)
            if at is not None and at <= now:
                return True, None
            if at is not None:
                times.append(at)
        for job_id in submitted:
            if await self._backends.reader.get(job_id) is None:
                return True, None
        return False, min(times, default=None)

    async def _unsettled(self) -> AsyncIterator[JobRecord]:
        cursor = ""
        while True:
            page = await self._backends.reader.find(JobQuery(states=_UNSETTLED), _PAGE, cursor)
            for record in page.items:
                yield record
            cursor = page.cursor
            if not cursor:
                return

    def _due_at(self, record: JobRecord, breakers: dict[BreakerKey, Snapshot]) -> int | None:
        """When something happens to the job by itself: 0 if it is queued or runs, None if nothing will."""
        if record.state in {JobState.RETRYING, JobState.SCHEDULED}:
            return record.job.run_at if record.state is JobState.SCHEDULED else record.next_attempt_at
        if record.state is not JobState.PARKED:
            return 0
        if record.reason is Reason.RATE_LIMITED:
            return None
        breaker = breakers.get(self._backends.breaker_scope.key_of(record.job.job_type, record.job.tenant))
        if breaker is None or not breaker.state.refuses:
            return 0  # it is being released
        if breaker.state is BreakerState.FORCED_OPEN:
            return breaker.forced_until
        return breaker.probe_at or 0

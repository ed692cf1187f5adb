"""Jobs of types that this worker has no handler for: another worker may have one, or a deployment is about to bring one.

Where the registry says from which other queue such workers take (that of a pool, or the common lanes), the job is handed on to there at
once. Else it goes back through the retry queue, in growing pauses, without an attempt being counted. It is quarantined only when certainly
no live worker has handled its type for the whole grace, by the clock of the registry: each copy carries since when.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sickbay.concurrency.pauses import backoff_delay, jitter
from sickbay.domain.job import Job, Reason
from sickbay.domain.lane import lane_of
from sickbay.domain.storable import LAST_MS
from sickbay.domain.workers import Fleet
from sickbay.fleet import FleetView
from sickbay.ports import Delivery, PoolQueue
from worker.settler import LACKING_SINCE, Settler, deferrals

FIRST_PAUSE_MS: Final = 1_000
LONGEST_PAUSE_MS: Final = 30_000
MAX_HOPS: Final = 3
"""So often a job is handed on to the queue of others without a pause."""
ELSEWHERE_PAUSE_MS: Final = 2_000
"""The longest where another worker handles the type: which one gets the job next is chance."""


class UnhandledJobs:
    """One per worker."""

    def __init__(self, fleet: FleetView, settler: Settler, grace_ms: int, pool: str = "") -> None:
        """`grace_ms` is how long no worker must have handled a type before its jobs are quarantined; `pool` is this worker's."""
        self._pool = pool
        self._fleet = fleet
        self._settler = settler
        self._grace_ms = grace_ms

    async def settle(self, delivery: Delivery, job: Job) -> None:
        """Hand the job on, or quarantine it. Raises Unavailable if it cannot be published."""
        fleet = await self._fleet.look()
        pause_ms = min(backoff_delay(FIRST_PAUSE_MS, LONGEST_PAUSE_MS, deferrals(delivery)) * jitter(), LONGEST_PAUSE_MS)
        # If this process dies before the acknowledgement, there are two copies.
        copy = replace(job, maybe_duplicate=True)
        if to := self._elsewhere(fleet, job):
            # At once, because whoever takes from there handles it; if that was an error, not again and again.
            delay_ms = 0 if deferrals(delivery) < MAX_HOPS else round(min(pause_ms, ELSEWHERE_PAUSE_MS))
            return await self._settler.hand_on(delivery, copy, delay_ms, None, to)
        if not fleet.lacks(job.job_type):
            return await self._settler.hand_on(delivery, copy, round(min(pause_ms, ELSEWHERE_PAUSE_MS)), None)
        since = min(_since(delivery) or fleet.now, fleet.now)
        left_ms = since + self._grace_ms - fleet.now
        if left_ms > 0:
            return await self._settler.hand_on(delivery, copy, round(min(pause_ms, left_ms)), since)
        grace = f" for {self._grace_ms / 1000:g} s" if self._grace_ms else ""
        return await self._settler.quarantine(delivery, job, Reason.UNKNOWN_TYPE, f"no live worker has handled {job.job_type!r}{grace}")

    def _elsewhere(self, fleet: Fleet, job: Job) -> str:
        """The key of another queue, whose workers handle the job; empty if there is none, or if they take from the same as this one."""
        pool = fleet.pool_of(job.job_type, job.job_id)
        if pool:
            return PoolQueue(pool).key if pool != self._pool else ""
        return lane_of(job.priority) if self._pool and job.job_type in fleet.common else ""


def _since(delivery: Delivery) -> int:
    """What the header says; 0 without a valid one."""
    text = delivery.headers.get(LACKING_SINCE, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(LAST_MS)) else 0

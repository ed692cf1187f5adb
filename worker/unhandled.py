"""Jobs of types that this worker has no handler for: another worker may have one, or a deployment is about to bring one.

Such a job goes back through the retry queue, in growing pauses, without an attempt being counted. It is quarantined only when certainly no
live worker has handled its type for the whole grace, by the clock of the registry: each copy carries since when.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sickbay.concurrency.pauses import backoff_delay, jitter
from sickbay.domain.job import Job, Reason
from sickbay.domain.storable import LAST_MS
from sickbay.fleet import FleetView
from sickbay.ports import Delivery
from worker.settler import LACKING_SINCE, Settler, deferrals

FIRST_PAUSE_MS: Final = 1_000
LONGEST_PAUSE_MS: Final = 30_000
ELSEWHERE_PAUSE_MS: Final = 5_000
"""The longest where another worker handles the type: which one gets the job next is chance."""


class UnhandledJobs:
    """One per worker."""

    def __init__(self, fleet: FleetView, settler: Settler, grace_ms: int) -> None:
        """`grace_ms` is how long no worker must have handled a type before its jobs are quarantined."""
        self._fleet = fleet
        self._settler = settler
        self._grace_ms = grace_ms

    async def settle(self, delivery: Delivery, job: Job) -> None:
        """Hand the job on, or quarantine it. Raises Unavailable if it cannot be published."""
        fleet = await self._fleet.look()
        pause_ms = min(backoff_delay(FIRST_PAUSE_MS, LONGEST_PAUSE_MS, deferrals(delivery)) * jitter(), LONGEST_PAUSE_MS)
        # If this process dies before the acknowledgement, there are two copies.
        copy = replace(job, maybe_duplicate=True)
        if not fleet.lacks(job.job_type):
            return await self._settler.hand_on(delivery, copy, round(min(pause_ms, ELSEWHERE_PAUSE_MS)), None)
        since = min(_since(delivery) or fleet.now, fleet.now)
        left_ms = since + self._grace_ms - fleet.now
        if left_ms > 0:
            return await self._settler.hand_on(delivery, copy, round(min(pause_ms, left_ms)), since)
        grace = f" for {self._grace_ms / 1000:g} s" if self._grace_ms else ""
        return await self._settler.quarantine(delivery, job, Reason.UNKNOWN_TYPE, f"no live worker has handled {job.job_type!r}{grace}")


def _since(delivery: Delivery) -> int:
    """What the header says; 0 without a valid one."""
    text = delivery.headers.get(LACKING_SINCE, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(LAST_MS)) else 0

"""Isolates jobs that may have killed their worker: after the second crash they run alone, after the third they are quarantined.

Most jobs of a dead worker are not the cause, and most workers do not die of a job, so at first a redelivered job runs like any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sickbay.domain.errors import Unavailable
from sickbay.domain.job import Job
from sickbay.domain.queries import DuplicateCheck
from sickbay.ports import Delivery, DuplicateGuard
from worker.slots import Gates, Seat

MAX_CRASHES: Final = 3
"""Workers a job may kill before it is quarantined as WORKER_LOST."""
_ALONE: Final = "poison candidate"


class CrashIsolation:
    """One per worker. While the ledger is unavailable, jobs continue to run."""

    def __init__(self, guard: DuplicateGuard, prefetch: int) -> None:
        """Jobs that wait for their turn lend their slots to others."""
        self._guard = guard
        self._gates = Gates({_ALONE: 1}, prefetch)

    def close(self) -> None:
        """End all waiting."""
        self._gates.close()

    @asynccontextmanager
    async def turn(self, job: Job, seat: Seat) -> AsyncIterator[bool]:
        """Wait for the turn of a redelivered job: none, or exclusive if a second worker may have died of it. False if it does not come."""
        try:
            is_alone = await self._guard.crashes(job) > 0
        except Unavailable:
            is_alone = True
        if is_alone:
            async with self._gates.turn(_ALONE, seat) as has_come:
                yield has_come
        else:
            yield True

    async def check(self, delivery: Delivery, job: Job) -> DuplicateCheck:
        """Whether this copy is superseded, and how many workers died while running it; a redelivered one counts from now on."""
        try:
            return await self._guard.check(job, suspect=delivery.redelivered)
        except Unavailable:
            return DuplicateCheck(superseded=False)

    async def record_survival(self, delivery: Delivery, job: Job) -> None:
        """Its run has ended and the process is still alive."""
        if delivery.redelivered:
            with contextlib.suppress(Unavailable):
                await self._guard.clear_crashes(job)

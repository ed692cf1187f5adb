"""How many jobs run at a time: slots for the whole worker, gates for job types that allow only a few."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol

from sickbay.ports import PREFETCH_BYTES

MAX_WAIT_S: Final = 120.0
"""How long a job waits at most for a turn of its job type, or as a poison candidate for running alone."""
MAX_HELD_S: Final = 1_680.0
"""28 minutes: a run begins only if its timeout ends by then, counted from the delivery, because after 30 RabbitMQ closes the channel and
requeues all its deliveries. The longest timeout (25 minutes) leaves 3 for waiting; most jobs have nearly the whole time."""


class Slots:
    """Counts the handlers that may start."""

    def __init__(self, size: int) -> None:
        """Offer `size` slots."""
        self._size = size
        self.left = size
        """How many are free; below 0 if jobs that return from a gate exceed the limit for a moment."""

    @property
    def in_use(self) -> int:
        """How many are taken."""
        return min(self._size, self._size - self.left)

    def take(self) -> None:
        """Use one; the caller knows that one is free, or returns from a gate."""
        self.left -= 1

    def give(self) -> None:
        """Return one."""
        self.left += 1


class Seat(Protocol):
    """The slot of one job."""

    def give(self) -> None:
        """Lend it to others."""

    def take(self) -> None:
        """Take it again."""


class Gates:
    """Limits how many jobs of a type run at a time; those that wait do not occupy slots."""

    def __init__(self, limits: Mapping[str, int], crowd: int, crowd_bytes: int = PREFETCH_BYTES) -> None:
        """Limit each job type in `limits`; it is crowded if more than `crowd` of its jobs wait, or more than `crowd_bytes` of messages."""
        self._waiting_bytes = dict.fromkeys(limits, 0)
        self._crowd_bytes = crowd_bytes
        self._gates = {job_type: asyncio.Semaphore(limit) for job_type, limit in limits.items()}
        self._waiting = dict.fromkeys(limits, 0)
        self._crowd = crowd
        self._patience_s = MAX_WAIT_S
        self._waits: set[asyncio.Timeout] = set()

    def is_crowded(self, job_type: str) -> bool:
        """Whether so many wait that another one should be deferred: waiting jobs must not use up the prefetch of other job types."""
        return self._waiting.get(job_type, 0) > self._crowd or self._waiting_bytes.get(job_type, 0) > self._crowd_bytes

    def close(self) -> None:
        """End all waiting, now and later: jobs that cannot begin at once begin elsewhere."""
        self._patience_s = 0
        for wait in self._waits:
            wait.reschedule(0)

    @asynccontextmanager
    async def turn(self, job_type: str, seat: Seat, size: int = 0) -> AsyncIterator[bool]:
        """Wait for a turn, lending the slot to others meanwhile; False if none came within MAX_WAIT_S. `size` is that of the message."""
        gate = self._gates.get(job_type)
        if gate is None:
            yield True
            return
        if gate.locked():
            if not await self._wait(job_type, gate, seat, size):
                yield False
                return
        else:
            await gate.acquire()
        try:
            yield True
        finally:
            gate.release()

    async def _wait(self, job_type: str, gate: asyncio.Semaphore, seat: Seat, size: int) -> bool:
        self._waiting[job_type] += 1
        self._waiting_bytes[job_type] += size
        seat.give()
        limit = asyncio.timeout(self._patience_s)
        try:
            async with limit:
                self._waits.add(limit)
                await gate.acquire()
        except TimeoutError:
            return False
        else:
            return True
        finally:
            self._waits.discard(limit)
            seat.take()
            self._waiting[job_type] -= 1
            self._waiting_bytes[job_type] -= size

"""How many jobs run at a time: slots for the whole worker, gates for job types that allow only a few."""

from __future__ import annotations

import asyncio
import math
from collections import deque
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


class Gate(Protocol):
    """Says when the next job of a type may begin. `waiting` jobs wait for that, in messages of `waiting_bytes`."""

    waiting: int
    waiting_bytes: int

    def enter(self) -> bool:
        """Go through at once; False if it is not free, or others wait."""

    async def wait(self) -> None:
        """Wait until it is free, and go through. TimeoutError if it is taken away meanwhile."""

    def leave(self) -> None:
        """Somebody who went through has finished; called by the task that did."""

    def remove(self) -> None:
        """The type has another gate from now on, or none: nobody comes any more, and those that wait need not do so."""


class _Limit:
    """Lets `limit` jobs through at a time, in the order in which they came; the limit may change."""

    def __init__(self, limit: int) -> None:
        self._limit: float = limit
        self._through = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.waiting = 0
        self.waiting_bytes = 0

    def enter(self) -> bool:
        """Go through at once; False if it is not free, or others wait."""
        if self._through >= self._limit or self._waiting:
            return False
        self._through += 1
        return True

    async def wait(self) -> None:
        """Wait until it is free, and go through."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            else:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Somebody who went through has finished."""
        self._through -= 1
        self._let_through()

    def resize(self, limit: float) -> None:
        """From now on so many."""
        self._limit = limit
        self._let_through()

    def remove(self) -> None:
        """See `Gate`: all may go through."""
        self.resize(math.inf)

    def _let_through(self) -> None:
        while self._waiting and self._through < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._through += 1
                turn.set_result(None)


class Gates:
    """Limits how many jobs of a type run at a time; those that wait do not occupy slots."""

    def __init__(self, limits: Mapping[str, int | Gate], crowd: int, crowd_bytes: int = PREFETCH_BYTES) -> None:
        """Limit each job type in `limits`, which are numbers, or gates of the caller's.

        A type is crowded if more than `crowd` of its jobs wait, or more than `crowd_bytes` of messages.
        """
        self._crowd_bytes = crowd_bytes
        self._gates: dict[str, Gate] = {job_type: _gate(limit) for job_type, limit in limits.items()}
        self._crowd = crowd
        self._patience_s = MAX_WAIT_S
        self._waits: set[asyncio.Timeout] = set()

    def limit(self, limits: Mapping[str, int | Gate]) -> None:
        """From now on limit these job types and no others."""
        for job_type in self._gates.keys() - limits.keys():
            self._gates.pop(job_type).remove()
        for job_type, limit in limits.items():
            gate = self._gates.get(job_type)
            if isinstance(limit, int) and isinstance(gate, _Limit):
                gate.resize(limit)
            elif gate is not limit:
                self._gates[job_type] = _gate(limit)
                if gate is not None:
                    gate.remove()

    def waiting(self, job_type: str) -> int:
        """How many jobs of this type wait for a turn."""
        gate = self._gates.get(job_type)
        return gate.waiting if gate is not None else 0

    def is_crowded(self, job_type: str) -> bool:
        """Whether so many wait that another one should be deferred: waiting jobs must not use up the prefetch of other job types."""
        gate = self._gates.get(job_type)
        return gate is not None and (gate.waiting > self._crowd or gate.waiting_bytes > self._crowd_bytes)

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
        if not gate.enter() and not await self._wait(gate, seat, size):
            yield False
            return
        try:
            yield True
        finally:
            gate.leave()

    async def _wait(self, gate: Gate, seat: Seat, size: int) -> bool:
        gate.waiting += 1
        gate.waiting_bytes += size
        seat.give()
        limit = asyncio.timeout(self._patience_s)
        try:
            async with limit:
                self._waits.add(limit)
                await gate.wait()
        except TimeoutError:
            return False
        else:
            return True
        finally:
            self._waits.discard(limit)
            seat.take()
            gate.waiting -= 1
            gate.waiting_bytes -= size


def _gate(limit: int | Gate) -> Gate:
    return _Limit(limit) if isinstance(limit, int) else limit

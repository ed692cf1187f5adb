"""Which program runs a job: the one with most free slots, and jobs that find none wait in the order in which they came.

A job takes its place before its run begins, so that neither its timeout nor its breaker's permit runs while it waits for a slot.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Final, Protocol


class Slots(Protocol):
    """The slots of a program."""

    def free(self, job_type: str) -> int:
        """How many more jobs of this type it may run."""

    def take(self, job_type: str) -> None:
        """A job of this type takes one."""

    def give(self, job_type: str) -> None:
        """It has become free."""


class Place:
    """A slot of a program, taken for a job: from when it may begin until the program has answered."""

    __slots__ = ("_is_free", "began", "job_type", "program")

    def __init__(self, program: Slots, job_type: str) -> None:
        """Take a slot that is free."""
        self.program, self.job_type, self.began, self._is_free = program, job_type, False, False
        program.take(job_type)

    def free(self) -> None:
        """The program has done with it. Calling it again does nothing."""
        if not self._is_free:
            self._is_free = True
            self.program.give(self.job_type)


PLACE: Final[ContextVar[Place | None]] = ContextVar("place", default=None)
"""The place of the job that the current task processes."""


class ProgramGate:
    """The `Gate` of a job type that programs handle."""

    def __init__(self, job_type: str, order: Iterator[int]) -> None:
        """No program handles it yet; `order` numbers the jobs that wait, of all types."""
        self.job_type = job_type
        self.programs: deque[Slots] = deque()
        self.waiting = self.waiting_bytes = 0
        self._order = order
        self._queue: deque[tuple[int, asyncio.Future[Place]]] = deque()

    def enter(self) -> bool:
        """Take a place; False if none is free, or others wait."""
        if self._queue:
            return False
        place = self._take()
        if place is None:
            return False
        PLACE.set(place)
        return True

    async def wait(self) -> None:
        """Wait for a place."""
        entry = (next(self._order), asyncio.get_running_loop().create_future())
        self._queue.append(entry)
        turn = entry[1]
        try:
            PLACE.set(await turn)
        except asyncio.CancelledError:
            if entry in self._queue:
                self._queue.remove(entry)
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                turn.result().free()
            raise

    def leave(self) -> None:
        """Give up the place of this task's job, unless a program runs it, also still."""
        place = PLACE.get()
        if place is not None:
            PLACE.set(None)
            if not place.began:
                place.free()

    def remove(self) -> None:
        """Nobody handles the type any more: those that wait go back to the queue."""
        while self._queue:
            _, turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(TimeoutError())

    @property
    def first(self) -> int | None:
        """The number of the job that has waited longest; None if none waits."""
        while self._queue and self._queue[0][1].done():
            self._queue.popleft()
        return self._queue[0][0] if self._queue else None

    def admit(self) -> bool:
        """Let the job through that has waited longest, which there is, if there is a place for it."""
        place = self._take()
        if place is None:
            return False
        self._queue.popleft()[1].set_result(place)
        return True

    def _take(self) -> Place | None:
        """A slot of the program with most free ones; of several the one that was not asked for longest."""
        best, most = None, 0
        for program in self.programs:
            free = program.free(self.job_type)
            if free > most:
                best, most = program, free
        if best is None:
            return None
        self.programs.remove(best)
        self.programs.append(best)
        return Place(best, self.job_type)


def admit_next(gates: Mapping[str, ProgramGate], job_types: Iterable[str]) -> None:
    """Let jobs through for which there are places now, those first that have waited longest."""
    crowded = {job_type for job_type in job_types if job_type in gates and gates[job_type].first is not None}
    while crowded:
        oldest = min(crowded, key=_first(gates))
        gate = gates[oldest]
        if not gate.admit() or gate.first is None:
            crowded.discard(oldest)


def _first(gates: Mapping[str, ProgramGate]) -> Callable[[str], int]:
    return lambda job_type: gates[job_type].first or 0

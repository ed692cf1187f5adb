"""Long lists give way to single calls: while somebody submits one job at a time, work on a batch rests between its steps.

A batch of 250 jobs takes 15 ms of the event loop, and a client that sends one after the other would keep a processor busy. A single call
needs a dozen steps of several threads and processes; each of them would wait for a processor. So lists are worked on in slices of
`tasks.TURN_S`, and while single calls come, the slices of all lists together are REST_S apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from time import monotonic
from typing import Final, TypeVar

from sickbay.concurrency.tasks import TURN_S

REST_S: Final = 0.002
"""Between two slices, while single calls come."""
FEW: Final = 4
"""With more lists than this under way, slices follow sooner, so that a list never takes several times as long as it would alone."""
WATCHED_S: Final = 1.0
"""How long after a single call lists still give way: others will probably follow."""

T = TypeVar("T")


class Slices:
    """One per service."""

    def __init__(self, seconds: Callable[[], float] = monotonic, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """`seconds` is a monotonic clock, `sleep` waits for so many seconds."""
        self._seconds, self._sleep = seconds, sleep
        self._called = float("-inf")
        self._next = float("-inf")
        self._lists = 0

    def called(self) -> None:
        """A single call has come."""
        self._called = self._seconds()

    async def over(self, items: Iterable[T]) -> AsyncIterator[T]:
        """Iterate in order, in slices."""
        self._lists += 1
        try:
            began = self._seconds()
            for number, item in enumerate(items):
                if number and self._seconds() - began >= TURN_S:  # not after the last: a single call never rests
                    await self._rest()
                    began = self._seconds()
                yield item
        finally:
            self._lists -= 1

    async def _rest(self) -> None:
        """Give the event loop a turn, and while single calls come, wait until the next slice may begin."""
        now = self._seconds()
        if now - self._called > WATCHED_S:
            await self._sleep(0)
            return
        self._next = max(now, self._next) + REST_S * min(1.0, FEW / self._lists)
        await self._sleep(self._next - now)

"""Who sends next on a connection that many share: large calls take turns, piece by piece, and small ones wait for none of them.

A channel works on its messages in their order. So what large calls have in flight is bounded, and small ones use another channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

SMALL: Final = 8
"""A call of so many messages is small: a submission is two, a job and its event."""
PIECE: Final = 32
"""Messages that a larger call sends at its turn."""
PIECE_BYTES: Final = 128 * 1024
"""A piece has no more, unless it is a single message; a small call has no more."""
PIECES: Final = 8
"""In flight at a time, of all calls that are not small."""
CALLS: Final = 8
"""Calls of several pieces that take turns; others wait for the end of one. If all made progress at once, an overload would time out all."""
SMALL_CALLS: Final = 1_000
"""In flight at a time."""


class Sized(Protocol):
    """Something to send."""

    @property
    def body(self) -> bytes:
        """What counts of its size."""


T = TypeVar("T", bound=Sized)


def is_small(items: Sequence[Sized]) -> bool:
    """Whether a call of these waits for no large one."""
    return len(items) <= SMALL and sum(len(item.body) for item in items) <= PIECE_BYTES


class Turns:
    """One per connection. The messages of a call are sent in their order; calls that run at the same time have none among them."""

    def __init__(self) -> None:
        """Nothing is in flight."""
        self._small = asyncio.Semaphore(SMALL_CALLS)
        self._calls = asyncio.Semaphore(CALLS)
        self._pieces = asyncio.Semaphore(PIECES)  # serves in the order of asking, so calls that ask for each piece take turns

    async def send(self, items: Sequence[T], send: Callable[[T], Awaitable[None]]) -> None:
        """Call `send` for each, which returns when it is confirmed; return when nothing is in flight any more.

        Raises the first failure, after which no further piece is sent. If the caller is cancelled, so is what is in flight.
        """
        if is_small(items):
            async with self._small:
                _check(await _sent(items, send))
            return
        pieces = list(_cut(items))
        if len(pieces) > 1:
            async with self._calls:
                await self._take_turns(pieces, send)
        else:
            await self._take_turns(pieces, send)

    async def _take_turns(self, pieces: Sequence[Sequence[T]], send: Callable[[T], Awaitable[None]]) -> None:
        failures: list[BaseException] = []

        def over(task: asyncio.Task[BaseException | None]) -> None:
            self._pieces.release()  # here, because a task that is cancelled before it begins does nothing
            if not task.cancelled() and (failure := task.result()) is not None:
                failures.append(failure)

        async with asyncio.TaskGroup() as group:
            for piece in pieces:
                await self._pieces.acquire()
                if failures:
                    self._pieces.release()
                    break
                group.create_task(_sent(piece, send)).add_done_callback(over)
                await asyncio.sleep(0)  # others get the event loop between two pieces
        _check(*failures[:1])


async def _sent(piece: Sequence[T], send: Callable[[T], Awaitable[None]]) -> BaseException | None:
    """Send all of them, also when one fails; the first failure."""
    outcomes = await asyncio.gather(*(send(item) for item in piece), return_exceptions=True)
    return next((outcome for outcome in outcomes if outcome is not None), None)


def _check(failure: BaseException | None = None) -> None:
    if failure is not None:
        raise failure


def _cut(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """In pieces, in order; none of no items."""
    first, size = 0, 0
    for place, item in enumerate(items):
        if place > first and (place - first == PIECE or size + len(item.body) > PIECE_BYTES):
            yield items[first:place]
            first, size = place, 0
        size += len(item.body)
    if items:
        yield items[first:]

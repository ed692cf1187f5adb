"""Work beside its caller: what runs in the background and must not die unnoticed, and what its caller must not be able to break off.

A client that leaves cancels the task of its call, wherever that stands. So whatever changes something is a method that is `detached`: it
runs to its end in a task of its own, and the cancellation of a caller only ends the waiting. That holds for the steps (a transaction, a
publish, a command to Redis) and for the moves that consist of several (reserve, publish, confirm).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import wraps
from time import monotonic
from typing import Any, Concatenate, Final, ParamSpec, Protocol, Self, TypeVar

from sickbay.concurrency.pauses import Pauses
from sickbay.domain.errors import ErrorReason, Refused, SickbayError, Unavailable

MAX_LEFT_BEHIND: Final = 1_000
"""Pieces of work whose callers have gone; beyond that new work is refused until some of them have ended."""
CLOSE_S: Final = 3.0
"""Seconds that work gets to come to its end when its place is closed; it needs milliseconds."""

TURN_S: Final = 0.0003
"""For how long a list is worked on before others have a turn on the event loop."""

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
"""Between a fault of background work and its next beginning."""

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def background(*work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run each beside the context's body, as `begun_again` does, and cancel it at the end."""
    tasks = [asyncio.create_task(begun_again(one)) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def begun_again(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it to its end, and begin it again after a fault: a process that lost one of its parts would look well and be of no use."""
    loop, pauses = asyncio.get_running_loop(), Pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
    while True:
        began = loop.time()
        try:
            await work()
        except Exception:
            if loop.time() - began > LONGEST_PAUSE_S:
                pauses.reset()
            pause_s = pauses.next_s()
            log.critical("internal error in a background task; restarting it in %.1f s", pause_s, exc_info=True)
            await asyncio.sleep(pause_s)
        else:
            return


class DetachedTasks:
    """The tasks of one place, whose callers may leave. Close it before what the work needs."""

    def __init__(self, limit: int = MAX_LEFT_BEHIND) -> None:
        """At most `limit` of them may be left behind by their callers at a time."""
        self._limit = limit
        self._tasks: set[asyncio.Task[Any]] = set()
        self._left_behind: set[asyncio.Task[Any]] = set()

    @property
    def left_behind(self) -> int:
        """How many still run although their callers have gone."""
        return len(self._left_behind)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work in a task of its own and return what it returns; a caller that is cancelled only stops waiting for it.

        Raises what the work raises; Refused if it was not begun, because too much is left behind; Unavailable if `close` broke it off.
        """
        if len(self._left_behind) >= self._limit:
            work.close()
            raise Refused("too many requests of disconnected clients are still being finished; try again later")
        task = self._begin(work)
        ended = asyncio.get_running_loop().create_future()

        def tell(_: asyncio.Task[T]) -> None:
            if not ended.done():
                ended.set_result(None)

        task.add_done_callback(tell)
        try:
            await ended
        except asyncio.CancelledError:
            self._leave(task)
            raise
        if task.cancelled():
            raise Unavailable("the service is stopping; nothing is lost, try again later", ErrorReason.SHUTTING_DOWN)
        return task.result()

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Do the work, which nobody waits for; it is not begun where too much is left behind already."""
        if len(self._left_behind) >= self._limit:
            work.close()
            return
        self._leave(self._begin(work))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, within_s: float = CLOSE_S) -> None:
        """Wait for what still runs, and break off what takes longer; closing twice is harmless."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=within_s)
        for task in late:
            log.warning("%s timed out while closing and is cancelled", task.get_coro().__qualname__)  # type: ignore[union-attr]
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=within_s)

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _leave(self, task: asyncio.Task[Any]) -> None:
        if task.done():
            _tell_of_orphan(task)
            return
        self._left_behind.add(task)
        task.add_done_callback(self._left_behind.discard)
        task.add_done_callback(_tell_of_orphan)


def _tell_of_orphan(task: asyncio.Task[Any]) -> None:
    """Nobody else hears how it ended. A refusal is the client's own affair, and a server that is away is told by whoever watches it."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, SickbayError):
        log.info("a request of a disconnected client failed: %s", error)
    elif error is not None:
        log.error("internal error in a request of a disconnected client", exc_info=error)


class HasDetached(Protocol):
    """What has a place for detached work."""

    @property
    def detached(self) -> DetachedTasks:
        """The place."""


S = TypeVar("S", bound=HasDetached)


def detached(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make a method one that its caller cannot break off: it runs in a task of its object's `detached`."""

    @wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.detached.run(method(self, *args, **kwargs))

    return call


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items in order; whenever work on them has taken a moment others have a turn, so a long list keeps nobody waiting."""
    began = monotonic()
    for item in items:
        yield item
        if monotonic() - began >= TURN_S:
            await asyncio.sleep(0)
            began = monotonic()

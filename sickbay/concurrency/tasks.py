"""Background tasks that are restarted when they fail, and detached tasks that their callers cannot cancel.

A client that disconnects cancels the task of its call at any await. So every method that changes something is `detached`: it runs to its
end in a task of its own, and cancelling the caller only ends the waiting. That applies to single steps (a transaction, a publish, a command
to Redis) and to sequences of them (reserve, publish, confirm).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import wraps
from time import monotonic
from typing import Any, Concatenate, Final, ParamSpec, Protocol, Self, TypeVar

from sickbay.concurrency.pauses import Backoff
from sickbay.domain.errors import ErrorReason, Refused, SickbayError, Unavailable

MAX_LEFT_BEHIND: Final = 1_000
"""Running tasks whose callers have gone; beyond that new work is rejected until some of them have ended."""
CLOSE_S: Final = 3.0
"""Seconds that tasks get to finish on close; they need milliseconds."""

TURN_S: Final = 0.0003
"""How long a list is worked on before the event loop gets a turn."""

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
"""Between a fault of a background task and its restart."""

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def background(*work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run each in the background with `run_with_restarts`, and cancel it at the end."""
    tasks = [asyncio.create_task(run_with_restarts(one)) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_with_restarts(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it to its end, and restart it after a fault: a process that lost one of its parts would look healthy and do nothing."""
    loop, pauses = asyncio.get_running_loop(), Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
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
    """The detached tasks of one object. Close it before the resources that the tasks use."""

    def __init__(self, limit: int = MAX_LEFT_BEHIND) -> None:
        """At most `limit` of them may run at a time after their callers have gone."""
        self._limit = limit
        self._tasks: set[asyncio.Task[Any]] = set()
        self._left_behind: set[asyncio.Task[Any]] = set()

    @property
    def left_behind(self) -> int:
        """The number of running tasks whose callers have gone."""
        return len(self._left_behind)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in a task of its own and return its result; a caller that is cancelled only stops waiting for it.

        Raises what it raises; Refused if it was not started, because too many tasks have lost their callers; Unavailable if `close`
        cancelled it.
        """
        if len(self._left_behind) >= self._limit:
            work.close()
            raise Refused("too many requests of disconnected clients are still being finished; try again later")
        task = self._create_task(work)
        ended = asyncio.get_running_loop().create_future()

        def notify(_: asyncio.Task[T]) -> None:
            if not ended.done():
                ended.set_result(None)

        task.add_done_callback(notify)
        try:
            await ended
        except asyncio.CancelledError:
            self._leave_behind(task)
            raise
        if task.cancelled():
            raise Unavailable("the service is stopping; nothing is lost, try again later", ErrorReason.SHUTTING_DOWN)
        return task.result()

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Run it without a caller that waits; it is not started if too many such tasks are running already."""
        if len(self._left_behind) >= self._limit:
            work.close()
            return
        self._leave_behind(self._create_task(work))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, within_s: float = CLOSE_S) -> None:
        """Wait for running tasks, and cancel those that take longer; closing twice is harmless."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=within_s)
        for task in late:
            log.warning("%s timed out while closing and is cancelled", task.get_coro().__qualname__)  # type: ignore[union-attr]
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=within_s)

    def _create_task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _leave_behind(self, task: asyncio.Task[Any]) -> None:
        if task.done():
            _log_orphan(task)
            return
        self._left_behind.add(task)
        task.add_done_callback(self._left_behind.discard)
        task.add_done_callback(_log_orphan)


def _log_orphan(task: asyncio.Task[Any]) -> None:
    """Log how it failed, since no caller does: errors that a client would have received as information, faults as errors."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, SickbayError):
        log.info("a request of a disconnected client failed: %s", error)
    elif error is not None:
        log.error("internal error in a request of a disconnected client", exc_info=error)


class HasDetached(Protocol):
    """An object with detached tasks."""

    @property
    def detached(self) -> DetachedTasks:
        """Its detached tasks."""


S = TypeVar("S", bound=HasDetached)


def detached(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make a method one that its caller cannot cancel: it runs as a task of its object's `detached`."""

    @wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.detached.run(method(self, *args, **kwargs))

    return call


async def cooperatively(items: Iterable[T]) -> AsyncIterator[T]:
    """Iterate in order and yield to the event loop whenever TURN_S has passed, so that a long list blocks nobody."""
    began = monotonic()
    for item in items:
        yield item
        if monotonic() - began >= TURN_S:
            await asyncio.sleep(0)
            began = monotonic()

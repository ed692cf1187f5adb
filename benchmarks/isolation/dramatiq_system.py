"""Dramatiq on RabbitMQ, in a virtual host of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from benchmarks.isolation.dramatiq_jobs import actors, broker, name
from benchmarks.isolation.rows import Batch
from benchmarks.isolation.system import Setting
from benchmarks.outage.corner import own_vhost
from benchmarks.outage.processes import child

_READY: Final = re.compile("ready")
_CHUNK: Final = 100


class Dramatiq:
    """Its client; a connection belongs to a thread, so floods have a thread of their own.

    Floods are not confirmed: else one client sends less than the workers can do, and nothing would wait.
    """

    has_priorities = True

    def __init__(self, url: str, *, by_hand: bool) -> None:
        """Nothing is connected yet."""
        self.address = url
        self._thread, self._floods = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._brokers: Any = [broker(url), broker(url, confirm=False)]
        self._one, self._many = (actors(made, _elsewhere, by_hand=by_hand) for made in self._brokers)

    async def submit(self, batch: Batch, number: int) -> None:
        """One message."""
        await self._do(self._thread, lambda: _send(self._one[name(batch)], batch, [number]))

    async def flood(self, batch: Batch, numbers: Sequence[int]) -> None:
        """One message for each; in pieces, so that an interruption is heard."""
        for first in range(0, len(numbers), _CHUNK):
            chunk = numbers[first : first + _CHUNK]
            await self._do(self._floods, partial(_send, self._many[name(batch)], batch, chunk))

    def cpu_s(self) -> float:
        """Nobody asks."""
        return 0.0

    async def close(self) -> None:
        """Close the connections."""
        for thread, made in zip((self._thread, self._floods), self._brokers, strict=True):
            await self._do(thread, made.close)
        self._floods.shutdown()
        self._thread.shutdown()

    async def _do(self, thread: ThreadPoolExecutor, step: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(thread, step)


def _send(actor: Any, batch: Batch, numbers: Sequence[int]) -> None:
    for number in numbers:
        actor.send(batch.kind, number, batch.ms)


def _elsewhere(kind: str, number: int, ms: int) -> None:
    """The worker has the real one."""


@asynccontextmanager
async def dramatiq(setting: Setting, workers: int, *, by_hand: bool) -> AsyncIterator[Dramatiq]:
    """So many worker processes."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(own_vhost())
        for number in range(workers):
            command = ["benchmarks.isolation.dramatiq_worker", url, *(["--by-hand"] if by_hand else [])]
            worker = await stack.enter_async_context(child(command, setting.folder, setting.env, f"dramatiq-{number}"))
            await worker.said(_READY)
        yield await stack.enter_async_context(connected(url, by_hand=by_hand))


@asynccontextmanager
async def connected(url: str, *, by_hand: bool) -> AsyncIterator[Dramatiq]:
    """A client."""
    client = Dramatiq(url, by_hand=by_hand)
    try:
        yield client
    finally:
        await client.close()

"""Counts a worker of a pool: it subscribes to a queue in which nothing ever is, whose consumers the broker counts.

Whoever cancels or requeues a job must know how many processes may run it, also while Redis, which knows the pools, is away.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from sickbay.ports import Broker, Consumer, Queue


class PoolRoll:
    """One per worker of a pool: counted while it takes jobs."""

    def __init__(self, broker: Broker) -> None:
        """Not counted yet."""
        self._broker = broker
        self._stack = AsyncExitStack()
        self._consumer: Consumer | None = None

    async def __aenter__(self) -> Self:
        self._consumer = await self._stack.enter_async_context(self._broker.consume(Queue.POOLS, 1))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def leave(self) -> None:
        """It takes no more jobs."""
        if self._consumer is not None:
            await self._consumer.stop()

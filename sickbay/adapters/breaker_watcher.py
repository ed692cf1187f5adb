"""Hands changes of circuits to a reader that may be slow: it misses steps in between, never the latest of a circuit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sickbay.domain.breaker import BreakerKey, Snapshot


class BreakerWatcher:
    """An iterator over changes that keeps the latest per circuit; it ends when it is closed."""

    def __init__(self) -> None:
        self._changes: dict[BreakerKey, Snapshot] = {}
        self._news = asyncio.Event()
        self._closed = False

    def offer(self, change: Snapshot) -> None:
        """Replace what is not read yet of the same circuit."""
        self._changes[change.key] = change
        self._news.set()

    def close(self) -> None:
        """End the iteration, also of a reader that waits just now."""
        self._closed = True
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Snapshot]:
        return self

    async def __anext__(self) -> Snapshot:
        while not self._changes and not self._closed:
            self._news.clear()
            await self._news.wait()
        if self._closed:
            raise StopAsyncIteration
        return self._changes.pop(next(iter(self._changes)))

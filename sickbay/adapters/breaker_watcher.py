"""Passes changes of breakers to a reader that may be slow: it misses intermediate changes, never the latest of a breaker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sickbay.domain.breaker import BreakerKey, Snapshot


class BreakerWatcher:
    """An iterator over changes that keeps the latest per breaker; it ends when it is closed."""

    def __init__(self) -> None:
        self._changes: dict[BreakerKey, Snapshot] = {}
        self._has_changes = asyncio.Event()
        self._closed = False

    def offer(self, change: Snapshot) -> None:
        """Add a change; it replaces an unread one of the same breaker."""
        self._changes[change.key] = change
        self._has_changes.set()

    def close(self) -> None:
        """End the iteration, also for a waiting reader."""
        self._closed = True
        self._has_changes.set()

    def __aiter__(self) -> AsyncIterator[Snapshot]:
        return self

    async def __anext__(self) -> Snapshot:
        while not self._changes and not self._closed:
            self._has_changes.clear()
            await self._has_changes.wait()
        if self._closed:
            raise StopAsyncIteration
        return self._changes.pop(next(iter(self._changes)))

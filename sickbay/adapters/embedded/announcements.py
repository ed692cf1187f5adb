"""Tells watchers what becomes of the breakers of this process: of a change at once, of a ramp that moves twenty times a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from sickbay.adapters.breaker_watcher import BreakerWatcher
from sickbay.breaker.document import Document
from sickbay.domain.breaker import BreakerKey, Snapshot

CALM_S: Final = 0.05
"""A ramp moves at each start and end of a run. To tell of each would cost more than the step itself, so they are told together."""


class Announcements:
    """Without a watcher it costs nothing."""

    def __init__(self, find: Callable[[BreakerKey], Document | None], show: Callable[[Document], Snapshot]) -> None:
        """`find` returns a breaker as it is now, `show` what watchers hear of it."""
        self._find = find
        self._show = show
        self.watchers: set[BreakerWatcher] = set()
        self._moved: set[BreakerKey] = set()
        """Breakers whose ramp has moved and whose watchers do not know yet."""

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Snapshot]]:
        """See `Breakers.watch`. For a slow reader at most one snapshot per breaker is kept."""
        watcher = BreakerWatcher()
        self.watchers.add(watcher)
        try:
            yield watcher
        finally:
            self.watchers.discard(watcher)
            watcher.close()

    def record(self, doc: Document, old: Document | None) -> None:
        """The breaker was `old` and is `doc` now."""
        if not self.watchers:
            return
        if old is None or doc.ramp is None or old.ramp is None or doc.epoch != old.epoch or doc.run != old.run:
            self._moved.discard(doc.key)
            self._offer(doc)
            return
        if not self._moved:
            asyncio.get_running_loop().call_later(CALM_S, self._tell_moved)
        self._moved.add(doc.key)

    def _tell_moved(self) -> None:
        moved, self._moved = self._moved, set()
        for key in moved:
            if (doc := self._find(key)) is not None:
                self._offer(doc)

    def _offer(self, doc: Document) -> None:
        change = self._show(doc)
        for watcher in self.watchers:
            watcher.offer(change)

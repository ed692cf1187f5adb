"""The schedules in the code of workers in memory: those of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.code_schedule import RETENTION_MS, CodeScheduleSet
from sickbay.ports import Clock


class EmbeddedCodeSchedules:
    """Implements `CodeSchedules`."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is known yet."""
        self._clock = clock
        self._known: dict[str, tuple[CodeScheduleSet, int]] = {}
        """Each with the time at which it was renewed."""
        self._news = asyncio.Event()

    async def announce(self, sets: Sequence[CodeScheduleSet]) -> None:
        """Enter sets."""
        now = self._clock()
        self._known |= {one.digest: (one, now) for one in sets}
        self._news.set()

    async def renew(self, digests: Sequence[str]) -> Sequence[str]:
        """Keep sets that are in use; returns those that are unknown."""
        self._forget()
        now = self._clock()
        self._known |= {digest: (self._known[digest][0], now) for digest in digests if digest in self._known}
        return [digest for digest in digests if digest not in self._known]

    async def announced(self, seen: Mapping[str, CodeScheduleSet]) -> Mapping[str, CodeScheduleSet]:
        """All that are known."""
        self._forget()
        return {digest: seen.get(digest, found) for digest, (found, _) in self._known.items()}

    async def changed(self, seconds: float) -> None:
        """Wait for so many seconds, or until something is announced."""
        await wait_for_event(self._news, seconds)
        self._news.clear()

    def _forget(self) -> None:
        now = self._clock()
        # One that was renewed later than now was renewed before the clock was set back.
        self._known = {digest: kept for digest, kept in self._known.items() if abs(now - kept[1]) < RETENTION_MS}

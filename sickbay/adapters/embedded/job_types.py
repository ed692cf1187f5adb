"""The schemas of job types in memory: those of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.job_type import RETENTION_MS, Announced, SchemaKey, TypeSchema
from sickbay.ports import Clock


class EmbeddedJobTypes:
    """Implements `JobTypes`."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is known yet."""
        self._clock = clock
        self._known: dict[SchemaKey, tuple[Announced, int]] = {}
        """Each with the time at which it was renewed."""
        self._news = asyncio.Event()

    async def announce(self, schemas: Sequence[TypeSchema]) -> None:
        """Enter schemas, now the newest of their job types."""
        now = self._clock()
        self._known |= {one.key: (Announced(one, now), now) for one in schemas}
        self._news.set()

    async def renew(self, keys: Sequence[SchemaKey]) -> Sequence[SchemaKey]:
        """Keep schemas that are in use; returns those that are unknown."""
        self._forget()
        now = self._clock()
        self._known |= {key: (self._known[key][0], now) for key in keys if key in self._known}
        return [key for key in keys if key not in self._known]

    async def announced(self, seen: Mapping[SchemaKey, TypeSchema]) -> Sequence[Announced]:
        """All that are known."""
        self._forget()
        return [replace(found, schema=seen.get(key, found.schema)) for key, (found, _) in self._known.items()]

    async def changed(self, seconds: float) -> None:
        """Wait for so many seconds, or until something is announced."""
        await wait_for_event(self._news, seconds)
        self._news.clear()

    def _forget(self) -> None:
        now = self._clock()
        # One that was renewed later than now was renewed before the clock was set back.
        self._known = {key: kept for key, kept in self._known.items() if abs(now - kept[1]) < RETENTION_MS}

"""The workers of the fleet as one process sees them: the registry, compared with the number of consumers that the broker counts.

A worker that the registry does not know (it cannot reach Redis, or is older than the registry) still consumes jobs, so as long as more
consume than have announced themselves, nobody may conclude that a job type has no worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Final

from sickbay.domain.errors import Unavailable
from sickbay.domain.workers import UNKNOWN, Fleet
from sickbay.ports import Broker, Queue
from sickbay.ports.workers import WorkerRegistry

MAX_AGE_S: Final = 1.0
"""How old the answer of `look` may be, so that many jobs cost one call."""
OLD_S: Final = 10.0
"""How old may be what was `seen`."""


class FleetView:
    """One per process; `look` may be called often and concurrently."""

    def __init__(self, registry: WorkerRegistry, broker: Broker, seconds: Callable[[], float] = monotonic) -> None:
        """`seconds` is a monotonic clock."""
        self._registry = registry
        self._broker = broker
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._seen: tuple[Fleet, float] | None = None

    async def look(self) -> Fleet:
        """The live workers, at most a second old; `UNKNOWN` if the registry cannot be read. Never raises Unavailable."""
        async with self._lock:
            if self._seen is None or not self.is_new:
                self._seen = await self._read(), self._seconds()
            return self._seen[0]

    @property
    def is_new(self) -> bool:
        """Whether `look` would answer from memory."""
        return self._seen is not None and self._seconds() - self._seen[1] < MAX_AGE_S

    @property
    def seen(self) -> Fleet:
        """What `look` returned last, for who must not wait; `UNKNOWN` before that, and if it is old."""
        if self._seen is None or self._seconds() - self._seen[1] > OLD_S:
            return UNKNOWN
        return self._seen[0]

    async def _read(self) -> Fleet:
        try:
            fleet = await self._registry.fleet()
        except Unavailable:
            return UNKNOWN
        try:
            consumers = await self._broker.consumers(Queue.MAIN)
        except Unavailable:
            return fleet
        return replace(fleet, unannounced=max(0, consumers - fleet.takers))

"""Jobs at a steady rate, and bursts; every accepted one is written down with the moment before its submission."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping

from benchmarks.outage.scenarios import Burst
from benchmarks.outage.system import System
from benchmarks.outage.trace import Submit


class Load:
    """Submits to `system`, each job with a number of its own."""

    def __init__(self, system: System) -> None:
        """Nothing is submitted yet."""
        self.submits: list[Submit] = []
        self._system = system
        self._numbers = itertools.count()
        self._calls: set[asyncio.Task[None]] = set()

    async def steady(self, rates: Mapping[str, float]) -> None:
        """So many a second of each type, evenly, until cancelled; a call that takes long delays no other."""
        async with asyncio.TaskGroup() as tasks:
            for kind, rate in rates.items():
                tasks.create_task(self._steady(kind, rate))

    async def burst(self, burst: Burst) -> None:
        """Many at once."""
        await self._submit(burst.kind, burst.count, tenants=burst.tenants)

    async def settle(self) -> None:
        """Wait for the calls that are under way."""
        await asyncio.gather(*self._calls)

    async def _steady(self, kind: str, rate: float) -> None:
        began = time.monotonic()
        for turn in itertools.count():
            await asyncio.sleep(began + turn / rate - time.monotonic())
            call = asyncio.create_task(self._submit(kind, 1))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _submit(self, kind: str, count: int, *, tenants: bool = False) -> None:
        numbers = list(itertools.islice(self._numbers, count))
        at = time.monotonic()
        ids = await self._system.submit(kind, numbers, tenants=tenants)
        self.submits += (Submit(at, kind, number, job_id) for number, job_id in zip(numbers, ids, strict=True))

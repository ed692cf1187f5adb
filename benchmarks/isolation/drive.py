"""One row on one system: a trickle, then the floods beside it, until the floods are through or the watch ends."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from benchmarks.isolation.flooding import flooding
from benchmarks.isolation.rows import Row
from benchmarks.isolation.system import Setting, System
from benchmarks.isolation.trace import Starts, Submit, Trace

WARM_S: Final = 1.5
"""The trickle runs so long before anything is measured: connections are made, and code is loaded."""
LOOK_EVERY_S: Final = 0.1
PATIENCE_S: Final = 60.0
"""For the last jobs of the trickle, after the watch."""


class Run:
    """`trace` grows meanwhile."""

    def __init__(self, who: str, row: Row, setting: Setting, system: System) -> None:
        """Nothing happens before `play`."""
        self._who, self._row, self._system, self.trace = who, row, system, Trace()
        self._starts = Starts(setting.starts)
        self._numbers = itertools.count()
        self._calls: set[asyncio.Task[None]] = set()

    async def play(self) -> Trace:
        """From the first job until those of the trickle have started, or patience is at an end."""
        trace, row = self.trace, self._row
        if row.priorities and not self._system.has_priorities:
            trace.note = "has no priorities"
        floods = [(flood.batch, range(first := 1_000_000 * place, first + flood.count)) for place, flood in enumerate(row.floods, 1)]
        trace.floods = [numbers for _, numbers in floods]
        async with flooding(self._who, self._system.address, floods) as flood, self._trickling():
            await asyncio.sleep(WARM_S)
            trace.flooded = time.monotonic()
            running = asyncio.create_task(flood.run())
            try:
                await self._watched(running)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
        trace.over = time.monotonic()
        await asyncio.gather(*self._calls)
        await self._all_started()
        trace.ended, trace.starts = time.monotonic(), self._starts.seen
        return trace

    @asynccontextmanager
    async def _trickling(self) -> AsyncIterator[None]:
        if self._row.share:
            yield
            return
        task = asyncio.create_task(self._trickle())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _trickle(self) -> None:
        """Evenly; a call that takes long delays no other."""
        began = time.monotonic()
        for turn in itertools.count():
            await asyncio.sleep(began + turn / self._row.rate - time.monotonic())
            call = asyncio.create_task(self._submit())
            self._calls.add(call)

    async def _submit(self) -> None:
        number = next(self._numbers)
        self.trace.submits.append(Submit(time.monotonic(), number))
        await self._system.submit(self._row.trickle, number)
        self.trace.accepted[number] = time.monotonic()

    async def _watched(self, flood: asyncio.Task[None]) -> None:
        """Return when the floods are through, or after so long."""
        deadline = self.trace.flooded + self._row.watch_s
        while time.monotonic() < deadline:
            await asyncio.sleep(LOOK_EVERY_S)
            if flood.done():
                flood.result()
            self._starts.read()
            if self._row.floods and self._is_through():
                self.trace.through = True
                return

    def _is_through(self) -> bool:
        """One flood of a share's row is enough: from then on there is no full load."""
        started = [self._starts.numbers.issuperset(numbers) for numbers in self.trace.floods]
        return any(started) if self._row.share else all(started)

    async def _all_started(self) -> None:
        deadline, wanted = time.monotonic() + PATIENCE_S, {submit.number for submit in self.trace.submits}
        while not wanted <= self._starts.numbers and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_EVERY_S)
            self._starts.read()

"""One run: a system under load, a dependency that falls ill and comes back, and the wait until everything is well again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from benchmarks.outage.accounts import by_ledger, by_records
from benchmarks.outage.circuits import closed_after
from benchmarks.outage.client import Control
from benchmarks.outage.load import Load
from benchmarks.outage.scenarios import ON_DEPENDENCY
from benchmarks.outage.service import Condition
from benchmarks.outage.system import Setting, System
from benchmarks.outage.trace import Start, Tick, Trace

LOOK_EVERY_S: Final = 0.5
"""A look costs the system some queries."""
IN_FLIGHT_S: Final = 0.3
"""A healthy system has the jobs of the last moments under way."""
TAIL_S: Final = 10.0


class Run:
    """A scenario on a running system and a running dependency; `trace` grows meanwhile."""

    def __init__(self, setting: Setting, system: System, control: Control, trace: Trace) -> None:
        """Nothing happens before `play`."""
        self._scenario, self._times, self._starts = setting.scenario, setting.times, setting.starts
        self._system, self._control, self.trace = system, control, trace
        self._load = Load(system)
        trace.submits, trace.states = self._load.submits, system.states

    async def play(self) -> None:
        """From the first job until the last is accounted for."""
        trace = self.trace
        trace.began = time.monotonic()
        watching = asyncio.create_task(self._watch())
        loading = asyncio.create_task(self._load.steady(self._scenario.rates))
        try:
            await self._events()
            await self._healed()
        finally:
            for task in (loading, watching):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        trace.ended = time.monotonic()
        await self._load.settle()
        await self._settled()
        known, look = await self._system.known(), await self._system.look()
        trace.calls, trace.starts = await self._control.calls(), read_starts(self._starts)
        trace.ends = by_records(trace, look.dead) if known is None else by_ledger(trace, known)

    async def _events(self) -> None:
        scenario, trace = self._scenario, self.trace
        await asyncio.sleep(self._times.warm_s)
        trace.ill = await self._control.change(scenario.ill)
        await self._bursts("ill")
        await asyncio.sleep(trace.ill + scenario.ill_s - time.monotonic())
        trace.back = await self._control.change(Condition(scenario.capacity))
        if scenario.resets:
            await self._system.reset("email")
        await self._bursts("back")

    async def _bursts(self, when: str) -> None:
        for burst in self._scenario.bursts:
            if burst.when == when:
                await self._load.burst(burst)

    async def _watch(self) -> None:
        """Look from outside at regular times."""
        while True:
            look, served = await asyncio.gather(self._system.look(), self._control.served())
            submitted = sum(submit.kind in ON_DEPENDENCY and bool(submit.job_id) for submit in self._load.submits)
            self.trace.ticks.append(Tick(time.monotonic(), look.parked, submitted - served - look.dead))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _healed(self) -> None:
        """Wait until it is well and stays so for a cooldown, while we have patience; `trace.healed` is when that began."""
        trace, deadline = self.trace, self.trace.back + self._scenario.patience_s
        while time.monotonic() < deadline:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._is_well():
                trace.healed = None
            elif trace.healed is None:
                trace.healed = trace.ticks[-1].at
            elif time.monotonic() - trace.healed > max(2.0, self._times.cooldown_s):
                return

    def _is_well(self) -> bool:
        last = self.trace.ticks[-1]
        states = self.trace.states
        closed = not states or closed_after(states, last.at) is not None
        return last.at > self.trace.back and closed and last.unserved <= self._scenario.load * IN_FLIGHT_S

    async def _settled(self) -> None:
        """The load has ended: let what is under way come to its end, retries too."""
        patience = TAIL_S + self._times.retry_s + self._times.timeout_s if self.trace.healed else self._times.timeout_s
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if (await self._system.look()).unfinished == 0:
                return
            await asyncio.sleep(LOOK_EVERY_S)


def read_starts(path: Path) -> list[Start]:
    """What the handlers wrote down."""
    lines = (line.split() for line in path.read_text("ascii").splitlines()) if path.exists() else ()
    return [Start(float(at), kind, int(number)) for at, kind, number in lines]

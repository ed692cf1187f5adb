"""What isolation costs where nobody needs it: one type alone, as fast as it goes, and at a steady rate below what would be a flood."""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

from benchmarks.isolation.clients import SICKBAY
from benchmarks.isolation.contenders import Form, started
from benchmarks.isolation.rows import Batch
from benchmarks.isolation.system import System
from benchmarks.isolation.trace import Starts

ALONE: Final = Batch("sms")
WARM: Final = 500
PIECE: Final = 20
STEADY: Final = 400
"""Jobs a second."""


class Cost(NamedTuple):
    """Jobs a second, and CPU microseconds for each job of all our processes."""

    name: str
    jobs: int
    per_s: float
    cpu_us: float


async def costs(form: Form, jobs: int) -> list[Cost]:
    """Both of them, each with so many jobs, on one system that is warm."""
    async with started(SICKBAY, form) as (setting, system):
        starts = Starts(setting.starts)
        await _done(system, starts, range(WARM))
        first = range(1_000_000, 1_000_000 + jobs)
        second = range(2_000_000, 2_000_000 + jobs)
        return [await _measured("as fast as it goes", system, starts, first), await _measured("steady", system, starts, second)]


async def _measured(name: str, system: System, starts: Starts, numbers: range) -> Cost:
    cpu, began = system.cpu_s(), time.monotonic()
    if name == "steady":
        for turn, first in enumerate(range(0, len(numbers), PIECE)):
            await asyncio.sleep(began + turn * PIECE / STEADY - time.monotonic())
            await system.flood(ALONE, numbers[first : first + PIECE])
        await _started(starts, numbers)
    else:
        await _done(system, starts, numbers)
    last = max(start.at for start in starts.seen if start.number in numbers)
    await asyncio.sleep(1)  # the ledger is written a little later
    return Cost(name, len(numbers), len(numbers) / (last - began), (system.cpu_s() - cpu) / len(numbers) * 1e6)


async def _done(system: System, starts: Starts, numbers: range) -> None:
    await system.flood(ALONE, numbers)
    await _started(starts, numbers)


async def _started(starts: Starts, numbers: range) -> None:
    """Wait for all; nobody tells when a file grows, so this looks again and again."""
    while not starts.numbers.issuperset(numbers):
        await asyncio.sleep(0.05)
        starts.read()

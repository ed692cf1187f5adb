"""The embedded back ends in memory, and wrappers that make one of them fail at a chosen moment."""

import asyncio
from contextlib import asynccontextmanager
from random import Random

from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.adapters.embedded.rate_limiter import EmbeddedRateLimiter
from sickbay.adapters.embedded.workers import EmbeddedWorkerRegistry
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.breaker import BreakerConfig
from sickbay.domain.errors import Unavailable
from sickbay.runtime.parts import Backends
from tests.support.clock import ManualClock


class Flaky:
    """Passes everything on; `fail(name, times)` makes a method raise Unavailable before it does anything, `after=True` after it did.

    `error` is raised instead of Unavailable.
    """

    def __init__(self, inner):
        self._inner = inner
        self._failing = {}

    def fail(self, name, times=1, *, after=False, error=None):
        self._failing[name] = (times, after, error or Unavailable(f"{name} failed"))

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        if name not in self._failing:
            return method

        async def flaky(*args, **kwargs):
            left, after, error = self._failing[name]
            if left <= 0:
                return await method(*args, **kwargs)
            self._failing[name] = (left - 1, after, error)
            if after:
                await method(*args, **kwargs)
            raise error

        return flaky


async def ends_though_nudged(work, waits, nudge):
    """Cancelled in the very moment in which what it waits for (an Event) comes true."""
    task = asyncio.create_task(work)
    while not waits._waiters:
        await asyncio.sleep(0)
    nudge()
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    return task.cancelled()


@asynccontextmanager
async def open_backends(clock=None, **config):
    clock = clock or ManualClock()
    breakers = EmbeddedBreakers(BreakerConfig(**config), clock, Random(1))
    async with open_ledger("sqlite://", clock) as ledger, SqliteBroker(":memory:", clock) as broker:
        yield Backends(
            broker=Flaky(broker),
            breakers=Flaky(breakers),
            workers=Flaky(EmbeddedWorkerRegistry(clock)),
            reader=Flaky(ledger.reader),
            writer=Flaky(ledger.writer),
            quarantine=Flaky(ledger.quarantine),
            scheduled_jobs=Flaky(ledger.scheduled_jobs),
            schedule_statistics=Flaky(ledger.schedule_statistics),
            schedules=Flaky(ledger.schedules),
            lost=Flaky(ledger.lost),
            duplicate_guard=Flaky(ledger.duplicate_guard),
            keys=Flaky(ledger.keys),
            rate_limiter=EmbeddedRateLimiter(lambda: clock() * 1_000),
            waiting=ledger.waiting,
            holds=ledger.holds,
            incidents=Flaky(ledger.incidents),
            audit=Flaky(ledger.audit),
            notices=Flaky(ledger.notices),
            clock=clock,
            ready=ledger.link.wait_up,
        )

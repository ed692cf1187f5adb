"""Rates of runs in Redis: one script and one key for each job type that has a rate, by the clock of Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from sickbay.adapters.redis.client import Client, open_client
from sickbay.adapters.redis.guarded_client import GuardedClient
from sickbay.adapters.redis.script import Script, Word, source
from sickbay.domain.errors import Unavailable
from sickbay.domain.rate_limit import Rate
from sickbay.domain.run_rate import FORMED_US, HELD_US, VALID_US, RunGrant
from sickbay.ports import Clock

PREFIX: Final = "run:rate:"
KEPT_MS: Final = 1_000
KEPT_WITH_OWN_CLOCK_MS: Final = 3_600_000
"""Redis expires keys by its own clock."""


class RedisRunRates:
    """Implements `RunRates`; open it with `async with`. Redis forgets a bucket by itself when it is full and nobody waits."""

    def __init__(self, url: str, *, clock: Clock | None = None, connect: Callable[[str], Client] = open_client) -> None:
        """`clock` (ms) replaces the time of Redis (tests). SettingsError if the URL is invalid."""
        self._clock = clock
        self._store = GuardedClient(connect(url))
        self._script = Script(source("run_rate"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(Unavailable):
            await self._store.close()

    async def run(self, job_type: str, rate: Rate, paid_at: int = 0) -> RunGrant:
        """See the port. Takes half a second at most, and nothing while calls are paused."""
        return await self._ask(job_type, rate, "run", paid_at)

    async def release(self, job_type: str, rate: Rate, wanted: int, *, waiting: bool) -> RunGrant:
        """See the port."""
        return await self._ask(job_type, rate, "hold" if waiting else "end", wanted)

    async def charge(self, job_type: str, rate: Rate, number: int) -> RunGrant:
        """See the port."""
        return await self._ask(job_type, rate, "charge", number)

    async def _ask(self, job_type: str, rate: Rate, operation: str, number: int) -> RunGrant:
        words = arguments(rate, operation, number, None if self._clock is None else self._clock() * 1_000)
        reply: Sequence[Any] = await self._store.ask(lambda client: self._script.run(client, PREFIX + job_type, words))
        return RunGrant(*map(int, reply))


def arguments(rate: Rate, operation: str, number: int, now: int | None) -> Sequence[Word]:
    """The arguments of the script; `now` in microseconds, None for the time of Redis."""
    time: Sequence[Word] = ["", KEPT_MS] if now is None else [now, KEPT_WITH_OWN_CLOCK_MS]
    return [*time, rate.frequency.count, rate.period_us, rate.burst, operation, number, VALID_US, FORMED_US, HELD_US]

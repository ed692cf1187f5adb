"""Token buckets in Redis: one script and one round trip for each submit or batch, by the clock of Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from sickbay.adapters.redis.client import Client, open_client
from sickbay.adapters.redis.guarded_client import GuardedClient
from sickbay.adapters.redis.script import Script, Word, source
from sickbay.domain.errors import Unavailable
from sickbay.domain.rate_limit import Claim, Grant
from sickbay.ports import Clock

PREFIX: Final = "{door}:rate:"
"""One hash tag, so that a cluster has all buckets in one slot: a script may use only one."""
KEPT_MS: Final = 1_000
KEPT_WITH_OWN_CLOCK_MS: Final = 3_600_000
"""Redis expires keys by its own clock."""
_REPLY: Final = 4


class RedisRateLimiter:
    """Implements `RateLimiter`; open it with `async with`. Redis forgets a bucket by itself when it is full."""

    def __init__(self, url: str, *, clock: Clock | None = None, connect: Callable[[str], Client] = open_client) -> None:
        """`clock` (ms) replaces the time of Redis (tests). SettingsError if the URL is invalid."""
        self._clock = clock
        self._store = GuardedClient(connect(url))
        self._script = Script(source("rate_limit"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(Unavailable):
            await self._store.close()

    async def take(self, claims: Sequence[Claim]) -> Sequence[Grant]:
        """Take what is granted of each claim; see the port. Takes half a second at most, and nothing while calls are paused."""
        keys, words = arguments(claims, None if self._clock is None else self._clock() * 1_000)
        reply: Sequence[Any] = await self._store.ask(lambda client: self._script.run_on(client, keys, words))
        return parse_reply(claims, reply)


def arguments(claims: Sequence[Claim], now: int | None) -> tuple[Sequence[str], Sequence[Word]]:
    """The keys and arguments of the script; `now` in microseconds, None for the time of Redis."""
    buckets = {bucket.name: bucket for claim in claims for bucket in claim.buckets}
    places = {name: place for place, name in enumerate(buckets, start=1)}
    words: list[Word] = ["", KEPT_MS] if now is None else [now, KEPT_WITH_OWN_CLOCK_MS]
    for bucket in buckets.values():
        words += [bucket.rate.frequency.count, bucket.rate.period_us, bucket.rate.burst]
    for claim in claims:
        words += [claim.wanted, len(claim.buckets), *(places[bucket.name] for bucket in claim.buckets)]
    return [PREFIX + name for name in buckets], words


def parse_reply(claims: Sequence[Claim], reply: Sequence[bytes]) -> Sequence[Grant]:
    """The grants in a reply of the script."""
    buckets = list({bucket.name: bucket for claim in claims for bucket in claim.buckets}.values())
    numbers = [int(number) for number in reply]
    rows = [numbers[begin : begin + _REPLY] for begin in range(0, len(numbers), _REPLY)]
    return [Grant(granted, buckets[place - 1] if place else None, wait, reset) for granted, place, wait, reset in rows]

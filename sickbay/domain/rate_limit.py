"""Token buckets: how many of something may happen, at a rate and with a burst. Pure, and exact: all arithmetic is in whole numbers.

A bucket is kept as its *debt*: taking one costs the length of the period in microseconds, and each microsecond pays back `count`. So
nothing is rounded, an idle bucket is full again exactly when its debt is paid, and no bucket needs a timer (the idea of GCRA, ITU-T I.371).
`adapters/redis/lua/rate_limit.lua` is the twin of this module; both are tested against each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

MAX_COUNT: Final = 1_000_000
"""Of a rate and of a burst: with a period of an hour, a debt is still below 2^53, where Lua's numbers are exact."""
PERIODS_MS: Final = MappingProxyType({"s": 1_000, "m": 60_000, "h": 3_600_000})
_UNITS: Final = {ms: unit for unit, ms in PERIODS_MS.items()}


@dataclass(frozen=True, slots=True)
class Frequency:
    """So many per period: 1 to MAX_COUNT per second, minute or hour; as text `100/s`."""

    count: int
    period_ms: int

    def __str__(self) -> str:
        return f"{self.count}/{_UNITS[self.period_ms]}"


@dataclass(frozen=True, slots=True)
class Rate:
    """A frequency, and how many may be taken at once from a bucket that has been idle: 1 to MAX_COUNT."""

    frequency: Frequency
    burst: int

    @property
    def period_us(self) -> int:
        """What one costs, in units of debt."""
        return self.frequency.period_ms * 1_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a limit is about, for example `tenant:acme`, and its rate."""

    name: str
    rate: Rate


@dataclass(frozen=True, slots=True)
class Claim:
    """So many are wanted, each of which takes one from all of the buckets, or from none."""

    buckets: tuple[Bucket, ...]
    wanted: int


@dataclass(frozen=True, slots=True)
class Grant:
    """How many of a claim are granted; if that is not all, the bucket that says no, and in how many microseconds it has one more.

    `reset_us` is until that bucket is full.
    """

    granted: int
    limited_by: Bucket | None = None
    wait_us: int = 0
    reset_us: int = 0


@dataclass(frozen=True, slots=True)
class Level:
    """A bucket as it is stored: its debt at a time (microseconds), in units of its period then."""

    debt: int
    at: int
    period_us: int


def take(levels: Mapping[str, Level], claims: Sequence[Claim], now: int) -> tuple[Mapping[str, Level], Sequence[Grant]]:
    """The levels of all buckets of the claims after them, and a grant for each claim, in order.

    `now` is in microseconds. A bucket without a level is full. A clock that was set back pays nothing back, and takes nothing.
    """
    after = dict(levels)
    grants = []
    for claim in claims:
        for bucket in claim.buckets:
            after[bucket.name] = _paid(after.get(bucket.name), bucket.rate, now)
        rooms = [(_room(after[bucket.name], bucket.rate), bucket) for bucket in claim.buckets]
        least, tightest = min(rooms, key=lambda each: each[0])
        granted = min(claim.wanted, least)
        for bucket in claim.buckets:
            level = after[bucket.name]
            after[bucket.name] = Level(level.debt + granted * bucket.rate.period_us, now, bucket.rate.period_us)
        grants.append(Grant(granted) if granted == claim.wanted else _limited(granted, tightest, after[tightest.name]))
    return after, grants


def full_in_us(level: Level, frequency: Frequency) -> int:
    """The microseconds until the bucket is full: it may be forgotten then."""
    return -(-level.debt // frequency.count)


def _paid(level: Level | None, rate: Rate, now: int) -> Level:
    if level is None:
        return Level(0, now, rate.period_us)
    debt = level.debt
    if level.period_us != rate.period_us:  # the setting was changed: the same part of the bucket stays empty
        debt = math.ceil(debt / level.period_us * rate.period_us)
    debt = min(debt, rate.burst * rate.period_us)
    elapsed = min(max(0, now - level.at), full_in_us(Level(debt, now, rate.period_us), rate.frequency))
    return Level(max(0, debt - elapsed * rate.frequency.count), now, rate.period_us)


def _room(level: Level, rate: Rate) -> int:
    return (rate.burst * rate.period_us - level.debt) // rate.period_us


def _limited(granted: int, bucket: Bucket, level: Level) -> Grant:
    rate = bucket.rate
    lacking = level.debt + rate.period_us - rate.burst * rate.period_us
    return Grant(granted, bucket, -(-lacking // rate.frequency.count), full_in_us(level, rate.frequency))

"""The times of a schedule: cron expressions and intervals, in time zones. Pure; times are milliseconds since the epoch.

The rules of daylight saving are those of Debian's cron: a time of day that does not exist runs at the next that does, one that exists twice
runs once, and what runs every so many minutes or hours goes on in real time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim

from sickbay.domain.schedule import Timing

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def times(timing: Timing, after: int) -> Iterator[int]:
    """All times after this one, without jitter, in order."""
    first = max(after, timing.start_at - 1)
    found = _by_interval(timing, first) if timing.every_ms else _by_cron(timing, first)
    return takewhile(lambda at: not timing.end_at or at < timing.end_at, found)


def next_time(timing: Timing, after: int) -> int:
    """The first time after this one, 0 if there is none."""
    return next(times(timing, after), 0)


def next_times(timing: Timing, after: int, count: int = 5) -> list[int]:
    """The first times after this one."""
    return list(islice(times(timing, after), count))


def _by_interval(timing: Timing, after: int) -> Iterator[int]:
    at = timing.start_at + ((after - timing.start_at) // timing.every_ms + 1) * timing.every_ms
    while True:
        yield at
        at += timing.every_ms


def _by_cron(timing: Timing, after: int) -> Iterator[int]:
    expression = ALIASES.get(timing.cron.lower(), timing.cron)
    start = (_EPOCH + timedelta(milliseconds=after)).astimezone(ZoneInfo(timing.timezone))
    for moment in CronSim(expression, start):
        yield (moment.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)

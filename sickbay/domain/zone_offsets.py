"""How local time runs in a time zone: stretches in which the offset from UTC stays the same. Whole seconds since the epoch.

Python knows the offset of an instant, not when it changes. So each year is probed every three days, and a change between two probes found
by bisection: no zone has changed twice within so few days since 1970 (tests/unit/domain/test_zone_offsets.py looks at all of them).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY: Final = 86_400
LAST_YEAR: Final = 9_998
"""Local times of the year after are not all in Python's calendar."""
_STEP: Final = 3 * DAY


class Stretch(NamedTuple):
    """From `start` to before `end`, local time is UTC plus `offset`."""

    start: int
    end: int
    offset: int


def stretches(zone: str, at: int) -> Iterator[Stretch]:
    """The stretch with this instant and all that follow, until the end of LAST_YEAR; a year's end ends one, too. The zone must exist."""
    year = (EPOCH + timedelta(seconds=at)).year
    yield from (one for one in _of_year(zone, year) if one.end > at)
    for later in range(year + 1, LAST_YEAR + 1):
        yield from _of_year(zone, later)


@lru_cache(maxsize=2_048)
def _of_year(zone: str, year: int) -> tuple[Stretch, ...]:
    info = ZoneInfo(zone)
    at, end = start_of(year), start_of(year + 1)
    start, offset = at, _offset(info, at)
    found = []
    while at < end - 1:
        probe = min(at + _STEP, end - 1)
        if (changed := _offset(info, probe)) != offset:
            change = _change_between(info, at, probe, offset)
            found.append(Stretch(start, change, offset))
            start, offset = change, changed
        at = probe
    return (*found, Stretch(start, end, offset))


def _change_between(info: ZoneInfo, before: int, after: int, offset: int) -> int:
    """The first instant whose offset is another one, after `before` and at most `after`."""
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(info, middle) == offset:
            before = middle
        else:
            after = middle
    return after


def _offset(info: ZoneInfo, at: int) -> int:
    offset = (EPOCH + timedelta(seconds=at)).astimezone(info).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def start_of(year: int) -> int:
    """The first second of a year, in UTC."""
    return (datetime(year, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)

"""The times of a schedule: cron expressions and intervals, in time zones. Pure; times are milliseconds since the epoch.

The rules of daylight saving are those of Debian's cron, for expressions of five and of six fields:

- A fixed time of day that is skipped when clocks go forward runs at the next one that exists; several of them, and one that stands for
  that time itself, run once: `15,45 2 * * *` runs at 03:00. A day that a zone skips as a whole (Apia, 30 December 2011) is no exception.
- A fixed time of day that exists twice when clocks go back runs the first time, once.
- What runs every so many hours, minutes or seconds (one of these fields begins with `*`, or all 24 hours are named) goes on in real time:
  it runs whenever the local time matches, in an hour that exists twice both times, in one that is skipped not at all.
- An interval knows no time zone: it is counted from `start_at`, or from the beginning of 1970.

Whichever it is, the times are a set that depends on nothing but the timing: strictly increasing, and the same from wherever one starts.
`start_at` belongs to it, `end_at` does not. An expression that matches nothing for 50 years has no further time; none that ever matches
takes longer than 40 (29 February on a given day of the week, over the turn of a century), and finding that out takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sickbay.domain.cron import Cron, cron_of
from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.schedule import Timing
from sickbay.domain.zone_offsets import DAY, EPOCH, LAST_YEAR, start_of, stretches

LATEST_MS: Final = start_of(LAST_YEAR + 1) * 1_000
"""No schedule has a time from here on."""
GIVE_UP_S: Final = 50 * 366 * DAY
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_UNITS: Final = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000), ("millisecond", 1))
_LOOK_BACK_S: Final = 2 * DAY
"""Longer than any hour or day that existed twice."""


def times(timing: Timing, after: int) -> Iterator[int]:
    """All times after this one, without jitter, in order. InvalidArgument(INVALID_SCHEDULE) if the expression or the zone is wrong."""
    first = max(after, timing.start_at - 1)
    end = min(timing.end_at or LATEST_MS, LATEST_MS)
    if timing.every_ms:
        return _by_interval(timing, first, end)
    return _by_cron(cron_of(timing.cron), known_zone(timing.timezone), first, end)


def next_time(timing: Timing, after: int) -> int:
    """The first time after this one, 0 if there is none."""
    return next(times(timing, after), 0)


def next_times(timing: Timing, after: int, count: int = 5) -> list[int]:
    """The first times after this one."""
    return list(islice(times(timing, after), count))


def times_between(timing: Timing, start: int, end: int, limit: int) -> list[int]:
    """The first times from `start` to before `end`, at most `limit`."""
    found = []
    for at in islice(times(timing, start - 1), limit):
        if at >= end:
            break
        found.append(at)
    return found


def count_between(timing: Timing, start: int, end: int) -> int:
    """How many times there are from `start` to before `end`, however many: counted by days, not one by one (about 1 us for each day)."""
    first = max(start, timing.start_at)
    end = min(end, timing.end_at or LATEST_MS, LATEST_MS)
    if first >= end:
        return 0
    if timing.every_ms:
        return (end - 1 - timing.start_at) // timing.every_ms - (first - 1 - timing.start_at) // timing.every_ms
    cron, zone = cron_of(timing.cron), known_zone(timing.timezone)
    spans = _spans(cron, zone, _second_after(first - 1), _second_after(end - 1))
    return sum((span.shifted is not None) + cron.count(span.start, span.end) for span in spans)


def last_time(timing: Timing, start: int, end: int) -> int:
    """The last time from `start` to before `end`, 0 if there is none."""
    if not count_between(timing, start, end):
        return 0
    while end - start > 1:
        middle = (start + end) // 2
        if count_between(timing, middle, end):
            start = middle
        else:
            end = middle
    return start


def describe(timing: Timing, now: int, ahead: str = "next") -> str:
    """When it runs, in words, and the next five times: `At 03:00 every day in Europe/Berlin; next: Tue 2026-12-01 03:00 CET, ...`.

    `ahead` is what is said before them.
    """
    found = next_times(timing, now)
    coming = f"{ahead}: {in_words(found, timing.timezone)}" if found else "it has no further time"
    return f"{_rule_of(timing)}; {coming}"


def in_words(found: Sequence[int], zone: str) -> str:
    """Times in a time zone, such as `Tue 2026-12-01 03:00 CET, Wed 2026-12-02 03:00 CET`."""
    info = ZoneInfo(known_zone(zone))
    return ", ".join(_moment(at, info) for at in found)


def _rule_of(timing: Timing) -> str:
    if not timing.every_ms:
        return f"{cron_of(timing.cron).explain()} in {timing.timezone}"
    since = f" from {in_words([timing.start_at], timing.timezone)} on" if timing.start_at else ""
    return f"Every {span_in_words(timing.every_ms)}{since}"


def span_in_words(ms: int) -> str:
    """A span of time in words: `5 minutes`, `1 hour 30 minutes`."""
    parts = []
    for name, size in _UNITS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count} {name}{'' if count == 1 else 's'}")
    return " ".join(parts)


def _moment(at: int, zone: ZoneInfo) -> str:
    local = (EPOCH + timedelta(milliseconds=at)).astimezone(zone)
    seconds = f":{local.second:02}" if at % 60_000 else ""
    millis = f".{at % 1_000:03}" if at % 1_000 else ""
    return f"{_WEEKDAYS[local.weekday()]} {local:%Y-%m-%d %H:%M}{seconds}{millis} {local.tzname()}"


def known_zone(name: str) -> str:
    """The name of a time zone that this machine knows. InvalidArgument(INVALID_SCHEDULE)."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidArgument(f'"{name}" is not a time zone that is known here', ErrorReason.INVALID_SCHEDULE) from error
    return name


class _Span(NamedTuple):
    """Walls from `start` to before `end` that run `offset` seconds before as many in UTC; before them `shifted`, skipped ones' instant."""

    start: int
    end: int
    offset: int
    shifted: int | None = None


def _by_interval(timing: Timing, after: int, end: int) -> Iterator[int]:
    at = timing.start_at + ((after - timing.start_at) // timing.every_ms + 1) * timing.every_ms
    while at < end:
        yield at
        at += timing.every_ms


def _by_cron(cron: Cron, zone: str, after: int, end: int) -> Iterator[int]:
    first = _second_after(after)
    last, until = first, _second_after(end - 1)
    for span in _spans(cron, zone, first, until):
        if span.shifted is not None:
            last = span.shifted
            yield last * 1_000
        wall = cron.first(span.start, span.end)
        while wall is not None:
            last = wall - span.offset
            yield last * 1_000
            wall = cron.first(wall + 1, span.end)
        if span.end - span.offset - last > GIVE_UP_S:
            return


def _spans(cron: Cron, zone: str, first: int, until: int) -> Iterator[_Span]:
    """The walls that run at an instant from `first` to before `until` (seconds), in the order of these instants."""
    covered: int | None = None
    for start, end, offset in stretches(zone, first - _LOOK_BACK_S):
        if start >= until:
            return
        opens, closes = start + offset, min(end, until) + offset
        begin, shifted = max(opens, first + offset), None
        if not cron.goes_on:
            skipped = covered is not None and first <= start and _is_hit(cron, covered, opens) and not _is_hit(cron, opens, opens + 1)
            shifted = start if skipped else None
            covered = opens if covered is None else covered
            begin, covered = max(begin, covered), max(covered, closes)
        if shifted is not None or begin < closes:
            yield _Span(begin, closes, offset, shifted)


def _is_hit(cron: Cron, start: int, end: int) -> bool:
    return start < end and cron.first(start, end) is not None


def _second_after(at: int) -> int:
    """The first whole second after this time."""
    return at // 1_000 + 1

"""Cron expressions, in local time without a zone: which seconds of the calendar they describe. Pure; `schedule_times.py` adds the zones.

The format is that of Debian's cron, read by cronsim: minute, hour, day of month, month, day of week; a sixth field before them is the
second. If the day of month or the day of week begins with `*`, both must match, otherwise one of them is enough. `L` is the last day of the
month, `LW` its last weekday (Monday to Friday), `5L` its last Friday, `5#2` its second Friday; Sunday is 0 and 7.

Local times are counted as seconds since 1970-01-01 00:00 of the local calendar ("wall" for short).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final

from cronsim import CronSim, CronSimError

from sickbay.domain.errors import ErrorReason, InvalidArgument

DAY: Final = 86_400
MAX_CRON_CHARS: Final = 256
ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIRST_ORDINAL: Final = date(1970, 1, 1).toordinal()
_HOURS: Final = 24
_MOMENT: Final = datetime(2000, 1, 1, tzinfo=UTC)
_SINCE: Final = int(_MOMENT.timestamp())


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression, read. `goes_on` says that it runs every so many minutes or hours: what daylight saving does not hold up."""

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    months: frozenset[int]
    goes_on: bool
    _read: CronSim

    def first(self, start: int, end: int) -> int | None:
        """The first wall from `start` to before `end`."""
        day, second = divmod(start, DAY)
        found = self._second_from(second) if self._is_day(day) else None
        if found is None:
            day, found = self._day_from(day + 1, (end - 1) // DAY), self.hours[0] * 3_600 + self.minutes[0] * 60 + self.seconds[0]
        wall = day * DAY + found
        return wall if wall < end else None

    def count(self, start: int, end: int) -> int:
        """How many walls there are from `start` to before `end`; takes a microsecond for each day."""
        if start >= end:
            return 0
        (first, before), (last, until) = divmod(start, DAY), divmod(end, DAY)
        found = (self._rank(until) if until and self._is_day(last) else 0) - (self._rank(before) if before and self._is_day(first) else 0)
        days, day = 0, self._day_from(first, last - 1)
        while day < last:
            days, day = days + 1, self._day_from(day + 1, last - 1)
        return found + days * self._rank(DAY)

    def explain(self) -> str:
        """When it runs, in words: `At 03:00 every day`."""
        return self._read.explain()

    def _is_day(self, day: int) -> bool:
        at = date.fromordinal(_FIRST_ORDINAL + day)
        return at.month in self.months and self._read.match_day(at)

    def _day_from(self, day: int, last: int) -> int:
        """The first day that matches; one after `last` if there is none up to that."""
        at = date.fromordinal(_FIRST_ORDINAL + day)
        while day <= last:
            if at.month not in self.months:
                at = date(at.year + at.month // 12, at.month % 12 + 1, 1)
            elif self._read.match_day(at):
                return day
            else:
                at = date.fromordinal(at.toordinal() + 1)
            day = at.toordinal() - _FIRST_ORDINAL
        return max(day, last + 1)

    def _second_from(self, second: int) -> int | None:
        """The first second of a day that matches, not before this one."""
        hour, rest = divmod(second, 3_600)
        minute, second = divmod(rest, 60)
        i = bisect_left(self.hours, hour)
        if i < len(self.hours) and self.hours[i] == hour:
            j = bisect_left(self.minutes, minute)
            if j < len(self.minutes) and self.minutes[j] == minute:
                k = bisect_left(self.seconds, second)
                if k < len(self.seconds):
                    return hour * 3_600 + minute * 60 + self.seconds[k]
                j += 1
            if j < len(self.minutes):
                return hour * 3_600 + self.minutes[j] * 60 + self.seconds[0]
            i += 1
        return self.hours[i] * 3_600 + self.minutes[0] * 60 + self.seconds[0] if i < len(self.hours) else None

    def _rank(self, second: int) -> int:
        """How many seconds of a day that matches are before this one."""
        hour, rest = divmod(second, 3_600)
        minute, second = divmod(rest, 60)
        i = bisect_left(self.hours, hour)
        found = i * len(self.minutes) * len(self.seconds)
        if i < len(self.hours) and self.hours[i] == hour:
            j = bisect_left(self.minutes, minute)
            found += j * len(self.seconds)
            if j < len(self.minutes) and self.minutes[j] == minute:
                found += bisect_left(self.seconds, second)
        return found


def expanded(expression: str) -> str:
    """The expression that an alias such as @daily stands for; any other as it is."""
    return ALIASES.get(expression.strip().lower(), expression)


@lru_cache(maxsize=4_096)
def cron_of(expression: str) -> Cron:
    """Read an expression, or an alias of one. InvalidArgument(INVALID_SCHEDULE) if it is none; `schedule_checks.py` says what is wrong."""
    try:
        if len(expression) > MAX_CRON_CHARS:
            raise CronSimError  # noqa: TRY301 - it is one of several ways in which it cannot be read
        read = CronSim(expanded(expression), _MOMENT)
    except CronSimError as error:
        raise InvalidArgument(f'"{expression[:MAX_CRON_CHARS]}" is not a cron expression', ErrorReason.INVALID_SCHEDULE) from error
    second, minute, hour = read.parts[:3]
    return Cron(
        tuple(sorted(read.hours)),
        tuple(sorted(read.minutes)),
        tuple(sorted(read.seconds)),
        frozenset(read.months),
        goes_on=any(field.startswith("*") for field in (second, minute, hour)) or len(read.hours) == _HOURS,
        _read=read,
    )


def is_cron(expression: str) -> bool:
    """Whether it can be read."""
    try:
        cron_of(expression)
    except InvalidArgument:
        return False
    return True


def least_gap(cron: Cron) -> int:
    """The shortest time between two walls, in seconds, among 200 from 2000 on: these are of many days, or so close that it shows."""
    end = _SINCE + 50 * 366 * DAY
    least, before = end - _SINCE, cron.first(_SINCE, end)
    for _ in range(200):
        wall = None if before is None else cron.first(before + 1, end)
        if before is None or wall is None:
            break
        least, before = min(least, wall - before), wall
    return least

"""Whether a schedule makes sense: each mistake gets one sentence, with what to write instead and the next five times, if they can be read.

Pure. The contract has checked each field for itself before; this looks at them together, and does not rely on that, since schedules come
from code and files, too. A job's type and payload are checked as those of any job.
"""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Final
from zoneinfo import available_timezones

from sickbay.domain.cron import cron_of, least_gap
from sickbay.domain.cron_advice import EXAMPLE, mistake_in
from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.schedule import MAX_CATCH_UP_MS, MAX_DESCRIPTION_CHARS, MAX_JITTER_MS, MIN_EVERY_MS, ScheduleSpec, Timing
from sickbay.domain.schedule_times import LATEST_MS, in_words, next_time, next_times, span_in_words

MAX_EVERY_MS: Final = 3_653 * 86_400_000
"""Ten years."""
_ABBREVIATIONS: Final = {
    "CEST": "Europe/Berlin",
    "BST": "Europe/London",
    "EDT": "America/New_York",
    "CST": "America/Chicago",
    "CDT": "America/Chicago",
    "MDT": "America/Denver",
    "PST": "America/Los_Angeles",
    "PDT": "America/Los_Angeles",
    "IST": "Asia/Kolkata",
    "JST": "Asia/Tokyo",
    "AEST": "Australia/Sydney",
    "AEDT": "Australia/Sydney",
    "Z": "UTC",
}
_OFFSET: Final = re.compile(r"(?:UTC|GMT)?([+-])(\d\d?)(?::?00)?", re.IGNORECASE)
_TURNED: Final = str.maketrans("+-", "-+")
"""The names of fixed offsets have POSIX's sign: Etc/GMT-2 is two hours ahead of UTC."""
_UNUSABLE: Final = {"localtime", "Factory", "posixrules"}
_INTERVAL_EXAMPLE: Final = '"300s"'


def check_spec(spec: ScheduleSpec, now: int) -> None:
    """Say what is wrong with a schedule that is to run from `now` on (ms). InvalidArgument(INVALID_SCHEDULE)."""
    timing = spec.timing
    _check_rule(timing, now)
    _check_zone(timing, now)
    _check_bounds(timing, now)
    _check_jitter(timing, now)
    if not 0 <= spec.catch_up_ms <= MAX_CATCH_UP_MS:
        raise _wrong(f'the catch-up window must be 0 to {MAX_CATCH_UP_MS // 86_400_000} days, for example "86400s" for one', timing, now)
    if len(spec.description) > MAX_DESCRIPTION_CHARS or not spec.description.isprintable():
        what = (
            f'the description must be one line of at most {MAX_DESCRIPTION_CHARS} characters, for example "Sends the invoices of the day"'
        )
        raise _wrong(what, timing, now)


def _check_rule(timing: Timing, now: int) -> None:
    """Either an expression or an interval, which can be read."""
    if timing.cron and timing.every_ms:
        raise _wrong(
            "a cron expression and an interval are two ways to say when it runs; leave out one of them", replace(timing, every_ms=0), now
        )
    if timing.every_ms:
        if not MIN_EVERY_MS <= timing.every_ms <= MAX_EVERY_MS:
            what = f"the interval must be one second to ten years, for example {_INTERVAL_EXAMPLE} for five minutes"
            raise _wrong(what, replace(timing, every_ms=300_000), now)
        return
    if not timing.cron:
        how = f'set a cron expression, for example "{EXAMPLE}" for every day at 03:00, or an interval, for example {_INTERVAL_EXAMPLE}'
        raise _wrong(f"it is not said when the schedule runs; {how}")
    if mistake := mistake_in(timing.cron):
        write = f', for example "{mistake.instead}"' if mistake.instead else ""
        meant = replace(timing, cron=mistake.instead, every_ms=mistake.every_ms, timezone=mistake.timezone or timing.timezone)
        raise _wrong(f"{mistake.what}; {mistake.advice}{write}", meant, now)


def _check_zone(timing: Timing, now: int) -> None:
    name = timing.timezone
    if name in _zones():
        return
    near = _near_zone(name)
    what = f'the time zone "{name[:64]}" is unknown' if name else "the time zone is empty"
    ahead = f", which is UTC{near[7:].translate(_TURNED)}" if near.startswith("Etc/GMT") else ""
    hint = f" (did you mean {near}{ahead}?)" if near else "; use a name of the IANA time zone database, for example Europe/Berlin, or UTC"
    raise _wrong(f"{what}{hint}", replace(timing, timezone=near), now)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    """The names that may be used: all that this machine knows, except those that stand for its own zone or for none."""
    return frozenset(available_timezones() - _UNUSABLE)


def _near_zone(name: str) -> str:
    """The zone that was probably meant, empty if none comes to mind."""
    if name.upper() in _ABBREVIATIONS:
        return _ABBREVIATIONS[name.upper()]
    if (offset := _OFFSET.fullmatch(name.strip())) and (fixed := f"Etc/GMT{offset[1].translate(_TURNED)}{int(offset[2])}") in _zones():
        return fixed
    wanted = name.strip().replace(" ", "_").casefold()
    known = {zone.casefold(): zone for zone in sorted(_zones())}
    places = {zone.rpartition("/")[2]: zone for zone in reversed(known)}
    if wanted in known or wanted in places:
        return known[wanted] if wanted in known else known[places[wanted]]
    if len(wanted) > 64 or any(sign in wanted for sign in "+:"):  # noqa: PLR2004 - the longest name is half as long
        return ""
    near = get_close_matches(wanted, known, 1, 0.8)
    return known[near[0]] if near else ""


def _check_bounds(timing: Timing, now: int) -> None:
    """It runs at all, between its start and its end."""
    endless = replace(timing, end_at=0)
    for name, at in (("start", timing.start_at), ("end", timing.end_at)):
        if not 0 <= at < LATEST_MS:
            raise _wrong(
                f"the {name} must be in the years 1970 to 9998, for example 2027-01-01T00:00:00Z",
                replace(timing, start_at=0, end_at=0),
                now,
            )
    first = next_time(endless, now - 1)
    if not first:
        what = f'"{timing.cron}" never runs in {timing.timezone}' if timing.cron else "the interval has no time before the year 9999"
        raise _wrong(f'{what}: no day and time match all of its fields; write for example "{EXAMPLE}" for every day at 03:00')
    if not timing.end_at or first < timing.end_at:
        return
    end = in_words([timing.end_at], timing.timezone)
    if timing.end_at <= timing.start_at:
        what = f"its end ({end}) is not after its start ({in_words([timing.start_at], timing.timezone)}); set a later end or none"
    elif timing.end_at <= now:
        what = f"its end ({end}) is in the past; set a later end or none"
    else:
        what = f"its end ({end}) is not after its first time; set a later end or none"
    raise _wrong(what, endless, now)


def _check_jitter(timing: Timing, now: int) -> None:
    """A job never runs after that of the next time: jitter is shorter than the shortest time between two."""
    if not 0 <= timing.jitter_ms <= MAX_JITTER_MS:
        raise _wrong('the jitter must be 0 to one day, for example "60s"', timing, now)
    if not timing.jitter_ms:
        return
    gap = timing.every_ms or least_gap(cron_of(timing.cron)) * 1_000
    if timing.jitter_ms >= gap:
        shorter = f'"{gap // 2 / 1_000:g}s"'
        raise _wrong(f'the jitter must be shorter than the time from run to run ("{gap / 1_000:g}s"), for example {shorter}', timing, now)


def _wrong(what: str, timing: Timing | None = None, now: int = 0) -> InvalidArgument:
    """The error, with the next five times of this timing if it can be read and has any."""
    return InvalidArgument(f"{what}{_next_five(timing, now)}" if timing else what, ErrorReason.INVALID_SCHEDULE)


def _next_five(timing: Timing, now: int) -> str:
    if not (timing.cron or MIN_EVERY_MS <= timing.every_ms <= MAX_EVERY_MS):
        return ""
    zone = timing.timezone if timing.timezone in _zones() else "UTC"
    try:
        found = next_times(replace(timing, timezone=zone), now)
    except InvalidArgument:
        return ""
    rule = f'of "{timing.cron}"' if timing.cron else f"every {span_in_words(timing.every_ms)}"
    return f"; the next times {rule} are {in_words(found, zone)}" if found else ""

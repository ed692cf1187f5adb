"""What is wrong with a cron expression, and what to write instead: for people who come from crontab, Quartz, Jenkins or Go. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from sickbay.domain.cron import ALIASES, MAX_CRON_CHARS, is_cron
from sickbay.domain.cron_field_advice import FIELDS, mistake_in_field

EXAMPLE: Final = "0 3 * * *"
_FIVE: Final = f'write five fields (minute, hour, day of month, month, day of week), for example "{EXAMPLE}" for every day at 03:00'
_EVERY: Final = re.compile(r"@every\s+((?:\d+(?:ms|[smhd]))+)", re.IGNORECASE)
_PART: Final = re.compile(r"(\d+)(ms|[smhd])", re.IGNORECASE)
_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})")
_ZONE: Final = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)")
_WORDS: Final = {"L", "LW", "W", *(name for field in FIELDS for name in field.names)}
_FEWEST, _MOST, _QUARTZ = 5, 6, 7


@dataclass(frozen=True, slots=True)
class CronMistake:
    """What is wrong and what to do, as the parts of a sentence; `instead` is an expression that can be read, or empty.

    `every_ms` and `timezone` are what the expression says that belongs into these fields; 0 and empty: nothing.
    """

    what: str
    advice: str
    instead: str = ""
    every_ms: int = 0
    timezone: str = ""


def mistake_in(expression: str) -> CronMistake | None:
    """The mistake of an expression, None if there is none. One that never matches a time is no mistake in itself."""
    fields = expression.split()
    if not fields:
        return CronMistake("the cron expression is empty", _FIVE)
    if found := _not_fields(expression, fields):
        return found
    if expression.strip().lower() in ALIASES:
        return None
    found = _wrong_number(fields) or _in_fields(fields)
    if found is None and not is_cron(expression):
        return CronMistake(f"{_quoted(expression)} is not a cron expression", _FIVE)
    return found


def _not_fields(expression: str, fields: list[str]) -> CronMistake | None:
    """Something else than fields: nothing, several lines, an alias that is not known, a zone, a time of day."""
    if not expression.strip().isprintable():
        return CronMistake("the cron expression has a line break or another control character", f"a schedule has one expression; {_FIVE}")
    if len(expression) > MAX_CRON_CHARS:
        return CronMistake(f"the cron expression is longer than {MAX_CRON_CHARS} characters", "use ranges and steps, for example 0-30/2")
    if fields[0].startswith("@"):
        return _wrong_alias(expression, fields)
    if zone := _ZONE.fullmatch(expression.strip()):
        advice = f"set the time zone of the schedule to {zone[1][:64]}, and leave it out of the expression"
        return CronMistake("the time zone has a field of its own", advice, zone[2] if is_cron(zone[2]) else EXAMPLE, timezone=zone[1])
    return _other_format(expression, fields)


def _other_format(expression: str, fields: list[str]) -> CronMistake | None:
    if fields[0].lower().startswith(("cron(", "rate(")):
        return CronMistake(f"{_quoted(expression)} is in the format of Amazon EventBridge", _FIVE)
    clock = _CLOCK.fullmatch(fields[0]) if len(fields) == 1 else None
    if clock and is_cron(daily := f"{int(clock[2])} {int(clock[1])} * * *"):
        return CronMistake(f"{_quoted(expression)} is a time of day", "write it as minute and hour", daily)
    return None


def _wrong_alias(expression: str, fields: list[str]) -> CronMistake | None:
    name, known = fields[0].lower(), ", ".join(ALIASES)
    if name in ALIASES:
        return None if len(fields) == 1 else _command(name, expression)
    if name == "@reboot":
        return CronMistake("@reboot is not a time", "submit the job where your program starts, or write when it is to run", EXAMPLE)
    if every := _EVERY.fullmatch(expression.strip()):
        every_ms = sum(int(number) * _UNITS_MS[unit.lower()] for number, unit in _PART.findall(every[1]))
        advice = f'leave out the expression, and set the interval to "{every_ms / 1_000:g}s"'
        return CronMistake(f"{_quoted(expression)} is an interval", advice, every_ms=every_ms)
    if name == "@every":
        return CronMistake("@every is an interval", 'leave out the expression, and set the interval, for example to "300s"')
    near = get_close_matches(name, ALIASES, 1)
    return CronMistake(f"{_quoted(fields[0])} is unknown", f"use one of {known}", near[0] if near else "")


def _command(instead: str, expression: str) -> CronMistake:
    return CronMistake(f"{_quoted(expression)} has a command at its end", "what runs is the job type; write only its times", instead)


def _wrong_number(fields: list[str]) -> CronMistake | None:
    if any("?" in field for field in fields):
        return _quartz(fields)
    joined, count = " ".join(fields), len(fields)
    if (
        count >= _MOST
        and is_cron(five := " ".join(fields[:_FEWEST]))
        and not is_cron(" ".join(fields[:_MOST]))
        and not _is_field(fields[5])
    ):
        return _command(five, joined)
    if count == _QUARTZ and is_cron(six := " ".join(fields[:_MOST])):
        return CronMistake(
            f"{_quoted(joined)} has a seventh field, a year", "leave it out, and set an end if it is to run in one year only", six
        )
    if count > _MOST and is_cron(six := " ".join(fields[:_MOST])):
        return _command(six, joined)
    if _FEWEST <= count <= _MOST:
        return None
    return CronMistake(f"{_quoted(joined)} has {count} field{'' if count == 1 else 's'}", _FIVE)


def _quartz(fields: list[str]) -> CronMistake:
    instead = " ".join(field.replace("?", "*") for field in fields[:_MOST])
    days = "write * instead of ?, and the days of the week as names, because in Quartz 1 is Sunday and here it is Monday"
    return CronMistake(f"{_quoted(' '.join(fields))} has a ?, as Quartz has it", days, instead if is_cron(instead) else EXAMPLE)


def _in_fields(fields: list[str]) -> CronMistake | None:
    kinds = FIELDS if len(fields) == _MOST else FIELDS[1:]
    for at, (kind, text) in enumerate(zip(kinds, fields, strict=True)):
        if found := mistake_in_field(kind, text):
            instead = " ".join([*fields[:at], found.instead, *fields[at + 1 :]])
            return CronMistake(f"in {_quoted(' '.join(fields))} {found.what}", found.advice, instead if is_cron(instead) else EXAMPLE)
    day, month = fields[-3], fields[-2]
    if not is_cron(" ".join(fields)) and is_cron(instead := " ".join([*fields[:-3], "L", *fields[-2:]])):
        what = f"in {_quoted(' '.join(fields))} the month {month} has no day {day}"
        return CronMistake(what, "write a day that it has, or L for its last one", instead)
    return None


def _is_field(text: str) -> bool:
    """Whether it looks like a field, right or wrong, rather than like a word of a command."""
    words = re.findall(r"[A-Z]+", text.upper())
    return bool(re.fullmatch(r"[\w*][\w*,/#-]*", text)) and all(word in _WORDS for word in words)


def _quoted(text: str) -> str:
    return f'"{text[:80]}..."' if len(text) > 80 else f'"{text}"'  # noqa: PLR2004 - what fits into a sentence

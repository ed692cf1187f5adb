"""What is wrong in one field of a cron expression, and what to write there instead. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LAST_NTH: Final = 5
_NAME: Final = 3


@dataclass(frozen=True, slots=True)
class CronField:
    """One of the fields: its name with an article, its least and greatest number, names for numbers from `least` on, and an example."""

    name: str
    a: str
    least: int
    greatest: int
    example: str
    names: tuple[str, ...] = ()


DAY_OF_MONTH: Final = CronField("day of the month", "a day of the month", 1, 31, "1")
_MONTH: Final = CronField("month", "a month", 1, 12, "1-6", _MONTHS)
_DAY_OF_WEEK: Final = CronField("day of the week", "a day of the week", 0, 7, "MON-FRI", _DAYS)
FIELDS: Final = (
    CronField("second", "a second", 0, 59, "0"),
    CronField("minute", "a minute", 0, 59, "0"),
    CronField("hour", "an hour", 0, 23, "3"),
    DAY_OF_MONTH,
    _MONTH,
    _DAY_OF_WEEK,
)


@dataclass(frozen=True, slots=True)
class FieldMistake:
    """What is wrong and what to do, as the parts of a sentence, and what to write in this field."""

    what: str
    advice: str
    instead: str


def mistake_in_field(field: CronField, text: str) -> FieldMistake | None:
    """The first mistake, None if there is none."""
    terms = text.upper().split(",")
    for at, term in enumerate(terms):
        if found := _in_term(field, term):
            return FieldMistake(found.what, found.advice, ",".join([*terms[:at], found.instead, *terms[at + 1 :]]))
    return None


def _in_term(field: CronField, term: str) -> FieldMistake | None:
    checks: tuple[Callable[[CronField, str], FieldMistake | None], ...] = (_empty, _foreign, _nth, _last, _step)
    for check in checks:
        if found := check(field, term):
            return found
    return _in_range(field, term.partition("/")[0])


def _empty(field: CronField, term: str) -> FieldMistake | None:
    if term:
        return None
    return FieldMistake(
        f"there is a comma too many where the {field.name} is",
        f"write numbers with one comma in between, such as {_two(field)}",
        field.example,
    )


def _foreign(field: CronField, term: str) -> FieldMistake | None:
    """What other programs have, and this format has not."""
    if re.match(r"H(\W|$)", term):
        return FieldMistake(f"{term} is Jenkins' spread", f"write a number as the {field.name}, and set a jitter", field.example)
    if field is DAY_OF_MONTH and re.fullmatch(r"\d{1,2}W", term):
        return FieldMistake(f"{term} (the nearest weekday) is not supported", "write a day, or LW for the last weekday of the month", "LW")
    if field is DAY_OF_MONTH and re.fullmatch(r"L-\d+", term):
        return FieldMistake(f"{term} (days before the last one) is not supported", "write a day, or L for the last day of the month", "L")
    return None


def _nth(field: CronField, term: str) -> FieldMistake | None:
    day, hash_sign, nth = term.partition("#")
    if not hash_sign:
        return None
    if field is not _DAY_OF_WEEK:
        what = f"{term} stands where the {field.name} is"
        return FieldMistake(what, "write it as the last field, the day of the week: 5#2 is the second Friday", field.example)
    if found := _value(field, day):
        return found
    if nth.isascii() and nth.isdigit() and 1 <= int(nth) <= _LAST_NTH:
        return None
    return FieldMistake(f"{term} has no number from 1 to 5 after #", f"write {day}#1 for the first one of a month", f"{day}#1")


def _last(field: CronField, term: str) -> FieldMistake | None:
    """`L`, `LW` and `5L`. `JUL` is a name."""
    if term in {"L", "LW"}:
        if field is DAY_OF_MONTH:
            return None
        if field is _DAY_OF_WEEK:
            return FieldMistake(f"{term} has no day before it", "write 5L for the last Friday of a month", "5L")
        return FieldMistake(f"{term} is not {field.a}", "write it as the day of the month: L is the last one", field.example)
    if field is _DAY_OF_WEEK and term.endswith("L") and not re.fullmatch(r"[0-7]L", term):
        number = str(_DAYS.index(term[:_NAME])) if term[:_NAME] in _DAYS else "5"
        return FieldMistake(
            f"{term} has no number from 0 to 7 before L", f"write {number}L for the last {_DAYS[int(number)]} of a month", f"{number}L"
        )
    return None


def _step(field: CronField, term: str) -> FieldMistake | None:
    start, slash, step = term.partition("/")
    if not slash:
        return None
    if not (step.isascii() and step.isdigit()):
        return FieldMistake(f"{term} has no number after /", f"write {start}/2 for every second one", f"{start or '*'}/2")
    if int(step) == 0:
        return FieldMistake(f"{term} has a step of 0", "write a step of 1 or more", start or "*")
    return _needless_step(field, term, start, int(step))


def _needless_step(field: CronField, term: str, start: str, step: int) -> FieldMistake | None:
    """A step from which nothing follows."""
    first, dash, last = start.partition("-")
    if dash and first == last:
        return FieldMistake(f"{term} is a range of one number with a step", f"write {first}, or a longer range", first)
    if start in {"L", "LW"}:
        return FieldMistake(f"{term} has a step", f"{start} is one day; leave out the step", start)
    if step > field.greatest and (start == "*" or start.isdigit()):
        only = str(field.least) if start == "*" else start
        advice = (
            f"a step begins anew with each {_above(field)}; for other spans leave out the expression, and set an interval, or write {only}"
        )
        return FieldMistake(f"{term} is only {field.a} {only}", advice, only)
    return None


def _in_range(field: CronField, term: str) -> FieldMistake | None:
    if term == "*" or "#" in term or re.fullmatch(r"L|LW|[0-7]L", term):
        return None
    start, dash, end = term.partition("-")
    if dash and not (start and end):
        return FieldMistake(
            f"the range {term} has no {'end' if start else 'start'}", f"write two numbers, such as {_range(field)}", _range(field)
        )
    found = _value(field, start) or (_value(field, end) if dash else None)
    if found or not dash:
        return found
    first, last = _number(field, start), _number(field, end)
    if first <= last:
        return None
    instead = _turned(field, first, last)
    return FieldMistake(f"the range {term} goes backwards", f"write {instead}", instead)


def _turned(field: CronField, first: int, last: int) -> str:
    """A range over the end of its field, as two."""
    least = 1 if field is _DAY_OF_WEEK else field.least
    head = str(first) if first == field.greatest else f"{first}-{field.greatest}"
    if last < least:
        return head
    return f"{head},{least}" if last == least else f"{head},{least}-{last}"


def _value(field: CronField, text: str) -> FieldMistake | None:
    if text in field.names:
        return None
    if text.isascii() and text.isdigit():
        if field.least <= int(text) <= field.greatest:
            return None
        special = {"24": "0"}.get(text, field.example) if field.name == "hour" else "0" if text == "60" else field.example
        return FieldMistake(f"{text} is not {field.a}", f"the {field.name} is {field.least} to {field.greatest}", special)
    if field.names and text[:_NAME] in field.names and text.isalpha():
        return FieldMistake(f"{text} is not {field.a}", f"write {text[:_NAME]}", text[:_NAME])
    numbers = f"{field.least} to {field.greatest}"
    known = f"{numbers}, or {field.names[0]} to {field.names[-1]}" if field.names else numbers
    return FieldMistake(f'"{text}" is not {field.a}', f"the {field.name} is {known}", field.example)


def _number(field: CronField, text: str) -> int:
    if text not in field.names:
        return int(text)
    return field.names.index(text) + (1 if field is _MONTH else 0)


def _two(field: CronField) -> str:
    return f"{field.least + 1},{field.least + 2}"


def _range(field: CronField) -> str:
    return f"{field.least + 1}-{field.least + 5}"


def _above(field: CronField) -> str:
    above = {"second": "minute", "minute": "hour", "hour": "day", "day of the month": "month", "month": "year"}
    return above.get(field.name, "week")

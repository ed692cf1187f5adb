"""Random cron expressions that know what they mean, by themselves: an oracle that has no code in common with what it judges.

It looks at every minute (or second) of a window, which is slow, and plain enough to be believed.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True)
class Field:
    """The text of a field, the numbers that it stands for, and its words about days, such as ("L", 5) or ("#", 5, 2)."""

    text: str
    numbers: frozenset = frozenset()
    words: tuple = ()


@dataclass(frozen=True)
class Expression:
    """Seconds to days of the week, each a Field; `second` is left out of the text of a five-field one."""

    second: Field
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field
    has_second: bool = False

    @property
    def text(self):
        fields = (self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join(field.text for field in ((self.second, *fields) if self.has_second else fields))

    @property
    def goes_on(self):
        return any(field.text.startswith("*") for field in (self.second, self.minute, self.hour)) or self.has_every_hour

    @property
    def has_every_hour(self):
        return self.hour.numbers == frozenset(range(24))

    @property
    def needs_both_days(self):
        return self.day.text.startswith("*") or self.weekday.text.startswith("*")

    def is_day(self, day: date):
        if day.month not in self.month.numbers:
            return False
        last = monthrange(day.year, day.month)[1]
        weekday = day.isoweekday() % 7
        last_workday = max(one for one in range(1, last + 1) if date(day.year, day.month, one).isoweekday() < 6)
        in_month = day.day in self.day.numbers or (("L",) in self.day.words and day.day == last)
        in_month = in_month or (("LW",) in self.day.words and day.day == last_workday)
        in_week = weekday in {number % 7 for number in self.weekday.numbers}
        in_week = in_week or (("L", weekday) in self.weekday.words and day.day + 7 > last)
        in_week = in_week or ("#", weekday, (day.day + 6) // 7) in self.weekday.words
        return in_month and in_week if self.needs_both_days else in_month or in_week

    def matches(self, local: datetime):
        """Whether it stands for this local time."""
        in_day = local.second in self.second.numbers and local.minute in self.minute.numbers and local.hour in self.hour.numbers
        return in_day and is_day_of(self.text, self, local.date())


_KNOWN = {}


def is_day_of(text, expression, day):
    """`expression.is_day(day)`, worked out once."""
    if (text, day) not in _KNOWN:
        if len(_KNOWN) > 10_000:
            _KNOWN.clear()
        _KNOWN[text, day] = expression.is_day(day)
    return _KNOWN[text, day]


def instants(expression, zone, start, end, *, step=timedelta(minutes=1), margin=timedelta(days=2)):
    """Its instants from `start` to before `end` (UTC, on whole steps), in order; no change of the zone is as long as `margin`."""
    info = ZoneInfo(zone)
    if expression.goes_on:
        found = {at for at in _each(start, end, step) if expression.matches(at.astimezone(info).replace(tzinfo=None))}
    else:
        first, last = (at.astimezone(info).replace(tzinfo=None) + around for at, around in ((start, -margin), (end, margin)))
        found = {_first_instant(local, info) for local in _each(first, last, step) if expression.matches(local)}
    return sorted(at for at in found if start <= at < end)


def _first_instant(local, info):
    """The first time that it is this late or later there, where it was earlier just before."""
    at = local.replace(tzinfo=info, fold=0).astimezone(UTC)
    if at.astimezone(info).replace(tzinfo=None) == local:
        return at
    at = at.replace(second=0) - timedelta(days=2)
    while at.astimezone(info).replace(tzinfo=None) < local:
        at += timedelta(minutes=30)
    while (at - timedelta(seconds=60)).astimezone(info).replace(tzinfo=None) >= local:
        at -= timedelta(seconds=60)
    return at


def _each(start, end, step):
    while start < end:
        yield start
        start += step


def _terms(least, greatest, names=(), top=None):
    """Terms of numbers: one, a range, steps, a name."""
    number = st.integers(least, greatest)

    @st.composite
    def term(draw):
        first, second = sorted((draw(number), draw(number)))
        step = draw(st.integers(1, greatest))
        forms = ["one", "range", "range step", "one step"] + (["name"] if names else [])
        match draw(st.sampled_from(forms)):
            case "one":
                return Field(str(first), frozenset({first}))
            case "name":
                index = draw(st.integers(0, len(names) - 1))
                return Field(draw(st.sampled_from([names[index], names[index].lower()])), frozenset({index + least}))
            case "range":
                return Field(f"{first}-{second}", frozenset(range(first, second + 1)))
            case "range step":
                second = second if first < second else greatest
                return Field(f"{first}-{second}/{step}" if first < second else str(first), frozenset(range(first, second + 1, step)))
            case _:
                return Field(f"{first}/{step}", frozenset(range(first, (top or greatest) + 1, step)))

    return term()


def fields(least, greatest, names=(), words=None, top=None):
    """A whole field: a star, a star with a step, or up to three terms. `top` is what the field can have, `greatest` what terms name."""
    whole = range(least, (top or greatest) + 1)
    star = st.just(Field("*", frozenset(whole)))
    steps = st.integers(1, greatest).map(lambda step: Field(f"*/{step}", frozenset(whole[::step])))
    term = _terms(least, greatest, names, top)
    terms = st.lists(term if words is None else term | words, min_size=1, max_size=3).map(_joined)
    return star | steps | terms | terms


def _joined(terms):
    return Field(
        ",".join(term.text for term in terms), frozenset().union(*(term.numbers for term in terms)), sum((term.words for term in terms), ())
    )


LAST_DAYS = st.sampled_from([Field("L", words=(("L",),)), Field("LW", words=(("LW",),))])
NTH_DAYS = st.builds(lambda day, nth: Field(f"{day}#{nth}", words=(("#", day % 7, nth),)), st.integers(0, 7), st.integers(1, 5))
LAST_WEEKDAYS = st.integers(0, 7).map(lambda day: Field(f"{day}L", words=(("L", day % 7),)))
ANY = st.just(Field("*", frozenset(range(32))))

SECONDS = fields(0, 59)
MINUTES = fields(0, 59)
HOURS = fields(0, 23)
DAYS_OF_MONTH = fields(1, 31, words=LAST_DAYS)
MONTHS_OF_YEAR = fields(1, 12, MONTHS)
DAYS_OF_WEEK = fields(0, 7, DAYS, NTH_DAYS | LAST_WEEKDAYS)
ZERO = Field("0", frozenset({0}))

FIVE = st.builds(Expression, st.just(ZERO), MINUTES, HOURS, DAYS_OF_MONTH | ANY, MONTHS_OF_YEAR | ANY, DAYS_OF_WEEK | ANY)
SIX = st.builds(Expression, SECONDS, MINUTES, HOURS, DAYS_OF_MONTH | ANY, MONTHS_OF_YEAR | ANY, DAYS_OF_WEEK | ANY, st.just(True))
NIGHTLY = st.builds(Expression, st.just(ZERO), MINUTES, fields(0, 4, top=23), ANY, ANY, ANY)
"""Of any day, in the hours in which clocks are changed."""
SECONDLY = st.builds(Expression, SECONDS, MINUTES, HOURS, ANY, ANY, ANY, st.just(True))
"""Of any day, with seconds."""

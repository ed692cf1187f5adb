"""Agreement with croniter, an implementation of its own, over random expressions. Each disagreement belongs to one of these classes.

Seconds are asked for as the first field (`second_at_beginning`), and whether both days must match is told it (`day_or`): that is a
parameter there, and follows here from the expression, as in Debian's cron. What it writes otherwise or does not know (WRITTEN_OTHERWISE):

- **last weekdays**: the last Friday is `L5` there and `5L` here;
- **the last workday**: `LW` is not known there;
- **a mixed list**: `5#2,1` is not known there;
- **a range of one**: `4-4` is the whole field there, and 4 here;
- **steps of days of the week**: `1/2` ends with Saturday (6) there, and with Sunday (7) here, as `1-7/2` does;
- **either day**: where one of a day of the month and `5#2` or `5L` is enough, both must match there. `0 0 13 * 5L` is the 13th and the last
  Friday here, as with every other day of the week.

Where the times differ, they do so by exactly this much (`expected_of_croniter`):

- **the second pass**: when clocks go back, a fixed time of day runs twice there, and here once, the first time;
- **the gap**: when clocks go forward, every expression that does not have all hours runs at the end of the gap there, if it would have run
  inside; here what runs every so many minutes or seconds, or every second hour, goes on in real time, and does not;
- **the half hour**: where clocks go back by half an hour, croniter misses the second pass as a whole if the expression has a time in the
  half hour before it (`*/20 * * * *` at Lord Howe: 01:20, which it takes for the next time, is in the past).
"""

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterBadDateError, CroniterError, croniter
from hypothesis import assume, event, given
from hypothesis import strategies as st

from sickbay.domain.cron import is_cron
from sickbay.domain.schedule import Timing
from sickbay.domain.schedule_times import next_times, times_between
from tests.support.cron_expressions import FIVE, NIGHTLY, SECONDLY, SIX

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CHANGES = {
    "Europe/Berlin": ("2027-03-28T01:00", "2027-10-31T01:00"),
    "America/New_York": ("2027-03-14T07:00", "2027-11-07T06:00"),
    "Australia/Lord_Howe": ("2027-10-02T15:30", "2027-04-03T15:00"),
}
SINCE, UNTIL = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (2000, 2045))
PLACES = st.sampled_from([(zone, datetime.fromisoformat(at).replace(tzinfo=UTC)) for zone, all_ in CHANGES.items() for at in all_])


def ms(at):
    return (at - EPOCH) // timedelta(milliseconds=1)


def croniters(expression, zone, start):
    """An iterator of croniter's times after `start`, in ms; those of one expression and zone."""
    fields = [",".join(sole_number(term) for term in field.split(",")) for field in expression.text.upper().split()]
    fields[-1] = ",".join(weekday(term) for term in fields[-1].split(","))
    both = fields[-1].startswith("*") or fields[-3].startswith("*")
    known = croniter(
        " ".join(fields), start.astimezone(ZoneInfo(zone)), ret_type=datetime, day_or=not both, second_at_beginning=len(fields) == 6
    )
    try:
        while True:
            yield ms(known.get_next().astimezone(UTC))
    except CroniterBadDateError:
        return


def sole_number(term):
    """`4-4` is 4."""
    first, dash, last = term.partition("-")
    return first if dash and first == last else term


def weekday(term):
    """`5L` is L5, and `1/2` is 1-7/2, or 7 alone."""
    first, slash, step = term.partition("/")
    if slash and first.isdigit():
        return f"{first}-7/{step}" if first != "7" else first
    return f"L{term[0]}" if term[1:] == "L" else term


def comparable(expression):
    """Leave out what croniter does not know, or means otherwise (the classes of WRITTEN_OTHERWISE)."""
    assume(("LW",) not in expression.day.words)
    assume(not expression.weekday.words or not expression.weekday.numbers)
    assume(not expression.weekday.words or expression.needs_both_days)
    return expression


@given(FIVE | SIX, st.datetimes(SINCE, UNTIL, timezones=st.just(UTC)))
def test_they_agree_in_utc(expression, start):
    """Over years, on every field."""
    text = accepted(comparable(expression))
    assert next_times(Timing(text), ms(start), 5) == list(islice(croniters(expression, "UTC", start), 5))


@given(NIGHTLY | FIVE, PLACES, st.integers(-24 * 60, 60))
def test_they_agree_over_changes_of_clocks_but_for_the_second_pass_and_the_gap(expression, place, shift):
    """For a day that begins before or at the change, minute by minute."""
    start = place[1] + timedelta(minutes=shift)
    compare(comparable(expression), place, start, start + timedelta(days=1))


@given(SECONDLY, PLACES, st.integers(-300, 60) | st.integers(-3_600, 3_600))
def test_they_agree_on_seconds_over_changes_of_clocks(expression, place, shift):
    """For a quarter of an hour."""
    start = place[1] + timedelta(seconds=shift)
    compare(expression, place, start, start + timedelta(minutes=15))


def compare(expression, place, start, end):
    zone, _ = place
    ours = times_between(Timing(accepted(expression), timezone=zone), ms(start) + 1, ms(end), 10_000)
    theirs = list(takewhile(lambda at: at < ms(end), croniters(expression, zone, start)))
    assert theirs == expected_of_croniter(expression, place, ours, start, end)


def expected_of_croniter(expression, place, ours, start, end):
    """What croniter finds according to the classes, from our times and those around the change of clocks."""
    zone, change = place
    info = ZoneInfo(zone)
    before, after = ((change + step).astimezone(info).utcoffset() for step in (timedelta(seconds=-1), timedelta()))
    local, step = change.astimezone(info).replace(tzinfo=None), timedelta(seconds=1 if expression.has_second else 60)
    found = set(ours)
    if after > before:
        skipped = [local - (after - before) + at for at in steps_to(after - before, step)]
        if not expression.matches(local) and any(expression.matches(at) for at in skipped):
            found = found - {ms(change)} if expression.has_every_hour else found | {ms(change)}
    else:
        second = {ms(change + at) for at in steps_to(before - after, step) if expression.matches(local + at)}
        latest = max([at for at in ours if at < ms(change)], default=ms(start))
        behind = (EPOCH + timedelta(milliseconds=latest)).astimezone(info).replace(tzinfo=None) - (before - after)
        lost = (
            start < change and (before - after) % timedelta(hours=1) and any(expression.matches(at) for at in between(behind, local, step))
        )
        found = found - second if lost else found | second
    found = {at for at in found if ms(start) < at < ms(end)}
    event("the same" if found == set(ours) else "a class of disagreement")
    return sorted(found)


def between(after, before, step):
    """All steps after one local time and before another."""
    return [after + at for at in steps_to(before - after, step)[1:]] if before > after else []


def steps_to(length, step):
    return [step * index for index in range(length // step)]


def accepted(expression):
    """Its text, unless none of its months has its days."""
    assume(is_cron(expression.text))
    return expression.text


BERLIN = {"spring": ("2027-03-27T12:00", "2027-03-28T12:00"), "autumn": ("2027-10-30T12:00", "2027-10-31T12:00")}


@pytest.mark.parametrize(
    ("cron", "season", "ours", "theirs"),
    [
        ("30 2 * * *", "spring", ["03:00+02:00"], ["03:00+02:00"]),
        ("30 2 * * *", "autumn", ["02:30+02:00"], ["02:30+02:00", "02:30+01:00"]),
        ("*/30 2 * * *", "spring", [], ["03:00+02:00"]),
        ("*/30 2 * * *", "autumn", ["02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00"], None),
    ],
)
def test_the_two_classes_over_changes_are_there(cron, season, ours, theirs):
    """Else the test above would explain what does not happen any more."""
    start, end = (datetime.fromisoformat(at).replace(tzinfo=UTC) for at in BERLIN[season])
    berlin = ZoneInfo("Europe/Berlin")
    found = times_between(Timing(cron, timezone="Europe/Berlin"), ms(start), ms(end), 100)
    other = takewhile(lambda at: at < end, iter(croniter(cron, start.astimezone(berlin), ret_type=datetime).get_next, None))
    assert [shown(EPOCH + timedelta(milliseconds=at), berlin) for at in found] == ours
    assert [shown(at, berlin) for at in other] == (ours if theirs is None else theirs)


def shown(at, zone):
    return at.astimezone(zone).isoformat(timespec="minutes")[11:]


WRITTEN_OTHERWISE = {
    "last weekdays": ("0 0 * * 5L", "0 0 * * L5"),
    "the last workday": ("0 0 LW * *", None),
    "a mixed list": ("0 0 * * 5#2,1", None),
    "a range of one": ("0 4-4 * * *", "0 4 * * *"),
    "steps of days of the week": ("0 0 * * 1/2", "0 0 * * 1-7/2"),
    "either day": ("0 0 13 * 5#2", None),
}


@pytest.mark.parametrize("name", WRITTEN_OTHERWISE)
def test_the_other_classes_are_there(name):
    """What croniter makes of each of them is not what is meant here; where it has another way to write it, that is."""
    cron, other = WRITTEN_OTHERWISE[name]
    start = datetime(2027, 1, 1, tzinfo=UTC)
    ours = next_times(Timing(cron), ms(start), 20)
    try:
        theirs = list(islice(iter(croniter(cron, start, ret_type=datetime).get_next, None), 20))
    except CroniterError:
        theirs = []
    assert ours != [ms(at) for at in theirs]
    if other:
        assert ours == [ms(at) for at in islice(iter(croniter(other, start, ret_type=datetime).get_next, None), 20)]

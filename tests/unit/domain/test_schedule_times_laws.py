"""Laws of the times of schedules, over random expressions, zones and moments around the changes of their clocks."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given
from hypothesis import strategies as st

from sickbay.domain.errors import InvalidArgument
from sickbay.domain.schedule import Timing
from sickbay.domain.schedule_times import count_between, describe, last_time, next_time, next_times, times, times_between
from tests.support.cron_expressions import FIVE, NIGHTLY, SECONDLY, SIX, instants

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600_000
DAY = 24 * HOUR
CHANGES = {
    "Europe/Berlin": ("2027-03-28T01:00", "2027-10-31T01:00"),
    "America/New_York": ("2027-03-14T07:00", "2027-11-07T06:00"),
    "Australia/Lord_Howe": ("2027-10-02T15:30", "2027-04-03T15:00"),
    "Pacific/Apia": ("2011-12-30T10:00",),
    "America/Sao_Paulo": ("2018-11-04T03:00", "2018-02-18T02:00"),
    "America/St_Johns": ("2010-11-07T02:31",),
    "Antarctica/Troll": ("2027-03-28T01:00", "2027-10-31T01:00"),
    "Africa/Casablanca": ("2027-02-07T02:00", "2027-03-14T02:00"),
    "Asia/Kolkata": ("2027-01-01T00:00",),
    "UTC": ("2028-02-29T00:00",),
}


def ms(at):
    return (at - EPOCH) // timedelta(milliseconds=1)


def moment(at):
    return EPOCH + timedelta(milliseconds=at)


CHANGED = [(zone, ms(datetime.fromisoformat(at).replace(tzinfo=UTC))) for zone, all_ in CHANGES.items() for at in all_]
PLACES = st.sampled_from(CHANGED)
PLACES_OF_HOURS = st.sampled_from([place for place in CHANGED if place[0] != "Pacific/Apia"])
NEAR = st.integers(-30 * HOUR, 30 * HOUR)
EXPRESSIONS = FIVE | NIGHTLY | SIX


def test_the_changes_are_changes():
    """Else the laws would be about quiet days."""
    for zone, changes in CHANGES.items():
        for at in changes if zone not in ("UTC", "Asia/Kolkata") else ():
            change = datetime.fromisoformat(at).replace(tzinfo=UTC)
            before, after = ((change + step).astimezone(ZoneInfo(zone)).utcoffset() for step in (timedelta(seconds=-1), timedelta()))
            assert before != after, zone


@given(NIGHTLY | FIVE, PLACES, NEAR)
def test_they_are_those_that_a_look_at_every_minute_finds(expression, place, shift):
    """The rules as such: fixed times shifted out of a gap and run once in a fold, repeated ones in real time; and every field."""
    zone, change = place
    start = moment((change + shift) // 60_000 * 60_000)
    end = start + timedelta(days=1)
    expected = [ms(at) for at in instants(expression, zone, start, end)]
    timing = Timing(expression.text, timezone=zone)
    assert times_between(timing, ms(start), ms(end), 2_000) == expected
    assert count_between(timing, ms(start), ms(end)) == len(expected)
    assert last_time(timing, ms(start), ms(end)) == (expected[-1] if expected else 0)


@given(SECONDLY, PLACES_OF_HOURS, st.integers(-2 * HOUR, HOUR))
def test_seconds_follow_the_same_rules(expression, place, shift):
    """Second by second for an hour; Apia's gap of a day takes too long to look at so."""
    zone, change = place
    start = moment((change + shift) // 1_000 * 1_000)
    end = start + timedelta(hours=1)
    expected = [ms(at) for at in instants(expression, zone, start, end, step=timedelta(seconds=1), margin=timedelta(hours=3))]
    timing = Timing(expression.text, timezone=zone)
    assert times_between(timing, ms(start), ms(end), 10_000) == expected
    assert count_between(timing, ms(start), ms(end)) == len(expected)


@given(EXPRESSIONS, PLACES, NEAR, st.data())
def test_they_increase_and_are_the_same_from_wherever_one_starts(expression, place, shift, data):
    """From each of them, and from any moment between two of them."""
    zone, change = place
    timing = Timing(accepted(expression), timezone=zone)
    start = change + shift
    found = [start, *islice(times(timing, start), 20)]
    assert all(before < after for before, after in pairwise(found))
    assume(len(found) > 1)
    index = data.draw(st.integers(0, len(found) - 2))
    between = data.draw(st.integers(found[index], found[index + 1] - 1))
    assert next_times(timing, between, 20)[: len(found) - index - 1] == found[index + 1 :]


@given(EXPRESSIONS, PLACES, NEAR)
def test_each_matches_in_local_time_or_was_shifted_out_of_a_gap(expression, place, shift):
    """Also those that are years away."""
    zone, change = place
    for at in next_times(Timing(accepted(expression), timezone=zone), change + shift, 10):
        local, before = (moment(one).astimezone(ZoneInfo(zone)) for one in (at, at - 1_000))
        assert expression.matches(local.replace(tzinfo=None)) or (not expression.goes_on and local.utcoffset() > before.utcoffset())


@given(EXPRESSIONS, PLACES, st.lists(NEAR, min_size=3, max_size=3), st.integers(0, 50))
def test_windows_and_counts_are_parts_of_the_same(expression, place, shifts, limit):
    """A window is what iterating finds; counts of adjacent windows add up; the last one is the last of them."""
    zone, change = place
    timing = Timing(accepted(expression), timezone=zone)
    start, middle, end = (change + shift for shift in sorted(shifts))
    assert times_between(timing, start, end, limit) == [at for at in islice(times(timing, start - 1), limit) if at < end]
    assert count_between(timing, start, end) == count_between(timing, start, middle) + count_between(timing, middle, end)
    last = last_time(timing, start, end)
    assert next_time(timing, last or start - 1) not in range(start, end)
    assert not last or (start <= last < end and next_time(timing, last - 1) == last)


@given(st.integers(1_000, 10**10), st.integers(0, 10**13), st.lists(st.integers(0, 10**13), min_size=2, max_size=2), st.integers(0, 10**13))
def test_intervals_are_arithmetic(every_ms, start_at, window, end_at):
    """Each is the start plus a multiple of the interval, and there are as many as fit."""
    timing = Timing(every_ms=every_ms, start_at=start_at, end_at=end_at)
    start, end = sorted(window)
    first, last = max(start, start_at), min(end, end_at or end)
    expected = max(0, -(-(last - start_at) // every_ms) + -((first - start_at) // -every_ms) * -1) if last > first else 0
    assert count_between(timing, start, end) == expected
    for at in times_between(timing, start, end, 5):
        assert (at - start_at) % every_ms == 0
        assert first <= at < last
    found = last_time(timing, start, end)
    assert (found > 0 and found + every_ms >= last and first <= found < last) if expected and found else expected <= 1


@given(FIVE | SIX, PLACES)
def test_the_next_time_takes_no_more_than_a_look_at_each_day_of_fifty_years(expression, place):
    """Whatever the expression is, and if it never runs."""
    zone, change = place
    timing = Timing(accepted(expression), timezone=zone)
    with mock.patch.object(CronSim, "match_day", autospec=True, side_effect=CronSim.match_day) as looked:
        next_time(timing, change)
    assert looked.call_count <= 52 * 366


@pytest.mark.parametrize("cron", ["0 3 */15 * 1#2", "*/10 2 * 3 7L", "* * */15 * 1#2"])
def test_what_never_runs_is_found_out(cron):
    """The third Monday is never the 16th, and on the last Sunday of March the hour from 02:00 does not exist in Berlin."""
    timing = Timing(cron, timezone="Europe/Berlin")
    assert next_time(timing, ms(datetime(2027, 1, 1, tzinfo=UTC))) == 0
    assert count_between(timing, ms(datetime(2027, 1, 1, tzinfo=UTC)), ms(datetime(2077, 1, 1, tzinfo=UTC))) == 0


def test_an_outage_of_a_month_is_counted_and_not_walked():
    """2.6 million times, by a look at each of its days."""
    start = ms(datetime(2027, 3, 5, tzinfo=UTC))
    timing = Timing("* * * * * *", timezone="Europe/Berlin")
    with mock.patch.object(CronSim, "match_day", autospec=True, side_effect=CronSim.match_day) as looked:
        assert count_between(timing, start, start + 30 * DAY) == 30 * 86_400
        assert last_time(timing, start, start + 30 * DAY) == start + 30 * DAY - 1_000
    assert looked.call_count < 300


@given(FIVE | SIX, PLACES)
def test_every_expression_has_words(expression, place):
    """With its zone and its next times."""
    zone, change = place
    words = describe(Timing(accepted(expression), timezone=zone), change)
    assert f" in {zone}; " in words
    assert "\n" not in words


def accepted(expression):
    """Its text, unless none of its months has its days."""
    try:
        next_time(Timing(expression.text), 0)
    except InvalidArgument:
        days = expression.day.numbers
        longest = 29 if expression.month.numbers == {2} else 30
        assert days
        assert min(days) > longest or min(days) > 29
        assert not expression.day.words
        assume(False)
    return expression.text

"""Texts of dates, times and durations in results are those that msgspec writes, with which they were written before."""

import datetime as dt

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sickbay.handlers.scalars import text_of_scalar

OFFSETS = st.none() | st.integers(-1_439, 1_439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))


@given(st.uuids() | st.dates() | st.timedeltas() | st.datetimes(timezones=OFFSETS) | st.times(timezones=OFFSETS))
@example(dt.timedelta())
@example(dt.timedelta(microseconds=-1))
@example(dt.timedelta(seconds=10))
@example(dt.timedelta(days=100))
@example(dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
def test_the_text_is_that_of_msgspec(value):
    assert text_of_scalar(value) == msgspec.to_builtins(value)


@pytest.mark.parametrize(("seconds", "text"), [(29, "Z"), (31, "+00:01"), (-29, "Z"), (-31, "-00:01"), (3_600, "+01:00")])
def test_offsets_have_whole_minutes(seconds, text):
    value = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(seconds=seconds)))
    assert text_of_scalar(value) == msgspec.to_builtins(value) == f"2026-01-02T03:04:05{text}"

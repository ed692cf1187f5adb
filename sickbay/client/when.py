"""When something is to run, as callers say it: `delay` or `run_at` of a job, and the times and spans of a schedule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sickbay.client.errors import invalid

Span = float | timedelta
"""Seconds, or a timedelta."""

_LONGEST: Final = 315_576_000_000.0
"""The range of Duration: 10,000 years."""


def set_run_time(request: Any, delay: Span | None, run_at: datetime | None) -> None:
    """Write when a job is to run into a request that has `delay` and `run_time`. InvalidRequest if both are given, or one is no time."""
    if delay is not None and run_at is not None:
        raise invalid("delay and run_at are two ways to say when the job is to run; give one of them")
    if (found := span(delay, "delay")) is not None:
        request.delay.CopyFrom(found)
    if (moment := timestamp(run_at, "run_at")) is not None:
        request.run_time.CopyFrom(moment)


def span(value: Span | None, field: str) -> Duration | None:
    """Seconds or a timedelta as a Duration, to the millisecond; None stays None. InvalidRequest if it is negative or neither."""
    if value is None:
        return None
    given: object = value  # of programs without a type checker
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _LONGEST:
        raise invalid(f"{field}: {value!r} is neither a number of seconds nor a timedelta, at least 0")
    found = Duration()
    found.FromMilliseconds(round(seconds * 1_000))
    return found


def timestamp(value: datetime | None, field: str) -> Timestamp | None:
    """A time as a Timestamp; None stays None. InvalidRequest unless it is an aware datetime."""
    if value is None:
        return None
    given: object = value  # of programs without a type checker
    if not isinstance(given, datetime):
        raise invalid(f"{field}: {value!r} is not a datetime")
    if given.utcoffset() is None:
        raise invalid(
            f"{field}: {given} has no time zone; give an aware datetime, such as"
            ' datetime(2027, 1, 1, 8, tzinfo=ZoneInfo("Europe/Berlin")), or datetime.now(UTC) + timedelta(hours=1)'
        )
    found = Timestamp()
    try:
        found.FromDatetime(given.astimezone(UTC))
    except (OverflowError, ValueError):
        raise invalid(f"{field}: {given} is not a time of the years 1 to 9999 in UTC") from None
    return found

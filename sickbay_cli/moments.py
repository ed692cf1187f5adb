"""Times on the command line: `2027-01-01T08:00+01:00`; one without an offset is a time of this machine's zone."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import click
from google.protobuf.timestamp_pb2 import Timestamp

from sickbay.domain.storable import LAST_MS
from sickbay_cli.durations import relative

WORDS: Final = "write for example 2027-01-01T08:00, which is a time of this machine's zone, or 2027-01-01T08:00+01:00"


class _Moment(click.ParamType[int]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_moment(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


MOMENT: Final = _Moment()
"""A time as in ISO 8601; the command gets milliseconds since the epoch."""


def parse_moment(text: str, zone: tzinfo | None = None) -> int:
    """The time in ms since the epoch; `zone` is that of one without an offset, None: this machine's. ValueError says what to write."""
    try:
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is None and zone is not None:
            found = found.replace(tzinfo=zone)
        ms = round(found.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is not a time; {WORDS}") from None
    if not 0 <= ms <= LAST_MS:
        raise ValueError(f"{text!r} is not in the years 1970 to 9999; {WORDS}")
    return ms


def at(ms: int, zone: tzinfo | None = None) -> str:
    """`2027-01-01 08:00:00 CET`, in the zone or in this machine's; empty for 0 (unknown)."""
    if not ms:
        return ""
    found = datetime.fromtimestamp(ms // 1000, UTC)
    with suppress(OverflowError, ValueError, OSError):  # at the end of the year 9999
        found = found.astimezone(zone)
    return found.strftime("%Y-%m-%d %H:%M:%S %Z")


def at_and_when(ms: int, now: int, zone: tzinfo | None = None) -> str:
    """`2027-01-01 08:00:00 CET, in 3 h`; empty for 0 (unknown)."""
    return f"{at(ms, zone)}, {relative(ms, now)}" if ms else ""


def timestamp(ms: int | None) -> Timestamp | None:
    """For a message; None stays None."""
    if ms is None:
        return None
    found = Timestamp()
    found.FromMilliseconds(ms)
    return found

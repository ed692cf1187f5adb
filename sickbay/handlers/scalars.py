"""Texts of dates, times, durations and UUIDs in results: ISO 8601 as RFC 3339 wants it. Pure.

They are the texts that msgspec writes. They are made here because handlers are also tested where only the SDK is installed.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from typing import Any, Final
from uuid import UUID

SCALARS: Final[Any] = (datetime, date, time, timedelta, UUID)
"""The classes that have a text; those derived from them have the one of their `isoformat`."""
_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)


def text_of_scalar(value: Any) -> str:
    """The text of an instance of SCALARS; raises whatever the methods of a derived class raise."""
    kind = type(value)
    if kind is timedelta:
        return _duration(value)
    if kind is UUID:
        return str(value)
    if kind is datetime or kind is time:
        return _clock_text(value)
    return str(value.isoformat())


def _clock_text(value: Any) -> str:
    """With Z for UTC, and offsets in whole minutes: RFC 3339 has no seconds there."""
    offset = value.utcoffset()
    if offset is None:
        return str(value.isoformat())
    minutes = round(offset / _MINUTE)
    if minutes == 0:
        return f"{value.replace(tzinfo=None).isoformat()}Z"
    return str(value.replace(tzinfo=timezone(minutes * _MINUTE)).isoformat())


def _duration(value: timedelta) -> str:
    """Days and seconds: `P1DT3661.5S`; a sign before the whole, and P0D for nothing."""
    size = abs(value)
    seconds = f"{size.seconds}.{size.microseconds:06}".rstrip("0").rstrip(".") if size.microseconds else f"{size.seconds}"
    parts = (f"{size.days}D" if size.days else "", f"T{seconds}S" if size % (86_400 * _SECOND) else "")
    return ("-" if value < timedelta() else "") + "P" + ("".join(parts) or "0D")

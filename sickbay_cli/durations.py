"""Times for people: "3 m ago", and parsing of durations such as 10m. Pure; all times are milliseconds since the epoch."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from sickbay.domain.spans import UNITS, span

__all__ = ["clock", "moment", "parse_span", "relative", "span"]

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")
_SPAN: Final = re.compile(rf"(?:{_PART.pattern})+")


def parse_span(text: str) -> int:
    """`10m`, `1h30m`, `1.5h` or `500ms` in milliseconds; ValueError for anything else, including a bare number."""
    if _SPAN.fullmatch(text.strip()) is None:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 10m, 1h30m or 2d")
    return round(sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text)))


def relative(ms: int, now: int) -> str:
    """`3 m ago`, `in 9 m 59 s`, or `now`: ages in one unit to keep columns narrow, countdowns in two. Empty for 0 (unknown)."""
    if not ms:
        return ""
    distance = abs(now - ms)
    unit = next((unit for unit in ("d", "h", "m", "s") if distance >= UNITS[unit]), None)
    if unit is None:
        return "now"
    return f"{distance // UNITS[unit]} {unit} ago" if ms < now else f"in {span(distance)}"


def moment(ms: int) -> str:
    """Local date and time; empty for 0 (unknown)."""
    return _local(ms).strftime("%Y-%m-%d %H:%M:%S") if ms else ""


def clock(ms: int) -> str:
    """Local time of day."""
    return _local(ms).strftime("%H:%M:%S")


def _local(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000).astimezone()

"""Times for people: "3 m ago", and parsing of durations such as 10m. Pure; all times are milliseconds since the epoch."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

_UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")
_SPAN: Final = re.compile(rf"(?:{_PART.pattern})+")


def parse_span(text: str) -> int:
    """`10m`, `1h30m`, `1.5h` or `500ms` in milliseconds; ValueError for anything else, including a bare number."""
    if _SPAN.fullmatch(text.strip()) is None:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 10m, 1h30m or 2d")
    return round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def span(ms: int) -> str:
    """A duration in its two largest units at most: `45 s`, `3 m`, `1 h 5 m`, `2 d 3 h`."""
    if ms < _UNITS["s"]:
        return f"{ms} ms"
    rest, parts = ms // 1000 * 1000, []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def relative(ms: int, now: int) -> str:
    """`3 m ago`, `in 9 m 59 s`, or `now`: ages in one unit to keep columns narrow, countdowns in two. Empty for 0 (unknown)."""
    if not ms:
        return ""
    distance = abs(now - ms)
    unit = next((unit for unit in ("d", "h", "m", "s") if distance >= _UNITS[unit]), None)
    if unit is None:
        return "now"
    return f"{distance // _UNITS[unit]} {unit} ago" if ms < now else f"in {span(distance)}"


def moment(ms: int) -> str:
    """Local date and time; empty for 0 (unknown)."""
    return _local(ms).strftime("%Y-%m-%d %H:%M:%S") if ms else ""


def clock(ms: int) -> str:
    """Local time of day."""
    return _local(ms).strftime("%H:%M:%S")


def _local(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000).astimezone()

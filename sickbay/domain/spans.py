"""Durations and moments in words. Pure; all times are milliseconds since the epoch, and every number has words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999, beyond which there are no dates."""
_DAY_MS: Final = UNITS["d"]


def span(ms: int) -> str:
    """A duration in its two largest units at most: `45 s`, `3 m`, `1 h 5 m`, `2 d 3 h`."""
    if ms < UNITS["s"]:
        return f"{ms} ms"
    rest, parts = ms // 1000 * 1000, []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, UNITS[unit])
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def utc(ms: int, now: int) -> str:
    """`09:41:07 UTC`; with its date if it is more than a day from now."""
    time = datetime.fromtimestamp(min(max(ms, 0), _LAST_MS) / 1000, UTC)
    return time.strftime("%H:%M:%S UTC" if abs(now - ms) < _DAY_MS else "%Y-%m-%d %H:%M:%S UTC")


def ago(ms: int, now: int) -> str:
    """`3 m ago`; `just now` within a second, and for what the clocks of two machines place in the future."""
    return f"{span(now - ms)} ago" if now - ms >= UNITS["s"] else "just now"


def ahead(ms: int, now: int) -> str:
    """`in 42 s`; `now` within a second, and for what is past."""
    return f"in {span(ms - now)}" if ms - now >= UNITS["s"] else "now"

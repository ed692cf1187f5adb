"""Monotonic clocks, with which a process measures its own waits.

The wall clock is for people. It may be set, or corrected by a time server, and differs between machines; so no wait of our processes is
measured with it, and decisions of several processes use the clock of the store that makes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_Clock = Callable[[], int]


STEP_MS: Final = 1_000
"""A smaller difference is drift: the wall clock has not been set."""

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def wall_clock() -> int:
    """Milliseconds since the epoch, by the clock of the machine."""
    return time.time_ns() // 1_000_000


def uptime() -> int:
    """Milliseconds of a monotonic clock, which continues during suspend if the system supports that."""
    return time.clock_gettime_ns(_STEADY) // 1_000_000


class SteadyClock:
    """The wall clock at creation plus the monotonic time since; it never steps, so it may differ from the wall clock."""

    def __init__(self, wall: _Clock = wall_clock, steady: _Clock = uptime) -> None:
        """Read both clocks once."""
        self._steady = steady
        self._ahead = wall() - steady()

    def __call__(self) -> int:
        """Milliseconds since the epoch."""
        return self._steady() + self._ahead


class Steps:
    """Measures by how much a wall clock was set since the last call, so that recorded times can be adjusted."""

    def __init__(self, wall: _Clock, steady: _Clock = uptime) -> None:
        """Start measuring."""
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()

    def taken(self) -> int:
        """Milliseconds, negative if the clock was set back; usually 0."""
        step = self._wall() - self._steady() - self._ahead
        if abs(step) < STEP_MS:
            return 0
        self._ahead += step
        return step

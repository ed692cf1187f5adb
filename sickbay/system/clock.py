"""Clocks that do not step: what a process measures its own waits with.

The wall clock is for people. Somebody may set it, a time server may correct it, and two machines never have the same; so no wait of a
process of ours is measured with it, and what several processes decide together goes by the clock of the store that decides it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_Clock = Callable[[], int]


STEP_MS: Final = 1_000
"""A wall clock that is off by less has not been set, only drifted."""

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def wall_clock() -> int:
    """Milliseconds since the epoch, as the machine believes just now."""
    return time.time_ns() // 1_000_000


def uptime() -> int:
    """Milliseconds since some moment, never set; a machine that sleeps goes on counting, where the system can tell."""
    return time.clock_gettime_ns(_STEADY) // 1_000_000


class SteadyClock:
    """The wall clock of the moment at which this was made, and what has passed since; never steps, so it may differ from the wall's."""

    def __init__(self, wall: _Clock = wall_clock, steady: _Clock = uptime) -> None:
        """Look at both once."""
        self._steady = steady
        self._ahead = wall() - steady()

    def __call__(self) -> int:
        """Milliseconds since the epoch."""
        return self._steady() + self._ahead


class Steps:
    """Tells by how much a wall clock was set since one last asked, so that what was noted by it can be moved along."""

    def __init__(self, wall: _Clock, steady: _Clock = uptime) -> None:
        """Nothing was set yet."""
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()

    def taken(self) -> int:
        """Milliseconds, negative if the clock was set back; 0 as a rule."""
        step = self._wall() - self._steady() - self._ahead
        if abs(step) < STEP_MS:
            return 0
        self._ahead += step
        return step

"""For how long a loop was alive: the time in which handlers could make progress, without standstills.

A process that was stopped (SIGSTOP, a paused container or virtual machine), or a loop that a handler blocked, finds every timer overdue
when it goes on. What a wall clock says of a run is then nobody's fault. So runs are timed by this clock, which counts at most MOST_S
between two beats.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

BEAT_S: Final = 0.25
MOST_S: Final = 1.0
"""What lies between two beats counts as at most this; a beat that comes later than that is a standstill."""


def machine_seconds() -> float:
    """Seconds on a clock that no one sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class AliveClock:
    """Beats on one loop while anything is timed by it; idle it costs nothing. All but `beaten_at` belongs to that loop."""

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        *,
        seconds: Callable[[], float] = machine_seconds,
        on_standstill: Callable[[float], None] | None = None,
    ) -> None:
        """`call_later` is the loop's; `on_standstill` hears how many seconds a standstill lasted, when it is over."""
        self._call_later = call_later
        self._seconds = seconds
        self._on_standstill = on_standstill
        self._users = 0
        self._alive = 0.0
        self._lost = 0.0
        self._beats: asyncio.TimerHandle | None = None
        self.beaten_at = 0.0
        """When the loop was last seen alive (`machine_seconds`); meaningful while it is used. Other threads may read it."""

    @property
    def is_used(self) -> bool:
        """Whether anything is timed now."""
        return self._users > 0

    def use(self) -> None:
        """Something is timed from now on; call `release` when it is over."""
        self._users += 1
        if self._users == 1:
            self.beaten_at = self._seconds()
            if self._beats is None:
                self._beats = self._call_later(BEAT_S, self._beat)

    def release(self) -> None:
        """It is over."""
        self._users -= 1

    def alive(self) -> float:
        """Seconds in which the loop was alive, from any beginning; only differences mean something, and only while used."""
        return self._alive + min(self._seconds() - self.beaten_at, MOST_S)

    def lost(self) -> float:
        """Seconds that were lost to standstills, likewise."""
        return self._lost + max(0.0, self._seconds() - self.beaten_at - MOST_S)

    def _beat(self) -> None:
        self._beats = None
        if not self._users:
            return
        now = self._seconds()
        gap = now - self.beaten_at
        self._alive += min(gap, MOST_S)
        self._lost += max(0.0, gap - MOST_S)
        self.beaten_at = now
        self._beats = self._call_later(BEAT_S, self._beat)
        if gap > MOST_S and self._on_standstill is not None:
            self._on_standstill(gap)

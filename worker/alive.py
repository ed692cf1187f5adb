"""A clock of the time in which an event loop was alive, that is, in which handlers could make progress, without standstills.

When a process continues that was stopped (SIGSTOP, a paused container or virtual machine), or a loop that a handler blocked, every timer
is overdue, although the runs are not at fault. So runs are timed by this clock, which counts at most MAX_GAP_S between two beats.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

BEAT_S: Final = 0.25
MAX_GAP_S: Final = 1.0
"""The time between two beats counts as at most this; a longer gap is a standstill."""


def machine_seconds() -> float:
    """Seconds of a monotonic clock that continues while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class AliveClock:
    """Beats on one loop while it times anything; it costs nothing when idle. Everything but `last_beat_at` belongs to that loop."""

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        *,
        seconds: Callable[[], float] = machine_seconds,
        on_standstill: Callable[[float], None] | None = None,
    ) -> None:
        """`call_later` is the loop's; `on_standstill` is called with the seconds of a standstill when it is over."""
        self._call_later = call_later
        self._seconds = seconds
        self._on_standstill = on_standstill
        self._users = 0
        self._alive = 0.0
        self._lost = 0.0
        self._beats: asyncio.TimerHandle | None = None
        self.last_beat_at = 0.0
        """When the loop was last alive (`machine_seconds`); valid while the clock is used. Other threads may read it."""

    @property
    def is_used(self) -> bool:
        """Whether it times anything."""
        return self._users > 0

    def use(self) -> None:
        """Start timing something; call `release` at its end."""
        self._users += 1
        if self._users == 1:
            self.last_beat_at = self._seconds()
            if self._beats is None:
                self._beats = self._call_later(BEAT_S, self._beat)

    def release(self) -> None:
        """Stop timing something."""
        self._users -= 1

    def alive(self) -> float:
        """Seconds in which the loop was alive, from an arbitrary start; only differences are meaningful, and only while used."""
        return self._alive + min(self._seconds() - self.last_beat_at, MAX_GAP_S)

    def lost(self) -> float:
        """Seconds that were lost to standstills, from an arbitrary start."""
        return self._lost + max(0.0, self._seconds() - self.last_beat_at - MAX_GAP_S)

    def _beat(self) -> None:
        self._beats = None
        if not self._users:
            return
        now = self._seconds()
        gap = now - self.last_beat_at
        self._alive += min(gap, MAX_GAP_S)
        self._lost += max(0.0, gap - MAX_GAP_S)
        self.last_beat_at = now
        self._beats = self._call_later(BEAT_S, self._beat)
        if gap > MAX_GAP_S and self._on_standstill is not None:
            self._on_standstill(gap)

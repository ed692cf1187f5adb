"""A clock that runs and can be moved ahead, and an event loop whose timers follow it."""

from __future__ import annotations

import asyncio

from sickbay.system.clock import uptime, wall_clock


class MovableClock:
    """The machine's clocks plus what the test has added."""

    def __init__(self) -> None:
        """Nothing is added yet."""
        self.ahead_ms = 0

    def wall(self) -> int:
        """Milliseconds since the epoch."""
        return wall_clock() + self.ahead_ms

    def steady(self) -> int:
        """Milliseconds of a clock that is never set."""
        return uptime() + self.ahead_ms

    def move(self, by_ms: int) -> None:
        """Move it ahead. Call this in the thread of the loop: its timers that are due then fire at its next turn."""
        self.ahead_ms += by_ms


class MovableLoop(asyncio.SelectorEventLoop):
    """Every timer and every `asyncio.sleep` on it waits by the clock, so moving that ends waits and takes no time."""

    def __init__(self, clock: MovableClock) -> None:
        """Follow this clock."""
        self._movable = clock
        super().__init__()

    def time(self) -> float:
        """Seconds."""
        return super().time() + self._movable.ahead_ms / 1000

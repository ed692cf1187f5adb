"""The time of Redis, by which breakers are changed, without asking for it."""

from __future__ import annotations

from sickbay.ports import Clock
from sickbay.system.clock import uptime, wall_clock


class RedisClock:
    """The estimated time of Redis: its last reported time plus what has passed since. A fixed clock replaces both."""

    def __init__(self, clock: Clock | None) -> None:
        self.fixed = clock
        self._ahead = wall_clock() - uptime()

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return self.fixed() if self.fixed is not None else uptime() + self._ahead

    def update(self, now: int) -> None:
        """Redis reported its time."""
        self._ahead = now - uptime()

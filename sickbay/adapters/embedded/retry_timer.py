"""The timer that wakes the embedded broker when the next retry is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sickbay.ports import Clock

_LONGEST_SECONDS: Final = 86_400.0


class RetryTimer:
    """Calls `on_due` once at `due`, or earlier: after a day, or if the wall clock was set back. So `on_due` must check the time."""

    def __init__(self, clock: Clock, on_due: Callable[[], None]) -> None:
        """Nothing is due yet, and it is not scheduled."""
        self._clock = clock
        self._on_due = on_due
        self._timer: asyncio.TimerHandle | None = None
        self.due: int | None = None
        """When the next retry is due, in ms since the epoch; None if there is none."""

    @property
    def is_set(self) -> bool:
        """Whether it is scheduled."""
        return self._timer is not None

    def is_due(self, now: int) -> bool:
        """Whether `due` has come."""
        return self.due is not None and self.due <= now

    def set_due(self, due: int | None) -> None:
        """Change `due` and schedule it."""
        if due != self.due:
            self.due = due
            self.schedule()

    def schedule(self) -> None:
        """Schedule the call at `due`."""
        if self.due is not None:
            self.schedule_in((self.due - self._clock()) / 1000)

    def schedule_in(self, seconds: float) -> None:
        """Schedule the call in `seconds`, instead of at its former time."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(min(max(seconds, 0), _LONGEST_SECONDS), self._fire)

    def stop(self) -> None:
        """Cancel the call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._on_due()

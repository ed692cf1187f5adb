"""What wakes the embedded broker at the moment at which the next retry is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sickbay.ports import Clock

_LONGEST_SECONDS: Final = 86_400.0


class RetryTimer:
    """Rings once for `due`, or before it: after a day, or because the wall clock was set back. So whoever hears it looks again."""

    def __init__(self, clock: Clock, heard: Callable[[], None]) -> None:
        """`heard` is called when it rings. Nothing is due yet, and it is not set."""
        self._clock = clock
        self._heard = heard
        self._timer: asyncio.TimerHandle | None = None
        self.due: int | None = None
        """When the next thing is due, in ms since the epoch; None if nothing is."""

    @property
    def is_set(self) -> bool:
        """Whether it is going to ring."""
        return self._timer is not None

    def is_due(self, now: int) -> bool:
        """Whether that moment has come."""
        return self.due is not None and self.due <= now

    def move(self, due: int | None) -> None:
        """Set it to another moment."""
        if due != self.due:
            self.due = due
            self.set()

    def set(self) -> None:
        """Let it ring when `due` has come."""
        if self.due is not None:
            self.ring_in((self.due - self._clock()) / 1000)

    def ring_in(self, seconds: float) -> None:
        """Let it ring after so long, instead of when it would have."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(min(max(seconds, 0), _LONGEST_SECONDS), self._ring)

    def stop(self) -> None:
        """Let it not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._heard()

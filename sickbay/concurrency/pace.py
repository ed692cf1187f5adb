"""Rate limiting of work that others trigger: short bursts pass at once, a flood is slowed down to a rate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic


class TokenBucket:
    """At most `burst` tokens at once, and `per_s` a second in the long run."""

    def __init__(self, burst: int, per_s: float, now: Callable[[], float] = monotonic) -> None:
        """`now` is a monotonic clock in seconds."""
        self._burst, self._per_s, self._now = float(burst), per_s, now
        self._left, self._filled_at = float(burst), now()

    def wait_s(self) -> float:
        """Take a token; returns the seconds to wait before using it, 0 if one was left."""
        now = self._now()
        self._left = min(self._burst, self._left + (now - self._filled_at) * self._per_s) - 1
        self._filled_at = now
        return max(0.0, -self._left / self._per_s)

    async def acquire(self) -> None:
        """Wait for a token and take it."""
        wait_s = self.wait_s()
        if wait_s:
            await asyncio.sleep(wait_s)

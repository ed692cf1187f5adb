"""How many messages a program may send: what is beyond waits in its connection, so that a flood slows down its sender and nobody else.

Answers to runs count for none, since there is one for each run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PER_S: Final = 200
BURST: Final = 1_000
BYTES: Final = 16_384
"""A message counts once more for each of these."""


class Allowance:
    """One per program."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Begin with the whole burst; `now` in seconds."""
        self._now = now
        self._left = float(BURST)
        self._at = now()

    def take(self, count: int, size: int) -> float:
        """Count a message of `size` bytes as so many; returns for how many seconds to read no further one."""
        now = self._now()
        self._left = min(BURST, self._left + PER_S * (now - self._at)) - count - (size // BYTES if count else 0)
        self._at = now
        return max(0.0, -self._left / PER_S)

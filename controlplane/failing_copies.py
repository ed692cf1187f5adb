"""Copies in `jobs.quarantine` that made the sweep fail, so that it goes on without them and looks at each of them ever more seldom."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sickbay.domain.storable import digest

FIRST_PAUSE_S: Final = 60.0
LONGEST_PAUSE_S: Final = 3_600.0
MAX_REMEMBERED: Final = 1_000
"""What was forgotten is looked at in every round."""


class FailingCopies:
    """Knows copies by their bytes, for they are kept as they are."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        """None yet."""
        self._seconds = seconds
        self._known: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def is_resting(self, body: bytes) -> bool:
        """Whether it is not yet time to look at this one again."""
        if not self._known:
            return False
        _, until = self._known.get(digest(body), (0.0, 0.0))
        return until > self._seconds()

    def failed(self, body: bytes) -> float:
        """It made the sweep fail (again); for how many seconds it is left alone."""
        name = digest(body)
        last, _ = self._known.pop(name, (0.0, 0.0))
        pause = min(LONGEST_PAUSE_S, 2 * last) if last else FIRST_PAUSE_S
        self._known[name] = (pause, self._seconds() + pause)
        while len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        return pause

    def passed(self, body: bytes) -> None:
        """It made no trouble."""
        if self._known:
            self._known.pop(digest(body), None)

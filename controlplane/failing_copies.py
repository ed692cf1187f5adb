"""Copies in `jobs.quarantine` that made reconciliation fail: they are skipped, and retried with increasing delays."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sickbay.domain.storable import digest

FIRST_PAUSE_S: Final = 60.0
LONGEST_PAUSE_S: Final = 3_600.0
MAX_REMEMBERED: Final = 1_000
"""Copies beyond this are checked in every round."""


class FailingCopies:
    """Identifies copies by their bytes, since they are kept unchanged."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        """`seconds` is a monotonic clock."""
        self._seconds = seconds
        self._known: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def is_resting(self, body: bytes) -> bool:
        """Whether this copy is not yet due to be checked again."""
        if not self._known:
            return False
        _, until = self._known.get(digest(body), (0.0, 0.0))
        return until > self._seconds()

    def record_failure(self, body: bytes) -> float:
        """It failed (again); returns for how many seconds it is skipped."""
        name = digest(body)
        last, _ = self._known.pop(name, (0.0, 0.0))
        pause = min(LONGEST_PAUSE_S, 2 * last) if last else FIRST_PAUSE_S
        self._known[name] = (pause, self._seconds() + pause)
        while len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        return pause

    def record_success(self, body: bytes) -> None:
        """It was processed successfully."""
        if self._known:
            self._known.pop(digest(body), None)

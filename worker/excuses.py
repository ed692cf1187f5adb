"""Failures of runs that a standstill disturbed do not count: their own timeouts ran out while the process stood still."""

from __future__ import annotations

import logging
from typing import Final

from sickbay.domain.outcome import Outcome
from worker.run import CANCELLED, Run

DISTURBED_S: Final = 1.0
"""A failed run that lost this much to standstills proves nothing."""
MAX_DISTURBED: Final = 3
"""How often the same copy of a job is excused in this process."""
_REMEMBERED: Final = 1_000

log = logging.getLogger(__name__)


class Excuses:
    """Remembers how often each copy was excused."""

    def __init__(self) -> None:
        """Start empty."""
        self._disturbed: dict[tuple[str, int, int], int] = {}

    def judge(self, run: Run, outcome: Outcome) -> Outcome:
        """CANCELLED instead of a failure that a standstill disturbed: it is repeated and not counted as an attempt, a few times at most."""
        if not outcome.kind.is_breaker_failure or run.lost < DISTURBED_S or run.blocks:
            return outcome
        copy = (run.job.job_id, run.job.generation, run.job.attempt)
        times = self._disturbed.pop(copy, 0) + 1
        if times > MAX_DISTURBED:
            return outcome
        self._disturbed[copy] = times
        while len(self._disturbed) > _REMEMBERED:
            del self._disturbed[next(iter(self._disturbed))]
        log.warning(
            "a run failed with %s after a pause of %.1f s; it proves nothing, so it is repeated and not counted as an attempt",
            outcome.code, run.lost, extra={"job_id": run.job.job_id},
        )  # fmt: skip
        return CANCELLED

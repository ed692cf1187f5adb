"""The port of numbers about schedules, for metrics, with the rules of the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sickbay.domain.schedule import ScheduleKey, ScheduleState


@dataclass(frozen=True, slots=True)
class ScheduleCounts:
    """All schedules at one moment. `overdue_ms`: for how long the one that is due for longest has been due, 0 if none is.

    `buffered` of them have a time that waits for the end of a job, `running` is the number of their jobs that have not ended. The latest
    job of `failing` ones failed; `named` are the first of these, by tenant and id. Schedules that have ended do not fail.
    """

    by_state: Mapping[ScheduleState, int]
    overdue_ms: int = 0
    buffered: int = 0
    running: int = 0
    failing: int = 0
    named: Sequence[ScheduleKey] = ()


class ScheduleStatistics(Protocol):
    """Counts schedules."""

    async def count_schedules(self, named: int) -> ScheduleCounts:
        """All of them, with the names of at most so many that fail."""

"""How long a successful run of a breaker's jobs usually takes, as far as this process knows: so it can tell a probe that hangs.

A moving average in which the odd long run weighs little, because no run counts for more than four times the average. It is not forgotten
in an outage, however long: that is when it is needed. A run costs a look into a dictionary, and nothing is asked of anybody.
"""

from __future__ import annotations

from typing import Final

from sickbay.domain.breaker import BreakerKey, Permit
from sickbay.domain.outcome import Outcome, OutcomeKind

WEIGHT: Final = 16
"""A run counts for a 16th of the average."""
MOST_PARTS: Final = 4
MAX_BREAKERS: Final = 1_000
"""Beyond it the one that was added first is forgotten, and learned anew."""
_SCALE: Final = 1_000
"""Averages are kept in microseconds, so that one of a few ms can move by a 16th."""


class UsualDurations:
    """One per process."""

    def __init__(self) -> None:
        self._averages: dict[BreakerKey, int] = {}

    def usual_ms(self, key: BreakerKey) -> int:
        """At least 1; 0 if no run has succeeded here."""
        average = self._averages.get(key)
        return 0 if average is None else max(1, average // _SCALE)

    def record(self, permit: Permit, outcome: Outcome, took_ms: int) -> None:
        """Take in a run that has ended. Only successes count, and no probes: a dependency that has just come back may be slow."""
        if outcome.kind is not OutcomeKind.SUCCESS or permit.token:
            return
        key, took = permit.key, took_ms * _SCALE
        average = self._averages.get(key)
        if average is not None:
            most = MOST_PARTS * max(average, _SCALE)
            self._averages[key] = average + (min(took, most) - average) // WEIGHT
            return
        if len(self._averages) >= MAX_BREAKERS:
            del self._averages[next(iter(self._averages))]
        self._averages[key] = took

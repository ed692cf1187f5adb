"""How long a successful run of a breaker's jobs usually takes, as far as this process knows: so it can tell what hangs or is slow.

A moving average in which the odd long run weighs little, because no run counts for more than four times the average. It is not forgotten
in an outage, however long: that is when it is needed. Of frequent runs it samples one every four seconds: while calls queue, all runs are
longer, and that must not become usual too soon. If they stay that long it is accepted within about a minute. A run costs a look into a
dictionary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sickbay.domain.breaker import BreakerKey, Permit
from sickbay.domain.outcome import Outcome, OutcomeKind

WEIGHT: Final = 16
"""A run counts for a 16th of the average."""
MOST_PARTS: Final = 4
SAMPLE_MS: Final = 4_000
SLOW_PARTS: Final = 3
"""A run is slow if it takes three times as long as usual ..."""
LEAST_SLOWER_MS: Final = 250
"""... and so much longer: less may be the worker's own doing."""
MAX_BREAKERS: Final = 1_000
"""Beyond it the one that was added first is forgotten, and learned anew."""
_SCALE: Final = 1_000
"""Averages are kept in microseconds, so that one of a few ms can move by a 16th."""


@dataclass(slots=True)
class _Average:
    value: int
    at: int
    number: int = 1


class UsualDurations:
    """One per process."""

    def __init__(self) -> None:
        self._averages: dict[BreakerKey, _Average] = {}

    def usual_ms(self, key: BreakerKey) -> int:
        """At least 1; 0 if no run has succeeded here."""
        average = self._averages.get(key)
        return 0 if average is None else max(1, average.value // _SCALE)

    def record(self, permit: Permit, outcome: Outcome, took_ms: int, clock: Callable[[], int]) -> None:
        """Take in a run that has ended. Only successes count, and no probes: a dependency that has just come back may be slow."""
        if outcome.kind is not OutcomeKind.SUCCESS or permit.token:
            return
        average, now = self._averages.get(permit.key), clock()
        if average is None:
            self._add(permit.key, _Average(took_ms * _SCALE, now))
        elif average.number < WEIGHT or not 0 <= now - average.at < SAMPLE_MS:
            most = MOST_PARTS * max(average.value, _SCALE)
            average.value += (min(took_ms * _SCALE, most) - average.value) // WEIGHT
            average.number, average.at = average.number + 1, now

    def _add(self, key: BreakerKey, average: _Average) -> None:
        if len(self._averages) >= MAX_BREAKERS:
            del self._averages[next(iter(self._averages))]
        self._averages[key] = average


def is_slow(took_ms: int, usual_ms: int) -> bool:
    """Whether a run took much longer than usual; never if that is not known."""
    return usual_ms > 0 and took_ms >= max(SLOW_PARTS * usual_ms, usual_ms + LEAST_SLOWER_MS)

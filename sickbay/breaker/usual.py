"""What share of the runs of a breaker usually fails, as far as this process knows: failures before the last success.

The failures in a row since then are not counted yet: they may be the beginning of an outage, and are what the share is compared with. Nor
are those that opened the breaker. A breaker whose runs succeed costs one look into an empty dictionary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sickbay.domain.breaker import BreakerKey, Permit
from sickbay.domain.outcome import Outcome, OutcomeKind

SCALE: Final = 1_000_000
WEIGHT: Final = 32
"""A run counts for a 32nd of the average: it is mostly about the last sixty or so."""
FEWEST: Final = 20
"""Less runs say nothing."""
FORGOTTEN_MS: Final = 60_000
"""Runs before a pause of this length say nothing any more."""
NEGLIGIBLE: Final = 1_000
MAX_BREAKERS: Final = 1_000
MAX_IN_ROW: Final = 256
"""More failures in a row change nothing in the average."""


@dataclass(slots=True)
class _Average:
    epoch: int
    at: int
    share: int = 0
    number: int = 0
    in_row: int = 0


class UsualFailures:
    """One per process."""

    def __init__(self) -> None:
        self._averages: dict[BreakerKey, _Average] = {}

    def share(self, key: BreakerKey) -> int:
        """In thousandths; 0 if it is not known."""
        average = self._averages.get(key)
        return average.share * 1_000 // SCALE if average is not None and average.number >= FEWEST else 0

    def record(self, permit: Permit, outcome: Outcome, clock: Callable[[], int]) -> None:
        """Take in the outcome of a run. Those of probes do not count: they say how long an outage lasts."""
        average = self._averages.get(permit.key)
        if permit.token or (average is None and not outcome.kind.is_breaker_failure):
            return
        if average is None:
            average = self._new(permit, clock())
        if outcome.kind.is_breaker_failure:
            self._catch_up(average, permit, clock())
            average.in_row += 1
        elif outcome.kind is OutcomeKind.SUCCESS:
            self._catch_up(average, permit, clock())
            self._succeed(permit.key, average)

    def _new(self, permit: Permit, now: int) -> _Average:
        if len(self._averages) >= MAX_BREAKERS:
            del self._averages[next(iter(self._averages))]
        average = self._averages[permit.key] = _Average(permit.epoch, now)
        return average

    def _succeed(self, key: BreakerKey, average: _Average) -> None:
        for _ in range(min(average.in_row, MAX_IN_ROW)):
            average.share += (SCALE - average.share) // WEIGHT
        average.share -= average.share // WEIGHT
        average.number = min(average.number + average.in_row + 1, FEWEST)
        average.in_row = 0
        if average.share < NEGLIGIBLE:
            del self._averages[key]

    @staticmethod
    def _catch_up(average: _Average, permit: Permit, now: int) -> None:
        if permit.epoch != average.epoch:  # a row of failures that opened the breaker was an outage
            average.epoch, average.in_row = permit.epoch, 0
        if not 0 <= now - average.at <= FORGOTTEN_MS:
            average.share = average.number = average.in_row = 0
        average.at = now

"""Holds releases of a circuit back while its released jobs only come back parked.

The fleet's circuit may be CLOSED and a worker refuse all the same: it cannot reach Redis and minds a circuit of its own, or Redis takes
no writes. Released jobs are then parked again within a moment, and would be released and parked for ever, at every look. So whoever
releases listens to what comes of it: a released job that is parked although its circuit was closed makes the pause until the next
release of that circuit longer (1 s, doubled up to 60 s), with one job at a time; a success, or a change of the circuit, ends that.

Each control plane judges by the events it hears. They share the events between them, so each hears of the same trouble.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from sickbay.concurrency.pauses import grown, spread
from sickbay.domain.breaker import BreakerKey, Snapshot
from sickbay.domain.job import JobEvent, JobState

FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0
FORGOTTEN_S: Final = 2 * LONGEST_S
"""Nothing has come back for so long: the next releases are as ever."""
MAX_DOUBLINGS: Final = 10


@dataclass(slots=True)
class _Held:
    """What is known of one circuit's releases; times are seconds of a clock that never steps."""

    epoch: int
    is_out: bool = True
    """Whether a release went out of which nothing has been heard yet."""
    times: int = 0
    """How many releases in a row came back."""
    back_at: float = 0.0
    until: float = 0.0


class ReleaseBackoff:
    """One per healer. Knows only circuits of which it released something lately."""

    def __init__(self, now: Callable[[], float] = monotonic, spread: Callable[[], float] = spread) -> None:
        """`now` in seconds, never steps; `spread` draws the factor by which a pause is longer or shorter."""
        self._now = now
        self._spread = spread
        self._held: dict[BreakerKey, _Held] = {}

    def looked(self, key: BreakerKey, breaker: Snapshot | None) -> None:
        """This is the circuit now, None if nobody knows it; where it refuses, or has changed, what came back was no wonder."""
        held = self._held.get(key)
        if held is not None and ((breaker is not None and breaker.state.refuses) or held.epoch != _epoch(breaker)):
            del self._held[key]

    def wait_s(self, key: BreakerKey) -> float:
        """For how many seconds nothing of this circuit is to be released."""
        held = self._held.get(key)
        return max(0.0, held.until - self._now()) if held is not None else 0.0

    def is_held(self, key: BreakerKey) -> bool:
        """Whether its jobs came back lately: one at a time, then."""
        held = self._held.get(key)
        if held is not None and held.times and self._now() - held.back_at > FORGOTTEN_S + min(LONGEST_S, FIRST_S * 2.0**held.times):
            held.times = 0
        return held is not None and held.times > 0

    def held_back(self) -> frozenset[BreakerKey]:
        """Every circuit whose releases are held back."""
        return frozenset(key for key in list(self._held) if self.is_held(key))

    def released(self, key: BreakerKey, breaker: Snapshot | None) -> None:
        """Jobs of this circuit went out."""
        held = self._held.setdefault(key, _Held(_epoch(breaker)))
        held.is_out = True
        if held.times:
            held.until = self._now() + self._pause_s(held)

    def heard(self, events: Sequence[JobEvent]) -> Sequence[BreakerKey]:
        """What became of jobs; returns the circuits whose releases are held back from now on, or for longer than before."""
        news = []
        for event in events:
            key = BreakerKey(event.job.job_type, event.job.tenant)
            held = self._held.get(key)
            if held is None:
                continue
            if event.state is JobState.SUCCEEDED:
                del self._held[key]
            elif event.state is JobState.PARKED and event.job.generation and held.is_out:
                held.is_out = False
                held.times = min(held.times + 1, MAX_DOUBLINGS)
                held.back_at = self._now()
                held.until = held.back_at + self._pause_s(held)
                news.append(key)
        return news

    def _pause_s(self, held: _Held) -> float:
        return grown(FIRST_S, LONGEST_S, held.times - 1) * self._spread()


def _epoch(breaker: Snapshot | None) -> int:
    return breaker.epoch if breaker is not None else 0

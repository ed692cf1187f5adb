"""Back-off for releases whose jobs are parked again at once.

The shared breaker may be CLOSED while a worker still parks jobs: it cannot reach Redis and uses its own breaker, or Redis rejects writes.
Released jobs would then be parked again at once, and released and parked forever. So the healer observes the outcomes: a released job
that is parked although its breaker was closed increases the delay until the next release for that breaker (1 s, doubled up to 60 s),
one job at a time; a success, or a change of the breaker, ends that.

Each control plane decides by the events it consumes. They share the events, so each sees the same problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from sickbay.concurrency.pauses import backoff_delay, jitter
from sickbay.domain.breaker import BreakerKey, BreakerRule, BreakerScope, Snapshot
from sickbay.domain.job import JobEvent, JobState

FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0
FORGOTTEN_S: Final = 2 * LONGEST_S
"""If no job was parked again for this long, the next releases are normal."""
RECENT_S: Final = 2.0
"""Where a breaker limits the rate and a job has succeeded within this time, those that are parked again came beside others with permits."""
MAX_REMEMBERED: Final = 1_000
"""Breakers whose last success is remembered, before those that are not recent are forgotten."""
MAX_DOUBLINGS: Final = 10


@dataclass(slots=True)
class _Held:
    """The releases of one breaker; times are seconds of a monotonic clock."""

    epoch: int
    recovers: bool = False
    """Whether the breaker limited the rate of jobs at the last release."""
    awaits_outcome: bool = True
    """Whether the outcome of a release is still unknown."""
    times: int = 0
    """How many releases in a row were parked again."""
    parked_at: float = 0.0
    until: float = 0.0


class ReleaseBackoff:
    """One per healer. Knows only breakers with recent releases."""

    def __init__(
        self, now: Callable[[], float] = monotonic, jitter: Callable[[], float] = jitter, scope: BreakerRule = BreakerScope.TYPE
    ) -> None:
        """`now` is a monotonic clock in seconds; `jitter` draws the factor of each delay; `scope` says whose breaker a job asks."""
        self._scope = scope
        self._now = now
        self._jitter = jitter
        self._held: dict[BreakerKey, _Held] = {}
        self._succeeded_at: dict[BreakerKey, float] = {}

    def observe_breaker(self, key: BreakerKey, breaker: Snapshot | None) -> None:
        """The current breaker, None if it is unknown; if it refuses jobs, or has changed, that explains parked ones, so start over."""
        held = self._held.get(key)
        if held is not None and ((breaker is not None and breaker.state.refuses) or held.epoch != _epoch(breaker)):
            del self._held[key]

    def wait_s(self, key: BreakerKey) -> float:
        """For how many seconds no job of this breaker may be released."""
        held = self._held.get(key)
        return max(0.0, held.until - self._now()) if held is not None else 0.0

    def is_held(self, key: BreakerKey) -> bool:
        """Whether its jobs were parked again recently, so that they are released one at a time."""
        held = self._held.get(key)
        if held is not None and held.times and self._now() - held.parked_at > FORGOTTEN_S + min(LONGEST_S, FIRST_S * 2.0**held.times):
            held.times = 0
        return held is not None and held.times > 0

    def held_back(self) -> frozenset[BreakerKey]:
        """All breakers whose releases are held back."""
        return frozenset(key for key in list(self._held) if self.is_held(key))

    def record_release(self, key: BreakerKey, breaker: Snapshot | None) -> None:
        """Jobs of this breaker were released."""
        held = self._held.setdefault(key, _Held(_epoch(breaker)))
        held.awaits_outcome, held.recovers = True, breaker is not None and breaker.recovering
        if held.times:
            held.until = self._now() + self._pause_s(held)

    def observe_events(self, events: Sequence[JobEvent]) -> Sequence[BreakerKey]:
        """Outcomes of jobs; returns the breakers whose releases are now held back, or for longer than before."""
        held_longer = []
        for event in events:
            key = self._scope.key_of(event.job.job_type, event.job.tenant)
            if event.state is JobState.SUCCEEDED:
                self._record_success(key)
                continue
            held = self._held.get(key)
            if held is None or (held.recovers and self._now() - self._succeeded_at.get(key, -RECENT_S) < RECENT_S):
                continue
            if event.state is JobState.PARKED and event.job.generation and held.awaits_outcome:
                held.awaits_outcome = False
                held.times = min(held.times + 1, MAX_DOUBLINGS)
                held.parked_at = self._now()
                held.until = held.parked_at + self._pause_s(held)
                held_longer.append(key)
        return held_longer

    def _record_success(self, key: BreakerKey) -> None:
        self._held.pop(key, None)
        now = self._now()
        if len(self._succeeded_at) >= MAX_REMEMBERED:
            self._succeeded_at = {one: at for one, at in self._succeeded_at.items() if now - at < RECENT_S}
        self._succeeded_at[key] = now

    def _pause_s(self, held: _Held) -> float:
        return backoff_delay(FIRST_S, LONGEST_S, held.times - 1) * self._jitter()


def _epoch(breaker: Snapshot | None) -> int:
    return breaker.epoch if breaker is not None else 0

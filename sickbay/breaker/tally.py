"""The runs of each breaker that this process has not reported yet, for breakers with the policy `rate`.

As long as no run is bad nobody needs to know of the good ones: they are counted here, and reported together with the next bad one. While
the breaker has bad runs in its window, the good ones are reported at most once a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sickbay.breaker.document import Document
from sickbay.breaker.window import BUCKETS, Bucket, Calls, has_bad, is_bad, merged, one
from sickbay.domain.breaker import BreakerConfig, BreakerKey, Permit
from sickbay.domain.outcome import Outcome, OutcomeKind

REPORT_MS: Final = 1_000
MAX_BREAKERS: Final = 1_000
"""Beyond it the one that was added first is forgotten: then its next bad run is reported alone."""


@dataclass(slots=True)
class _Runs:
    epoch: int
    calls: Calls = ()
    reported_at: int = field(default=0)


class Tally:
    """One per process."""

    def __init__(self, report_ms: int = REPORT_MS) -> None:
        """`report_ms` is how long good runs may wait here while the breaker has bad ones."""
        self._report_ms = report_ms
        self._runs: dict[BreakerKey, _Runs] = {}

    def record(self, doc: Document, permit: Permit, outcome: Outcome, took_ms: int, *, config: BreakerConfig, now: int) -> Calls | None:
        """The earlier runs to report with this one; None if this one need not be reported, because it is kept here or says nothing.

        `doc` is the breaker as this process knows it.
        """
        if is_bad(outcome, took_ms, config):
            return self.take(permit, now)
        if outcome.kind is OutcomeKind.CANCELLED or permit.epoch != doc.epoch or not doc.admits_all:
            return None
        # A failure that is not bad is reported in any case: the store counts all failures.
        if has_bad(doc.calls) and (outcome.kind is OutcomeKind.DATA or self._is_due(permit, now)):
            return self.take(permit, now)
        self.add(permit, config, now)
        return None

    def add(self, permit: Permit, config: BreakerConfig, now: int) -> None:
        """Count a good run that is not reported now."""
        runs = self._of(permit)
        if runs is None:
            return
        last = runs.calls[-1] if runs.calls else None
        if last is not None and 0 <= now - last.start < config.window_ms // BUCKETS:
            runs.calls = (*runs.calls[:-1], Bucket(last.start, last.good + 1, last.bad))
        else:
            runs.calls = merged((*runs.calls, one(now, bad=False)), config, now)

    def take(self, permit: Permit, now: int) -> Calls:
        """The runs to report with the one of this permit: those of the same epoch. They are no longer kept here."""
        runs = self._of(permit)
        if runs is None:
            return ()
        taken, runs.calls, runs.reported_at = runs.calls, (), now
        return taken

    def put_back(self, permit: Permit, calls: Calls, config: BreakerConfig, now: int) -> None:
        """Keep them again: they could not be reported."""
        runs = self._of(permit)
        if runs is not None:
            runs.calls = merged((*calls, *runs.calls), config, now)

    def _is_due(self, permit: Permit, now: int) -> bool:
        runs = self._runs.get(permit.key)
        return runs is None or not 0 <= now - runs.reported_at < self._report_ms

    def _of(self, permit: Permit) -> _Runs | None:
        """Those of the permit's epoch; None if a later one has begun: the run says nothing any more."""
        runs = self._runs.get(permit.key)
        if runs is None and len(self._runs) >= MAX_BREAKERS:
            del self._runs[next(iter(self._runs))]
        if runs is None or runs.epoch < permit.epoch:
            runs = self._runs[permit.key] = _Runs(permit.epoch)
        return runs if runs.epoch == permit.epoch else None

"""Shows the documents of breakers to who only looks (`BreakerView`): as they are now, without changing or storing anything."""

from __future__ import annotations

from collections.abc import Callable

from sickbay.breaker import machine as breaker
from sickbay.breaker.machine import Document
from sickbay.domain.breaker import BreakerKey, BreakerState, ConfigOf, Snapshot
from sickbay.ports import Clock


class DocumentView:
    """The `BreakerView` port over a function that finds documents in memory."""

    def __init__(
        self,
        find: Callable[[BreakerKey], Document | None],
        config: ConfigOf,
        now: Clock,
        *,
        is_outdated: Callable[[], bool] = lambda: False,
    ) -> None:
        """`now` is the clock of the documents. `is_outdated`: whether the store behind them does not answer at present."""
        self._find = find
        self._config = config
        self._now = now
        self._is_outdated = is_outdated

    def get(self, key: BreakerKey) -> Snapshot | None:
        """See `BreakerView.get`."""
        doc, outdated, now = self._find(key), self._is_outdated(), self._now()
        if doc is None:
            return None if outdated else Snapshot(key, BreakerState.CLOSED, 0, 0, 0, now=now)
        return self._snapshot(doc, now, degraded=outdated)

    def unless_closed(self, key: BreakerKey) -> Snapshot | None:
        """See `BreakerView.unless_closed`."""
        doc = self._find(key)
        if doc is None or doc.state is BreakerState.CLOSED:
            return None
        return self._snapshot(doc, self._now(), degraded=self._is_outdated())

    def _snapshot(self, doc: Document, now: int, *, degraded: bool) -> Snapshot:
        config, now = self._config(doc.key), max(now, doc.updated_at)
        # While the store does not answer nobody applies what is due by time alone: the last state is what workers act on.
        return breaker.snapshot(doc if degraded else breaker.catch_up(doc, config, now), config, now, degraded=degraded)

"""Keeps the snapshots of breakers at rest: lists of thousands are asked for again and again, and hardly any of them has changed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from sickbay.breaker import machine
from sickbay.breaker.document import Document
from sickbay.domain.breaker import BreakerConfig, BreakerKey, Snapshot

MIN_KEPT: Final = 1_000
"""So many are kept before it is asked which of them still exist."""


class _Shown(NamedTuple):
    doc: Document
    config: BreakerConfig
    until: int
    snapshot: Snapshot


class ShownBreakers:
    """The same Snapshot object for as long as it is true, but for its `now`, which is that of an earlier look.

    Only CLOSED breakers with failures in a row that time alone does not change: no times are computed from those.
    """

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._shown: dict[BreakerKey, _Shown] = {}
        self._prune_above = MIN_KEPT

    def get(self, doc: Document, config: BreakerConfig, now: int, total_failures: int) -> Snapshot | None:
        """The kept snapshot; None if there is none, or it may be outdated."""
        shown = self._shown.get(doc.key)
        if shown is None or shown.doc is not doc or shown.config is not config or not doc.updated_at <= now <= shown.until:
            return None
        return shown.snapshot if shown.snapshot.total_failures == total_failures else None

    def make(self, doc: Document, config: BreakerConfig, now: int, total_failures: int) -> Snapshot:
        """A new snapshot of a document that is up to date, which is kept if it can be."""
        snapshot = machine.snapshot(doc, config, now, total_failures=total_failures)
        if doc.is_at_rest and doc.run:
            until = min(failed.at for failed in doc.run) + config.failure_window_ms
            self._shown[doc.key] = _Shown(doc, config, until, snapshot)
        return snapshot

    def prune(self, known: Callable[[], Collection[BreakerKey]]) -> None:
        """Forget those that are not known any more, whenever the number of kept ones has doubled."""
        if len(self._shown) > self._prune_above:
            keys = known()
            self._shown = {key: shown for key, shown in self._shown.items() if key in keys}
            self._prune_above = max(MIN_KEPT, 2 * len(self._shown))

"""Keeps the snapshots of breakers at rest: lists of thousands are asked for again and again, and hardly any of them has changed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import fields
from operator import attrgetter
from typing import Final, NamedTuple

from sickbay.breaker import machine
from sickbay.breaker.document import Document
from sickbay.breaker.probes import next_probe_at
from sickbay.domain.breaker import BreakerConfig, BreakerKey, BreakerState, Snapshot

MIN_KEPT: Final = 1_000
"""So many are kept before it is asked which of them still exist."""
_ALL_BUT_NOW: Final = attrgetter(*(field.name for field in fields(Snapshot) if field.name != "now"))
"""The fields of a snapshot in order, without the last."""


class _Shown(NamedTuple):
    doc: Document
    config: BreakerConfig
    since: int
    until: int
    snapshot: Snapshot


def _span(doc: Document, config: BreakerConfig, now: int) -> tuple[int, int] | None:
    """The first and the last time at which its snapshot of `now` is true; None if it is not kept."""
    if doc.is_at_rest and doc.run:
        return doc.updated_at, min(failed.at for failed in doc.run) + config.failure_window_ms
    if doc.state is not BreakerState.OPEN or doc.probe_token or doc.stable_at or doc.run or doc.calls or doc.ramp or doc.superseded:
        return None
    probe_at = next_probe_at(doc)
    return (doc.updated_at, probe_at - 1) if now < probe_at else (max(doc.updated_at, probe_at), sys.maxsize)


class ShownBreakers:
    """The same snapshot for as long as it is true, if time alone does not change the breaker.

    That of a CLOSED breaker with failures in a row is the same object, and its `now` that of an earlier look: no times are computed from
    those. That of an OPEN one is a copy with the present `now`.
    """

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._shown: dict[BreakerKey, _Shown] = {}
        self._prune_above = MIN_KEPT

    def get(self, doc: Document, config: BreakerConfig, now: int, total_failures: int) -> Snapshot | None:
        """The kept snapshot; None if there is none, or it may be outdated."""
        shown = self._shown.get(doc.key)
        if shown is None or shown.doc is not doc or shown.config is not config or not shown.since <= now <= shown.until:
            return None
        snapshot = shown.snapshot
        if snapshot.total_failures != total_failures:
            return None
        return snapshot if snapshot.state is BreakerState.CLOSED else Snapshot(*(*_ALL_BUT_NOW(snapshot), now))

    def make(self, doc: Document, config: BreakerConfig, now: int, total_failures: int) -> Snapshot:
        """A new snapshot of a document that is up to date, which is kept if it can be."""
        snapshot = machine.snapshot(doc, config, now, total_failures=total_failures)
        if (span := _span(doc, config, now)) is not None:
            self._shown[doc.key] = _Shown(doc, config, *span, snapshot)
        return snapshot

    def prune(self, known: Callable[[], Collection[BreakerKey]]) -> None:
        """Forget those that are not known any more, whenever the number of kept ones has doubled."""
        if len(self._shown) > self._prune_above:
            keys = known()
            self._shown = {key: shown for key, shown in self._shown.items() if key in keys}
            self._prune_above = max(MIN_KEPT, 2 * len(self._shown))

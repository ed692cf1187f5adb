"""Bounds the entries of refused calls, so that a flood cannot fill the ledger: the first of a source are entries, others are counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sickbay.domain.audit import AuditEntry
from sickbay.server.peers import peer_of

BURST: Final = 20
PER_S: Final = 0.1
"""Entries of one source: at once, and per second in the long run."""
TOTAL_BURST: Final = 200
TOTAL_PER_S: Final = 2.0
"""The same for all sources."""
MAX_SOURCES: Final = 1_000
"""Sources that are told apart; when there are more, the one that has been quiet longest is forgotten."""


@dataclass(slots=True)
class _Bucket:
    """A rate at which nothing waits: what exceeds it is turned away."""

    burst: float
    per_s: float
    filled_at: float
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.burst

    def take(self, now: float) -> bool:
        self.left = min(self.burst, self.left + (now - self.filled_at) * self.per_s)
        self.filled_at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class _Source:
    bucket: _Bucket
    last: AuditEntry | None = None
    """The last call without an entry of its own."""
    suppressed: int = 0


class RefusalLimit:
    """Which refused calls get an entry."""

    def __init__(self, now: float) -> None:
        """Everything is allowed at first; `now` is in seconds of a monotonic clock."""
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._all = _Bucket(TOTAL_BURST, TOTAL_PER_S, now)
        self._rest: _Source = _Source(_Bucket(0, 0, 0))

    def admits(self, entry: AuditEntry, now: float) -> bool:
        """Whether this refused call gets an entry. Otherwise it is counted for `summaries`."""
        name = peer_of(entry.source)
        source = self._sources.pop(name, None) or _Source(_Bucket(BURST, PER_S, now))
        self._sources[name] = source
        if len(self._sources) > MAX_SOURCES:
            _, quiet = self._sources.popitem(last=False)
            self._rest.suppressed += quiet.suppressed
            self._rest.last = quiet.last or self._rest.last
        if source.bucket.take(now) and self._all.take(now):
            return True
        source.last, source.suppressed = entry, source.suppressed + 1
        return False

    def summaries(self) -> Sequence[AuditEntry]:
        """One entry for each source with calls that got none since the last time: the last of them, with their count.

        At most as many as TOTAL_BURST; those of more sources are in one, which names no source.
        """
        found = [source for source in self._sources.values() if source.suppressed]
        for source in found[TOTAL_BURST:]:
            self._rest.suppressed += source.suppressed
            self._rest.last = source.last
            source.suppressed = 0
        told = [_summary(source, source.last.source) for source in found[:TOTAL_BURST] if source.last is not None]
        if self._rest.suppressed and self._rest.last is not None:
            told.append(_summary(self._rest, ""))
        return told


def _summary(source: _Source, name: str) -> AuditEntry:
    count, source.suppressed = source.suppressed, 0
    last = source.last
    assert last is not None  # noqa: S101 - its callers have looked
    message = f"{count:,} more refused calls; the last one: {last.message}"
    return replace(last, source=name, message=message, count=count)

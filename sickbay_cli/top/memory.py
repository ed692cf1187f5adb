"""What `sickbay top` remembers: the readings of the last seconds, and the last changes of breakers. Pure, not thread-safe."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay_cli.format import ms
from sickbay_cli.top.frame import BreakerName, Change, PlaneReading, key_of

WINDOW_MS: Final = 5_000
"""Rates are means over the readings of this time, because single readings jump: the ledger is written in batches."""
MAX_CHANGES: Final = 100


class History:
    """The readings of the last seconds, of which the first and the last are compared."""

    def __init__(self) -> None:
        self._readings: deque[PlaneReading] = deque()

    def add(self, reading: PlaneReading) -> None:
        """The newest one; those older than the window are forgotten, except the one before it."""
        self._readings.append(reading)
        while len(self._readings) > 2 and reading.time - self._readings[0].time > WINDOW_MS:  # noqa: PLR2004 - two are compared
            self._readings.popleft()

    @property
    def before(self) -> PlaneReading | None:
        """The first one in the window, if there are two."""
        return self._readings[0] if len(self._readings) > 1 else None

    @property
    def last(self) -> PlaneReading | None:
        """The newest one."""
        return self._readings[-1] if self._readings else None


class ChangeLog:
    """The last changes of breakers' states, from whatever tells breakers: each may come more than once."""

    def __init__(self) -> None:
        self._known: dict[BreakerName, Breaker] = {}
        self._missing: set[BreakerName] = set()
        self._changes: deque[Change] = deque(maxlen=MAX_CHANGES)

    def add(self, breaker: Breaker) -> None:
        """A breaker as it is now. One that is met for the first time has changed only if it is not CLOSED."""
        before = self._known.get(key_of(breaker))
        if before is not None and breaker.rev <= before.rev:
            return
        self._known[key_of(breaker)] = breaker
        if (before.state if before else Breaker.STATE_CLOSED) != breaker.state:
            self._changes.appendleft(Change(_changed_at(breaker, is_new=before is None), breaker))

    def retain(self, breakers: Iterable[Breaker]) -> None:
        """Forget the breakers that two lists in a row lack; one list may be older than what a watch told."""
        missing = self._known.keys() - set(map(key_of, breakers))
        for name in missing & self._missing:
            del self._known[name]
        self._missing = missing

    @property
    def latest(self) -> Sequence[Change]:
        """Newest first."""
        return sorted(self._changes, key=lambda change: -change.time)


def _changed_at(breaker: Breaker, *, is_new: bool) -> int:
    opened = ms(breaker, "open_time") if is_new else 0
    return opened or ms(breaker, "update_time")

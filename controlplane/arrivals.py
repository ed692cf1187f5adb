"""How many jobs come to a breaker that refuses them, from how the number of its parked jobs grows.

The dependency has served as many before the outage, so the breaker begins to recover near that rate and not from nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sickbay.domain.breaker import BreakerKey

MARK_MS: Final = 5_000
"""The growth is measured over the last five to ten seconds, or since the first look if that is later."""
LEAST_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Growth:
    before: tuple[int, int]
    mark: tuple[int, int]
    rate: int = 0


class Arrivals:
    """One per healer."""

    def __init__(self) -> None:
        self._growth: dict[BreakerKey, _Growth] = {}

    def observe(self, key: BreakerKey, parked: int, now: int) -> None:
        """So many jobs of a breaker that refuses are parked at `now`, ms."""
        look = (now, parked)
        known = self._growth.get(key)
        if known is None or now < known.mark[0]:
            self._growth[key] = _Growth(look, look)
            return
        began, number = known.before
        rate = max(0, parked - number) * 1_000_000 // (now - began) if now - began >= LEAST_MS else known.rate
        moves = now - known.mark[0] >= MARK_MS
        self._growth[key] = _Growth(known.mark if moves else known.before, look if moves else known.mark, rate)

    def rate(self, key: BreakerKey) -> int:
        """Thousandths of a job per second; 0 if it is not known."""
        known = self._growth.get(key)
        return known.rate if known is not None else 0

    def retain(self, breakers: Collection[BreakerKey]) -> None:
        """Forget the others."""
        self._growth = {key: growth for key, growth in self._growth.items() if key in breakers}

"""Token buckets in memory, for one process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from sickbay.domain.rate_limit import Claim, Grant, Level, full_in_us, take

MAX_BUCKETS: Final = 100_000
"""More than there are names at a time: `MAX_JOB_TYPES` and `MAX_TENANTS` bound those."""
FORGOTTEN_AT_ONCE: Final = 4


class EmbeddedRateLimiter:
    """Implements `RateLimiter`; a restart begins with full buckets."""

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` is a clock in microseconds that never goes back."""
        self._now = now
        self._levels: OrderedDict[str, tuple[Level, int]] = OrderedDict()
        """Each with the time at which it is full, least recently used first."""

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._levels)

    async def take(self, claims: Sequence[Claim]) -> Sequence[Grant]:
        """Take what is granted of each claim; see the port."""
        now = self._now()
        buckets = {bucket.name: bucket for claim in claims for bucket in claim.buckets}
        kept = {name: self._levels[name][0] for name in buckets if name in self._levels}
        levels, grants = take(kept, claims, now)
        for name, level in levels.items():
            self._levels[name] = (level, now + full_in_us(level, buckets[name].rate.frequency))
            self._levels.move_to_end(name)
        self._forget(now)
        return grants

    def _forget(self, now: int) -> None:
        """Full buckets, a few at each call, and the least recently used ones beyond the bound."""
        for _ in range(FORGOTTEN_AT_ONCE):
            if not self._levels or next(iter(self._levels.values()))[1] > now:
                break
            self._levels.popitem(last=False)
        while len(self._levels) > MAX_BUCKETS:
            self._levels.popitem(last=False)

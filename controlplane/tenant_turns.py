"""Shares the releases of one breaker among the tenants whose jobs it parked, so that none waits behind the backlog of another.

Each release takes jobs of a few tenants, the next ones in the order of their names; within a tenant the oldest jobs come first. Without
tenants this is simply the oldest first. Job types that share the breaker of their dependency take turns likewise, each with its tenants.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sickbay.domain.breaker import BreakerKey

MAX_TENANTS: Final = 25
"""Tenants of one release: each is a statement to the ledger."""


class TenantTurns:
    """One per healer. Remembers which tenant came last, of breakers that have parked jobs."""

    def __init__(self) -> None:
        self._last: dict[BreakerKey, BreakerKey] = {}

    def retain(self, breakers: Collection[BreakerKey]) -> None:
        """Forget the others."""
        self._last = {key: last for key, last in self._last.items() if key in breakers}

    def share(self, breaker: BreakerKey, parked: Mapping[BreakerKey, int], limit: int) -> Sequence[tuple[BreakerKey, int]]:
        """Whose jobs to release, and how many of each: at most `limit` in all, in equal shares as far as there are so many."""
        order = sorted(parked)
        last = self._last.get(breaker)
        begin = next((place for place, owner in enumerate(order) if last is not None and owner > last), 0)
        turn = (order[begin:] + order[:begin])[: max(0, min(limit, MAX_TENANTS))]
        if turn:
            self._last[breaker] = turn[-1]
        shares = []
        for served, owner in enumerate(sorted(turn, key=lambda one: parked[one])):
            share = min(parked[owner], limit // (len(turn) - served))
            limit -= share
            shares.append((owner, share))
        return shares

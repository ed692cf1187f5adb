"""Leases parked jobs for their release: the oldest of each tenant, whose turn it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from controlplane.tenant_turns import TenantTurns
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import Unavailable
from sickbay.domain.queries import ReleaseLease
from sickbay.ports import QuarantineStore


class Leaser:
    """One for each loop that releases."""

    def __init__(self, quarantine: QuarantineStore) -> None:
        """Lease from this store."""
        self._quarantine = quarantine
        self._turns = TenantTurns()

    def retain(self, keys: Collection[BreakerKey]) -> None:
        """Forget whose turn it is of all others."""
        self._turns.retain(keys)

    async def lease(
        self, key: BreakerKey, parked: Mapping[BreakerKey, int], limit: int, unhandled: Collection[BreakerKey] = ()
    ) -> Sequence[ReleaseLease]:
        """Lease at most `limit` of these types and tenants, in the turns of `key`.

        Of those in `unhandled` jobs that were quarantined as UNKNOWN_TYPE come back, too.
        """
        leases: list[ReleaseLease] = []
        try:
            for owner, share in self._turns.share(key, parked, limit):
                found = list(await self._quarantine.lease_parked(owner, share))
                if len(found) < share and owner in unhandled:
                    found += await self._quarantine.lease_unhandled(owner, share - len(found))
                leases += found
        except Unavailable:
            if not leases:
                raise  # else publish those: the next check meets the same trouble
        return leases

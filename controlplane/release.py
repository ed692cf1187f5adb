"""Brings jobs back from quarantine: claim in the ledger, publish, confirm, finalise. A crash between two steps loses nothing.

The claim is a lease: if we die before `released`, another control plane publishes the same generation again, marked
`maybe_duplicate`, and the workers' fence drops the second copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sickbay.domain.job import JobRecord
from sickbay.domain.queries import ReleaseLease
from sickbay.messages.codec import job_message
from sickbay.ports import TO_MAIN, Broker, QuarantineStore


class Releases(Protocol):
    """What those who bring jobs back need of a releaser."""

    async def release(self, claims: Sequence[ReleaseLease]) -> Sequence[JobRecord]:
        """Publish claimed jobs and tell the ledger; Unavailable leaves the claims to their lease."""


class Releaser:
    """The one way out of quarantine, for the healer and for people alike."""

    def __init__(self, broker: Broker, wards: QuarantineStore) -> None:
        """Publish through `broker` what `wards` gave."""
        self._broker = broker
        self._wards = wards

    async def release(self, claims: Sequence[ReleaseLease]) -> Sequence[JobRecord]:
        """Publish claimed jobs and tell the ledger; Unavailable leaves the claims to their lease."""
        await self._broker.publish([job_message(TO_MAIN, claim.job) for claim in claims])
        return await self._wards.released(claims)

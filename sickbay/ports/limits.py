"""The ports of limits at the door of the Job API: rates of submissions, and how many jobs wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sickbay.domain.rate_limit import Claim, Grant


class RateLimiter(Protocol):
    """Token buckets that all processes with the same store share."""

    async def take(self, claims: Sequence[Claim]) -> Sequence[Grant]:
        """Take what is granted of each claim, in order, in one round trip; a claim has at least one bucket, and wants at least one.

        Never more than rate x time + burst of any bucket, whoever asks. Unavailable if the store is: it may have been taken.
        """


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many jobs of each tenant wait by the ledger, and the time of submission of the newest job in it (ms; 0 without jobs)."""

    by_tenant: Mapping[str, int]
    newest: int


class WaitingCounts(Protocol):
    """The ledger as used by limits on waiting jobs."""

    async def count(self) -> Waiting:
        """Count the jobs that are QUEUED, RETRYING or PARKED; Unavailable if the ledger is."""

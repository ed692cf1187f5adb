"""Two more ports of the ledger, with the rules of the package: `Lost` finds lost jobs, `Holds` keeps runs from beginning meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sickbay.domain.job import JobRecord
from sickbay.domain.queries import HoldAnswer, LostCandidate, LostQuery, OldestJob, Page, ReleaseLease


class Lost(Protocol):
    """Finds jobs that may be in no queue any more: unfinished ones without an event for a long time."""

    async def oldest(self) -> Sequence[OldestJob]:
        """Of the unfinished jobs, by state and type, the time of the oldest last event."""

    async def find_lost(self, query: LostQuery, limit: int, cursor: str) -> Page[LostCandidate]:
        """The job with the oldest last event first."""

    async def lease_lost(self, records: Sequence[JobRecord], actor: str) -> Sequence[ReleaseLease]:
        """Lease those that are unchanged since they were read and have a payload; `QuarantineStore.mark_released` ends the lease.

        From now on no run of their old generation begins, so a copy that turns up after all is dropped.
        """

    async def discard_lost(self, records: Sequence[JobRecord], actor: str, message: str) -> Sequence[JobRecord]:
        """Discard those that are unchanged since they were read and have no payload, with code LOST and the message in their history."""


class Hold(Protocol):
    """Jobs whose runs are kept from beginning."""

    async def ask(self, workers: int) -> HoldAnswer:
        """Hold the jobs everywhere for about 10 s more, and return which runs have begun.

        Returns when `workers` consumers of jobs have answered, or after 2 s: if fewer have, a run may still begin elsewhere.
        Unavailable if the workers cannot be asked.
        """


class Holds(Protocol):
    """Keeps runs from beginning while a decision about their jobs is made. The only way to stop a start, which costs no I/O."""

    def hold(self, job_ids: Sequence[str]) -> AbstractAsyncContextManager[Hold]:
        """Nothing is held before the first `ask`; leaving the context ends the hold."""

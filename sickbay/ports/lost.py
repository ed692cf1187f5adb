"""Two more ports of the ledger, with the laws of the package: what finds lost jobs, and what keeps runs from beginning meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sickbay.domain.job import JobRecord
from sickbay.domain.queries import Heard, LostQuery, Oldest, Page, ReleaseLease, Unheard


class Lost(Protocol):
    """The ledger as those see it who look for jobs that no queue holds: unfinished ones of which nothing was heard for long."""

    async def oldest(self) -> Sequence[Oldest]:
        """Since when nothing was heard of unfinished jobs, by state and type: of each the longest time."""

    async def unheard(self, query: LostQuery, limit: int, cursor: str) -> Page[Unheard]:
        """Longest unheard of first."""

    async def claim_unheard(self, records: Sequence[JobRecord], actor: str) -> Sequence[ReleaseLease]:
        """Take those under a lease that are as they were read and have a payload; `QuarantineStore.released` is the end of it.

        From now on no run of the generation they leave begins, so a copy that turns up after all is dropped.
        """

    async def discard_unheard(self, records: Sequence[JobRecord], actor: str, message: str) -> Sequence[JobRecord]:
        """Close those that are as they were read and have no payload: DISCARDED, with code LOST and the message in their history."""


class Hold(Protocol):
    """Jobs whose runs do not begin for the moment."""

    async def ask(self, workers: int) -> Heard:
        """Hold the jobs everywhere for some 10 s more, and hear what has begun.

        Returns when `workers` consumers of jobs have answered, or after 2 s: if fewer have, somebody may still begin a run.
        Unavailable if nobody can be asked.
        """


class Holds(Protocol):
    """Keeps runs from beginning while something about their jobs is being decided. The one way to stop a start, which costs no I/O."""

    def hold(self, job_ids: Sequence[str]) -> AbstractAsyncContextManager[Hold]:
        """Nothing is held before the first `ask`; leaving the context lets go."""

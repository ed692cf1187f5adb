"""The port of jobs that are to run later, with the rules of the package: the ledger alone holds them until they are due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sickbay.domain.access import Tenants
from sickbay.domain.job import JobRecord
from sickbay.domain.queries import Page, QuarantinedJob, ReleaseLease, ScheduledJobEdit, ScheduledJobQuery


class ScheduledJobs(Protocol):
    """SCHEDULED jobs. What is due is decided by one clock: the database's, or this machine's where only one process has the ledger."""

    async def next_ms(self) -> int | None:
        """In how many ms the next job is due, 0 or less if one is due now; None if no job is SCHEDULED. One look into an index."""

    async def lease_due(self, limit: int) -> Sequence[ReleaseLease]:
        """Lease jobs that are due, the longest due first; nobody else gets them until the lease expires.

        `QuarantineStore.mark_released` ends the lease. Those whose lease has expired are due again: they may have been published.
        """

    async def lease_scheduled(self, job_id: str, etag: str, actor: str, tenants: Tenants = None) -> ReleaseLease:
        """Lease one job to run it now. NotFound if it is not SCHEDULED, also if it is of none of these tenants.

        Aborted(ETAG_MISMATCH); FailedPrecondition if it is being sent to the workers already.
        """

    async def edit_scheduled(self, job_id: str, edit: ScheduledJobEdit, etag: str, actor: str, tenants: Tenants = None) -> JobRecord:
        """Change a job; one that is to run at once is due now. A former payload is kept as a revision. The errors of `lease_scheduled`."""

    async def cancel_scheduled(self, job_id: str, etag: str, actor: str, tenants: Tenants = None) -> JobRecord:
        """Cancel a job. The errors of `lease_scheduled`; cancelling one that was cancelled before it was due returns it."""

    async def list_scheduled(self, query: ScheduledJobQuery, limit: int, cursor: str) -> Page[JobRecord]:
        """Those that are due first first, without payloads; InvalidArgument(INVALID_PAGE_TOKEN) if the cursor is not from this list."""

    async def get_scheduled(self, job_id: str) -> QuarantinedJob | None:
        """A job with its payload, revisions and history; None if it is not SCHEDULED."""

    async def overdue(self) -> tuple[int, int]:
        """How many jobs are SCHEDULED, and for how many ms the one that is due for longest has been due: 0 if none is."""

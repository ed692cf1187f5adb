"""Remembers recently accepted jobs, so that a client that reads its job at once does not get NOT_FOUND.

The ledger has a job some 50 ms after its acceptance, later when it lags.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sickbay.domain.job import JobRecord

SIZE: Final = 10_000


class RecentJobs:
    """The latest accepted jobs of this process, without their payloads; the oldest are evicted."""

    def __init__(self, size: int = SIZE) -> None:
        """Remember `size` jobs."""
        self._size = size
        self._records: OrderedDict[str, JobRecord] = OrderedDict()

    def add(self, record: JobRecord) -> None:
        """Remember a job."""
        self._records[record.job.job_id] = record
        if len(self._records) > self._size:
            self._records.popitem(last=False)

    def get(self, job_id: str) -> JobRecord | None:
        """The job as it was accepted, None if it is unknown or was evicted."""
        return self._records.get(job_id)

"""Counts waiting jobs in the ledger, for limits on them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, select

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.schema import jobs
from sickbay.concurrency.tasks import detached
from sickbay.domain.job import JobState
from sickbay.ports.limits import Waiting

WAITING: Final = (JobState.QUEUED, JobState.RETRYING, JobState.PARKED)
_BY_TENANT: Final = (
    select(jobs.c.tenant, func.count().label("size")).where(jobs.c.state.in_([state.value for state in WAITING])).group_by(jobs.c.tenant)
)
_NEWEST: Final = select(func.max(jobs.c.submitted_at))


class SqlWaitingCounts:
    """Implements `WaitingCounts`."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self.detached = store.detached

    @detached
    async def count(self) -> Waiting:
        """Count the waiting jobs of each tenant. The newest is read first: what comes between is counted twice, rather than missed."""
        async with self._store.read() as connection:
            newest = (await connection.execute(_NEWEST)).scalar_one()
            rows = (await connection.execute(_BY_TENANT)).all()
        return Waiting({row.tenant: row.size for row in rows}, newest or 0)

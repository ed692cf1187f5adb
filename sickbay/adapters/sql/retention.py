"""Deletes jobs and incidents past their retention, in small transactions so that the write lock is never held for long."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, ColumnElement, Table, and_, delete, literal, or_, select

from sickbay.adapters.sql.chunks import MAX_VALUES
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.schema import (
    idempotency_keys,
    incident_notices,
    incidents,
    job_changes,
    job_duplicates,
    job_progress,
    job_results,
    job_revisions,
    jobs,
    suspects,
)
from sickbay.domain.job import JobState

DAY_MS: Final = 86_400_000
RETENTION_MS: Final = {JobState.SUCCEEDED: DAY_MS, JobState.CANCELLED: 30 * DAY_MS, JobState.DISCARDED: 30 * DAY_MS}
"""How long a job is kept after it ended. Set-aside jobs have no retention: they stay until a person or a release takes them.

The copy of a cancelled or discarded job may still be in a queue, and must be recognised when it is consumed: hence the 30 days."""
KEY_RETENTION_MS: Final = DAY_MS
INCIDENT_RETENTION_MS: Final = 30 * DAY_MS
"""How long an incident is kept after it was closed."""
NOTICE_RETENTION_MS: Final = 2 * DAY_MS
"""How long a notice is kept that no control plane sends any more, because the webhook was removed."""

_COMPANIONS: Final = (job_changes, job_revisions, job_duplicates, job_results, job_progress, suspects)


async def prune(store: Database, at: int) -> int:
    """Delete what is past its retention at `at` (ms), or now if the store has a clock of its own; return the number of jobs."""
    now = store.time if store.own_time else literal(at, BigInteger)
    forgotten = 0
    while True:
        gone = await store.detached.run(_prune_jobs(store, now))
        forgotten += gone
        if gone < MAX_VALUES:
            break
    await store.detached.run(_prune_rows(store, idempotency_keys, idempotency_keys.c.submitted_at <= now - KEY_RETENTION_MS))
    closed = and_(incidents.c.closed_at <= now - INCIDENT_RETENTION_MS, incidents.c.unfinished == 0)
    await store.detached.run(_prune_rows(store, incidents, closed))
    await store.detached.run(_prune_rows(store, incident_notices, incident_notices.c.created_at <= now - NOTICE_RETENTION_MS))
    # Rows of copies whose job is not known (any more): its event came too late, or never. A control plane of before
    # leaves results and progress.
    for table in (job_duplicates, job_results, job_progress, suspects):
        unknown = table.c.job_id.not_in(select(jobs.c.job_id))
        await store.detached.run(_prune_rows(store, table, and_(table.c.at <= now - DAY_MS, unknown)))
    return forgotten


async def _prune_jobs(store: Database, now: ColumnElement[int]) -> int:
    past = or_(*(and_(jobs.c.state == state.value, jobs.c.updated_at <= now - kept) for state, kept in RETENTION_MS.items()))
    wanted = select(jobs.c.job_id).where(past).limit(MAX_VALUES).with_for_update(skip_locked=True)
    async with store.write(grows=False) as connection:
        ids = list((await connection.execute(wanted)).scalars())
        if ids:
            for table in (*_COMPANIONS, jobs):
                await connection.execute(delete(table).where(table.c.job_id.in_(ids)))
    return len(ids)


async def _prune_rows(store: Database, table: Table, past: ColumnElement[bool]) -> None:
    async with store.write(grows=False) as connection:
        await connection.execute(delete(table).where(past))

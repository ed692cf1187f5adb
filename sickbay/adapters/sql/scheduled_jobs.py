"""Jobs that are to run later: what is due, leased; and their changes by people.

A lease is that of `quarantine_store.py`: durable before the job is published as the next generation, ended by `mark_released`, or taken
over once it has expired. Which jobs are due is asked of an index of SCHEDULED jobs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Text, and_, func, insert, literal_column, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.change_feed import ChangeFeed
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.of_tenants import first_jobs
from sickbay.adapters.sql.paging import cursor as cursor_of
from sickbay.adapters.sql.paging import parse_cursor
from sickbay.adapters.sql.quarantine_queries import with_edits
from sickbay.adapters.sql.quarantine_store import LEASE_MS, NO_LONGER_ASIDE, is_of, lease_of
from sickbay.adapters.sql.reader import ONE
from sickbay.adapters.sql.rows import LISTED, AnyRow, change_values, record_of
from sickbay.adapters.sql.schema import job_changes, job_revisions, jobs
from sickbay.adapters.sql.starts import Starts
from sickbay.concurrency.tasks import detached
from sickbay.domain.access import Tenants
from sickbay.domain.errors import Aborted, FailedPrecondition, NotFound
from sickbay.domain.job import JobEvent, JobRecord, JobState, StateChange
from sickbay.domain.queries import Page, QuarantinedJob, ReleaseLease, ScheduledJobEdit, ScheduledJobQuery
from sickbay.ports import Clock

_c: Final = jobs.c
SCHEDULED: Final = _c.state.op("||")(literal_column("''", Text)) == literal_column(f"'{JobState.SCHEDULED.value}'", Text)
"""As in the partial index, so that it is used, and no other one of states."""
_WAITING: Final = (SCHEDULED, _c.lease_until.is_(None))


class SqlScheduledJobs:
    """Implements `ScheduledJobs`."""

    def __init__(self, store: Database, feed: ChangeFeed, starts: Starts, clock: Clock) -> None:
        self._store = store
        self.detached = store.detached
        self._feed = feed
        self._starts = starts
        self._clock = clock
        self._add_changes = store.bulk(store.insert(job_changes).on_conflict_do_nothing(), job_changes.c.keys())
        # Not `min(run_at)`, which would pass over all that are leased; the first of the index is the next one.
        free = or_(_c.lease_until.is_(None), _c.lease_until <= store.time)
        self._next = select(_c.run_at - store.wall_time).where(SCHEDULED, free).order_by(_c.run_at, _c.job_id).limit(1)

    @detached
    async def next_ms(self) -> int | None:
        """In how many ms the next job is due, 0 or less if one is due now; None if no job is SCHEDULED."""
        async with self._store.read() as connection:
            found = (await connection.execute(self._next)).scalar_one_or_none()
        return None if found is None else int(found)

    @detached
    async def lease_due(self, limit: int) -> Sequence[ReleaseLease]:
        """Lease jobs that are due, the longest due first; nobody else gets them until the lease expires."""
        is_due = _c.run_at <= self._store.wall_time
        async with self._store.write(grows=False) as connection:
            again = await self._lease(connection, and_(SCHEDULED, is_due, _c.lease_until <= self._store.time), limit)
            new = await self._lease(connection, and_(*_WAITING, is_due), limit - len(again)) if len(again) < limit else ()
        return [*(lease_of(row, maybe_duplicate=True) for row in again), *map(lease_of, new)]

    async def _lease(self, connection: AsyncConnection, which: ColumnElement[bool], limit: int) -> Sequence[AnyRow]:
        found = select(_c.job_id).where(which).order_by(_c.run_at, _c.job_id).limit(limit).with_for_update(skip_locked=True).cte("found")
        lease = update(jobs).where(_c.job_id.in_(select(found.c.job_id)), which)
        values = {"lease_until": self._store.time + LEASE_MS, "claim_attempt": 0, "claim_actor": ""}
        rows = await connection.execute(lease.values(values).returning(*_c))
        return sorted(rows, key=lambda row: (row.run_at, row.job_id))

    @detached
    async def lease_scheduled(self, job_id: str, etag: str, actor: str, tenants: Tenants = None) -> ReleaseLease:
        """Lease one job to run it now."""
        async with self._store.write() as connection:
            row, _ = await _read_changeable(connection, job_id, etag, tenants)
            values = {"lease_until": self._store.time + LEASE_MS, "claim_attempt": 0, "claim_actor": actor}
            await _change(connection, row, values)
            leased = (await connection.execute(select(*_c).where(_c.job_id == job_id))).one()
        return lease_of(leased)

    @detached
    async def edit_scheduled(self, job_id: str, edit: ScheduledJobEdit, etag: str, actor: str, tenants: Tenants = None) -> JobRecord:
        """Change a job; one that is to run at once is due now. A former payload is kept as a revision."""
        async with self._feed.write([job_id]) as write:
            connection = write.connection
            row, record = await _read_changeable(connection, job_id, etag, tenants)
            values: dict[str, Any] = {"revision": row.revision + 1}
            if edit.delay_ms is not None:
                values["run_at"] = self._store.wall_time + edit.delay_ms
            elif edit.run_at is not None:
                values["run_at"] = edit.run_at
            if edit.priority is not None:
                values["priority"] = edit.priority.value
            if edit.payload_json is not None:
                values["payload"] = edit.payload_json
            await _change(connection, row, values)
            if edit.payload_json is not None:
                kept = {"job_id": job_id, "revision": row.revision + 1, "at": self._clock(), "actor": actor}
                await connection.execute(insert(job_revisions).values(**kept, before=record.job.payload_json, after=edit.payload_json))
            record = record_of((await connection.execute(ONE, {"job": job_id})).one())
            write.record([(record, None)])
        return record

    @detached
    async def cancel_scheduled(self, job_id: str, etag: str, actor: str, tenants: Tenants = None) -> JobRecord:
        """Cancel a job; cancelling one that was cancelled before it was due returns it."""
        now = self._clock()
        async with self._feed.write([job_id]) as write:
            connection = write.connection
            found = (await connection.execute(ONE, {"job": job_id})).first()
            if found is not None and found.state == JobState.CANCELLED.value and not found.generation and is_of(found, tenants):
                return record_of(found)
            row, record = await _read_changeable(connection, job_id, etag, tenants)
            ended = {
                "state": JobState.CANCELLED.value,
                "rank": JobState.CANCELLED.rank,
                "updated_at": now,
                "code": JobState.CANCELLED.value,
            }
            await _change(connection, row, {**ended, **NO_LONGER_ASIDE})
            event = JobEvent(record.job, JobState.CANCELLED, now, actor=actor, code=JobState.CANCELLED.value)
            await self._add_changes.run(connection, [change_values(event)])
            record = record_of((await connection.execute(ONE, {"job": job_id})).one())
            job = record.job
            write.record([(record, StateChange(now, record.state, job.generation, job.attempt, event.code, actor=actor))])
            write.revoke([(job_id, job.generation)])
        self._starts.revoke([(job_id, record.job.generation)])
        return record

    @detached
    async def list_scheduled(self, query: ScheduledJobQuery, limit: int, cursor: str) -> Page[JobRecord]:
        """Those that are due first first, without payloads."""
        wanted = _wanted(query)
        if cursor:
            at, (job_id,) = parse_cursor(cursor, 1)
            wanted.append(tuple_(_c.run_at, _c.job_id) > (at, job_id))
        listed = first_jobs(LISTED, wanted, query.tenants, (_c.run_at, _c.job_id), limit + 1)
        async with self._store.read() as connection:
            rows = (await connection.execute(listed)).all()
        more = cursor_of(rows[limit - 1].run_at, rows[limit - 1].job_id) if len(rows) > limit else ""
        return Page([record_of(row) for row in rows[:limit]], more)

    @detached
    async def get_scheduled(self, job_id: str) -> QuarantinedJob | None:
        """A job with its payload, revisions and history; None if it is not SCHEDULED."""
        async with self._store.read() as connection:
            row = (await connection.execute(ONE.where(SCHEDULED), {"job": job_id})).first()
            return None if row is None else await with_edits(connection, row)

    @detached
    async def overdue(self) -> tuple[int, int]:
        """How many jobs are SCHEDULED, and for how many ms the one that is due for longest has been due: 0 if none is."""
        query = select(func.count(), func.min(_c.run_at) - self._store.wall_time).where(SCHEDULED)
        async with self._store.read() as connection:
            count, ahead_ms = (await connection.execute(query)).one()
        return count, max(0, -(ahead_ms or 0))


def _wanted(query: ScheduledJobQuery) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = [SCHEDULED]
    if query.job_type:
        wanted.append(_c.job_type == query.job_type)
    if query.schedule_id:
        wanted.append(_c.schedule_id == query.schedule_id)
    if query.before is not None:
        wanted.append(_c.run_at < query.before)
    return wanted


async def _read_changeable(connection: AsyncConnection, job_id: str, etag: str, tenants: Tenants) -> tuple[AnyRow, JobRecord]:
    """The row, if a client that saw `etag` may change it; else an error: one of another tenant is as one that does not exist."""
    row = (await connection.execute(ONE, {"job": job_id})).first()
    if row is None or not is_of(row, tenants):
        raise NotFound(f"no job {job_id!r}")
    record = record_of(row)
    if record.state is not JobState.SCHEDULED:
        raise NotFound(f"the job is {record.state}, not SCHEDULED")
    if row.lease_until is not None:
        raise FailedPrecondition("the job is due, and is being sent to the workers right now")
    if etag and etag != record.etag:
        raise Aborted("the job has changed since you read it")
    return row, record


async def _change(connection: AsyncConnection, row: AnyRow, values: dict[str, Any]) -> None:
    """Change the row that was read, or raise Aborted if another process was faster."""
    same = and_(_c.job_id == row.job_id, SCHEDULED, _c.revision == row.revision, _c.lease_until.is_(None))
    if (await connection.execute(update(jobs).where(same).values(values).returning(_c.job_id))).first() is None:
        raise Aborted("the job has changed since you read it")

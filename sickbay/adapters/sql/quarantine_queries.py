"""Reads the jobs that were set aside: lists, one job, groups of failures, and how many are parked for each breaker."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, bindparam, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.history import history
from sickbay.adapters.sql.of_tenants import first_jobs, of_tenants
from sickbay.adapters.sql.paging import cursor as cursor_of
from sickbay.adapters.sql.paging import parse_cursor
from sickbay.adapters.sql.reader import CHANGES, ONE
from sickbay.adapters.sql.rows import LISTED, AnyRow, record_of
from sickbay.adapters.sql.schema import job_revisions, jobs
from sickbay.concurrency.tasks import detached
from sickbay.domain.access import Tenants
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.job import JobRecord, JobState, Reason
from sickbay.domain.queries import FailureGroup, Page, PayloadRevision, QuarantinedJob, QuarantineQuery
from sickbay.domain.storable import MAX_COUNT

_ASIDE: Final = jobs.c.set_aside_at.is_not(None)  # as in the partial indexes, so that they are used
_ONE_ASIDE: Final = ONE.where(_ASIDE)
_REVISIONS: Final = select(job_revisions).where(job_revisions.c.job_id == bindparam("job")).order_by(job_revisions.c.revision)
UNHANDLED: Final = (
    _ASIDE,
    jobs.c.state == JobState.QUARANTINED.value,
    jobs.c.code == Reason.UNKNOWN_TYPE.value,  # for the index of groups
    jobs.c.reason == Reason.UNKNOWN_TYPE.value,
    jobs.c.lease_until.is_(None),
    jobs.c.generation < MAX_COUNT,
)
"""Jobs that were quarantined because no worker handled their type, and are not being released."""
_COUNT: Final = func.count().label("size")


class QuarantineQueries:
    """The reading half of `QuarantineStore`."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self.detached = store.detached

    @detached
    async def list_quarantined(self, query: QuarantineQuery, limit: int, cursor: str) -> Page[JobRecord]:
        """Longest set aside first, with `total`; payloads are left out."""
        wanted = _wanted(query)
        after: list[ColumnElement[bool]] = []
        if cursor:
            at, (job_id,) = parse_cursor(cursor, 1)
            after.append(tuple_(jobs.c.set_aside_at, jobs.c.job_id) > (at, job_id))
        listed = first_jobs(LISTED, [*wanted, *after], query.tenants, (jobs.c.set_aside_at, jobs.c.job_id), limit + 1)
        counted = select(func.count()).select_from(jobs).where(*wanted, *of_tenants(jobs.c.tenant, query.tenants))
        async with self._store.read() as connection:
            rows = (await connection.execute(listed)).all()
            total = (await connection.execute(counted)).scalar_one()
        more = cursor_of(rows[limit - 1].set_aside_at, rows[limit - 1].job_id) if len(rows) > limit else ""
        return Page([record_of(row) for row in rows[:limit]], more, total)

    @detached
    async def get_quarantined(self, job_id: str) -> QuarantinedJob | None:
        """A job with its payload, revisions and history; None if it is not set aside."""
        async with self._store.read() as connection:
            row = (await connection.execute(_ONE_ASIDE, {"job": job_id})).first()
            return None if row is None else await with_edits(connection, row)

    @detached
    async def groups(self, job_type: str, tenants: Tenants, limit: int, cursor: str) -> Page[FailureGroup]:
        """Of these tenants alone: counts, times and samples, too. Largest group first."""
        async with self._store.read() as connection:
            rows = (await connection.execute(_groups(job_type, tenants, cursor).limit(limit + 1))).all()
            shown = rows[:limit]
            samples = select(jobs.c.job_id, jobs.c.message).where(jobs.c.job_id.in_([row.sample for row in shown]))
            messages = {row.job_id: row.message or "" for row in await connection.execute(samples)} if shown else {}
        last = shown[-1] if len(rows) > limit else None
        more = cursor_of(last.size, last.job_type, last.code, last.fingerprint) if last else ""
        return Page([_group(row, messages) for row in shown], more)

    @detached
    async def parked(self) -> Mapping[BreakerKey, int]:
        """How many jobs are parked, by type and tenant, without leased ones."""
        waiting = (_ASIDE, jobs.c.state == JobState.PARKED.value, jobs.c.lease_until.is_(None))
        query = select(jobs.c.job_type, jobs.c.tenant, _COUNT).where(*waiting).group_by(jobs.c.job_type, jobs.c.tenant)
        async with self._store.read() as connection:
            rows = await connection.execute(query)
        return {BreakerKey(row.job_type, row.tenant): row.size for row in rows}

    @detached
    async def unhandled(self, job_types: Collection[str]) -> Mapping[BreakerKey, int]:
        """How many jobs of these types are quarantined as UNKNOWN_TYPE, by type and tenant, without leased ones."""
        waiting = (*UNHANDLED, jobs.c.job_type.in_(sorted(job_types)))
        query = select(jobs.c.job_type, jobs.c.tenant, _COUNT).where(*waiting).group_by(jobs.c.job_type, jobs.c.tenant)
        async with self._store.read() as connection:
            rows = await connection.execute(query)
        return {BreakerKey(row.job_type, row.tenant): row.size for row in rows}


def _wanted(query: QuarantineQuery) -> list[ColumnElement[bool]]:
    asked: dict[ColumnElement[Any], object] = {
        jobs.c.job_type: query.job_type,
        jobs.c.state: query.state.value if query.state else "",
        jobs.c.reason: query.reason.value if query.reason else "",
        jobs.c.code: query.error_code,
        jobs.c.fingerprint: query.fingerprint,
        jobs.c.priority: query.priority.value if query.priority else "",
    }
    wanted = [_ASIDE, *(column == value for column, value in asked.items() if value)]
    if query.set_aside_before is not None:
        wanted.append(jobs.c.set_aside_at < query.set_aside_before)
    return wanted


def _groups(job_type: str, tenants: Tenants, cursor: str) -> Select[*tuple[Any, ...]]:
    names = (jobs.c.job_type, jobs.c.code, jobs.c.fingerprint)
    first, last, sample = func.min(jobs.c.set_aside_at), func.max(jobs.c.set_aside_at), func.min(jobs.c.job_id)
    query = select(*names, _COUNT, first.label("first_at"), last.label("last_at"), sample.label("sample")).where(_ASIDE).group_by(*names)
    if job_type:
        query = query.where(jobs.c.job_type == job_type)
    query = query.where(*of_tenants(jobs.c.tenant, tenants))
    if cursor:
        size, shown = parse_cursor(cursor, 3)
        query = query.having(or_(func.count() < size, (func.count() == size) & (tuple_(*names) > shown)))
    return query.order_by(func.count().desc(), *names)


def _group(row: AnyRow, messages: Mapping[str, str]) -> FailureGroup:
    return FailureGroup(
        job_type=row.job_type,
        error_code=row.code,
        fingerprint=row.fingerprint,
        sample_message=messages.get(row.sample, ""),
        sample_job_id=row.sample,
        count=row.size,
        first_at=row.first_at,
        last_at=row.last_at,
    )


async def with_edits(connection: AsyncConnection, row: AnyRow) -> QuarantinedJob:
    """The job of a row that has its payload, with its revisions and history."""
    changes = (await connection.execute(CHANGES, {"job": row.job_id})).all()
    revisions = (await connection.execute(_REVISIONS, {"job": row.job_id})).all()
    edits = [PayloadRevision(edit.at, edit.actor, edit.before, edit.after) for edit in revisions]
    return QuarantinedJob(record_of(row), edits, history(row, changes))

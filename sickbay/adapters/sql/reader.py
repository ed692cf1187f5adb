"""The ledger as used by JobService: one job, its history, lists, and a watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from operator import attrgetter
from typing import Final

from sqlalchemy import ColumnElement, Text, bindparam, func, literal_column, select, tuple_

from sickbay.adapters.sql.change_feed import ChangeFeed
from sickbay.adapters.sql.chunks import chunks
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.details import DETAILED, detailed_record_of
from sickbay.adapters.sql.history import history
from sickbay.adapters.sql.of_tenants import first_jobs
from sickbay.adapters.sql.paging import cursor as cursor_of
from sickbay.adapters.sql.paging import parse_cursor
from sickbay.adapters.sql.rows import LISTED, WHOLE, record_of
from sickbay.adapters.sql.schema import job_changes, jobs
from sickbay.adapters.sql.subscribers import Watcher
from sickbay.concurrency.tasks import cooperatively, detached
from sickbay.domain.job import JobRecord, JobState, StateChange
from sickbay.domain.priority import Priority
from sickbay.domain.queries import JobQuery, Page

ONE: Final = select(*WHOLE).where(jobs.c.job_id == bindparam("job"))
_ONE_WITH_DETAILS: Final = DETAILED.where(jobs.c.job_id == bindparam("job"))
_NORMAL: Final = literal_column(f"'{Priority.NORMAL.value}'", Text)
_HISTORY_COLUMNS: Final = ("job_id", "state", "generation", "attempt", "submitted_at", "updated_at", "started_at", "run")
HISTORY_ROWS: Final = select(*(jobs.c[name] for name in _HISTORY_COLUMNS)).where(jobs.c.job_id.in_(bindparam("jobs", expanding=True)))
CHANGES: Final = select(job_changes).where(job_changes.c.job_id == bindparam("job"))
CHANGES_OF_MANY: Final = (
    select(job_changes).where(job_changes.c.job_id.in_(bindparam("jobs", expanding=True))).order_by(job_changes.c.job_id)
)
_parked: Final = jobs.alias("parked")
_PARKED_BEFORE: Final = (
    select(func.count())
    .select_from(jobs.join(_parked, jobs.c.job_type == _parked.c.job_type))
    .where(
        jobs.c.job_id == bindparam("job"),
        jobs.c.state == JobState.PARKED.value,
        _parked.c.set_aside_at.is_not(None),  # for the index of parked jobs
        _parked.c.state == JobState.PARKED.value,
        tuple_(_parked.c.set_aside_at, _parked.c.job_id) < tuple_(jobs.c.set_aside_at, jobs.c.job_id),
    )
)


class SqlReader:
    """Implements `JobReader`."""

    def __init__(self, store: Database, feed: ChangeFeed) -> None:
        self._store = store
        self.detached = store.detached
        self._feed = feed

    @detached
    async def get(self, job_id: str) -> JobRecord | None:
        """The job, or None if it is not in the ledger (yet)."""
        async with self._store.read() as connection:
            row = (await connection.execute(_ONE_WITH_DETAILS, {"job": job_id})).first()
        return detailed_record_of(row) if row else None

    @detached
    async def history(self, job_id: str) -> Sequence[StateChange]:
        """Every state change known, oldest first; empty for an unknown job."""
        return (await self.histories([job_id])).get(job_id, [])

    @detached
    async def histories(self, job_ids: Sequence[str]) -> Mapping[str, Sequence[StateChange]]:
        """The same for many jobs at once, each consistent in itself; unknown ones are left out."""
        found: dict[str, Sequence[StateChange]] = {}
        for chunk in chunks(job_ids):
            async with self._store.read() as connection:
                rows = (await connection.execute(HISTORY_ROWS, {"jobs": chunk})).all()
                lines = (await connection.execute(CHANGES_OF_MANY, {"jobs": chunk})).all()
            changes = {job_id: list(some) for job_id, some in groupby(lines, attrgetter("job_id"))}
            found |= {row.job_id: history(row, changes.get(row.job_id, ())) async for row in cooperatively(rows)}
        return found

    @detached
    async def parked_before(self, job_id: str) -> int:
        """How many jobs of its type, of all tenants, were parked before this one; 0 if it is not parked."""
        async with self._store.read() as connection:
            return int((await connection.execute(_PARKED_BEFORE, {"job": job_id})).scalar_one())

    @detached
    async def find(self, query: JobQuery, limit: int, cursor: str) -> Page[JobRecord]:
        """Newest submission first; InvalidArgument(INVALID_PAGE_TOKEN) if the cursor is not from this list."""
        wanted = _wanted(query)
        if cursor:
            at, (job_id,) = parse_cursor(cursor, 1)
            wanted.append(tuple_(jobs.c.submitted_at, jobs.c.job_id) < (at, job_id))
        rows_wanted = first_jobs(LISTED, wanted, query.tenants, (jobs.c.submitted_at.desc(), jobs.c.job_id.desc()), limit + 1)
        async with self._store.read() as connection:
            rows = (await connection.execute(rows_wanted)).all()
        more = cursor_of(rows[limit - 1].submitted_at, rows[limit - 1].job_id) if len(rows) > limit else ""
        return Page([record_of(row) for row in rows[:limit]], more)

    def watch(self, job_id: str) -> AbstractAsyncContextManager[Watcher]:
        """Every change of the job that is applied after entering, in order; None for one of its progress alone.

        Unavailable is raised on entering while there are no notifications, and by the iterator when its reader is more than 1,000
        changes behind, a change may have been missed, or the ledger closes.
        """
        return self._feed.watch(job_id)


def _of_priority(priority: Priority) -> list[ColumnElement[bool]]:
    """Jobs of this priority; what the index has is said once more, as a literal, so that it is used."""
    same = [jobs.c.priority == priority.value]
    return same if priority is Priority.NORMAL else [*same, jobs.c.priority != _NORMAL]


def _wanted(query: JobQuery) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if query.job_type:
        wanted.append(jobs.c.job_type == query.job_type)
    if query.states:
        wanted.append(jobs.c.state.in_(sorted(state.value for state in query.states)))
    if query.priority:
        wanted += _of_priority(query.priority)
    return wanted

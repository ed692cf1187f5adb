"""Schedules on SQLite and PostgreSQL: kept, changed, listed.

`schedule_firing.py` lets them fire, `schedule_settling.py` follows their jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, text, tuple_, update

from sickbay.adapters.sql.change_feed import ChangeFeed
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.of_tenants import of_tenants
from sickbay.adapters.sql.paging import cursor as cursor_of
from sickbay.adapters.sql.paging import parse_cursor
from sickbay.adapters.sql.schedule_firing import ScheduleFiring, find, is_of
from sickbay.adapters.sql.schedule_rows import WITH_JOB, run_of, schedule_of, schedule_values
from sickbay.adapters.sql.schedule_schema import schedule_runs, schedules
from sickbay.adapters.sql.schedule_settling import RunSettling
from sickbay.concurrency.tasks import detached
from sickbay.domain.errors import Aborted, AlreadyExists, ErrorReason, ResourceExhausted
from sickbay.domain.queries import Page
from sickbay.domain.schedule import RUN_RETENTION_MS, RunOutcome, Schedule, ScheduleKey, ScheduleQuery, ScheduleRun

MAX_SCHEDULES: Final = 100_000
"""Of all tenants: a look at each of them must stay cheap."""
_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.sickbay.schedules', 0))")

_s: Final = schedules.c
_r: Final = schedule_runs.c


class SqlSchedules(ScheduleFiring, RunSettling):
    """Implements `Schedules`."""

    def __init__(self, store: Database, feed: ChangeFeed) -> None:
        ScheduleFiring.__init__(self, store, feed)
        RunSettling.__init__(self, store)

    @detached
    async def now(self) -> int:
        """The time by the database's clock (ms)."""
        async with self._store.read() as connection:
            return int((await connection.execute(select(self._store.wall_time))).scalar_one())

    @detached
    async def create_schedule(self, schedule: Schedule) -> Schedule:
        """Keep a new schedule."""
        async with self._store.write() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(_LOCK)  # so that the count holds
            if (await connection.execute(select(func.count()).select_from(schedules))).scalar_one() >= MAX_SCHEDULES:
                raise ResourceExhausted(f"there are {MAX_SCHEDULES:,} schedules, and no more may be", ErrorReason.TOO_MANY_SCHEDULES)
            new = self._store.insert(schedules).values(schedule_values(schedule, schedule.created_at))
            added = await connection.execute(new.on_conflict_do_nothing().returning(_s.schedule_id))
            if added.first() is None:
                raise AlreadyExists(f"the schedule {schedule.key.schedule_id!r} exists already", ErrorReason.SCHEDULE_EXISTS)
        return schedule

    @detached
    async def get_schedule(self, key: ScheduleKey) -> Schedule:
        """A schedule with its payload."""
        async with self._store.read() as connection:
            return schedule_of(await find(connection, key))

    @detached
    async def list_schedules(self, query: ScheduleQuery, limit: int, cursor: str) -> Page[Schedule]:
        """By tenant and id, with payloads."""
        wanted = _wanted(query)
        if cursor:
            _, (tenant, schedule_id) = parse_cursor(cursor, 2)
            wanted.append(tuple_(_s.tenant, _s.schedule_id) > (tenant, schedule_id))
        listed = select(schedules).where(*wanted).order_by(_s.tenant, _s.schedule_id).limit(limit + 1)
        async with self._store.read() as connection:
            rows = (await connection.execute(listed)).all()
        more = cursor_of(0, rows[limit - 1].tenant, rows[limit - 1].schedule_id) if len(rows) > limit else ""
        return Page([schedule_of(row) for row in rows[:limit]], more)

    @detached
    async def change_schedule(self, key: ScheduleKey, change: Callable[[Schedule, int], Schedule], etag: str = "") -> Schedule:
        """Replace a schedule by what `change` makes of it and of the time; its revision grows unless it is the same."""
        async with self._store.write() as connection:
            row = await find(connection, key, for_update=True)
            before = _unchanged(schedule_of(row), etag)
            now = int((await connection.execute(select(self._store.wall_time))).scalar_one())
            after = change(before, now)
            if after == before:
                return before
            after = replace(after, key=key, revision=before.revision + 1, updated_at=now)
            looked_at = now if after.next_at != before.next_at else row.looked_at
            await connection.execute(update(schedules).where(*is_of(key)).values(schedule_values(after, looked_at)))
        return after

    @detached
    async def delete_schedule(self, key: ScheduleKey, etag: str = "") -> None:
        """Delete a schedule and its runs; its jobs stay."""
        async with self._store.write(grows=False) as connection:
            _unchanged(schedule_of(await find(connection, key, for_update=True)), etag)
            await connection.execute(delete(schedules).where(*is_of(key)))
            await connection.execute(delete(schedule_runs).where(_r.tenant == key.tenant, _r.schedule_id == key.schedule_id))

    @detached
    async def list_runs(self, key: ScheduleKey, outcome: RunOutcome | None, limit: int, cursor: str) -> Page[ScheduleRun]:
        """Newest first."""
        wanted: list[ColumnElement[bool]] = [_r.tenant == key.tenant, _r.schedule_id == key.schedule_id]
        if outcome is not None:
            wanted.append(_r.outcome == outcome.value)
        if cursor:
            tick_at, (kind,) = parse_cursor(cursor, 1)
            wanted.append(or_(_r.tick_at < tick_at, and_(_r.tick_at == tick_at, _r.kind < kind)))
        listed = select(schedule_runs).where(*wanted).order_by(_r.tick_at.desc(), _r.kind.desc()).limit(limit + 1)
        async with self._store.read() as connection:
            await find(connection, key)
            rows = (await connection.execute(listed)).all()
        more = cursor_of(rows[limit - 1].tick_at, rows[limit - 1].kind) if len(rows) > limit else ""
        return Page([run_of(row) for row in rows[:limit]], more)

    @detached
    async def times_with_jobs(self, key: ScheduleKey, start: int, end: int) -> frozenset[int]:
        """The times from `start` to before `end` that have a job."""
        of_key = [_r.tenant == key.tenant, _r.schedule_id == key.schedule_id]
        wanted = select(_r.tick_at).where(*of_key, _r.tick_at >= start, _r.tick_at < end, _r.kind == WITH_JOB)
        async with self._store.read() as connection:
            return frozenset((await connection.execute(wanted)).scalars())

    @detached
    async def prune_runs(self) -> int:
        """Delete runs past their retention, except the latest of each schedule, which its row has as well; return how many."""
        past = _r.handled_at < self._store.wall_time - RUN_RETENTION_MS
        async with self._store.write(grows=False) as connection:
            gone = await connection.execute(delete(schedule_runs).where(past, _r.settled == 1).returning(_r.tick_at))
            return len(gone.all())


def _unchanged(schedule: Schedule, etag: str) -> Schedule:
    if etag and etag != schedule.etag:
        raise Aborted("the schedule has changed since you read it")
    return schedule


def _wanted(query: ScheduleQuery) -> list[ColumnElement[bool]]:
    wanted = of_tenants(_s.tenant, query.tenants)
    if query.job_type:
        wanted.append(_s.job_type == query.job_type)
    if query.state is not None:
        wanted.append(_s.state == query.state.value)
    if query.origin is not None:
        wanted.append(_s.origin == query.origin.value)
    return wanted

"""Follows the jobs of runs of schedules: what has become of them is kept with the runs, and may pause the schedule."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.rows import AnyRow
from sickbay.adapters.sql.schedule_firing import UNSETTLED, is_of
from sickbay.adapters.sql.schedule_rows import progress_values, run_of, schedule_of, schedule_values
from sickbay.adapters.sql.schedule_schema import schedule_runs, schedules
from sickbay.adapters.sql.schema import jobs
from sickbay.concurrency.tasks import detached
from sickbay.domain.job import JobState
from sickbay.domain.schedule import FAILED, Schedule, ScheduleKey, ScheduleRun, ScheduleState
from sickbay.domain.schedule_firing import stopped

FAILURE: Final = "job {job} is {state}{code}"

_s: Final = schedules.c
_r: Final = schedule_runs.c
_PLACE: Final = (_r.tenant, _r.schedule_id, _r.job_state, _r.job_id)
"""The order of the index of unsettled runs."""
_WITH_JOBS: Final = select(
    *schedule_runs.c,
    *(
        select(jobs.c[name]).where(jobs.c.job_id == _r.job_id).scalar_subquery().label(f"now_{name}")
        for name in ("state", "updated_at", "code")
    ),
)
"""Not a join, which PostgreSQL may make with all jobs."""
_SETTLE: Final = (
    update(schedule_runs)
    .where(
        _r.tenant == bindparam("of_tenant"),
        _r.schedule_id == bindparam("of_id"),
        _r.tick_at == bindparam("of_tick"),
        _r.kind == bindparam("of_kind"),
    )
    .values(job_state=bindparam("new_state"), settled=bindparam("is_settled"), ended_at=bindparam("new_ended_at"))
)


class RunSettling:
    """The part of `Schedules` that follows jobs."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self.detached = store.detached
        self._seen: tuple[str, ...] = ()

    @detached
    async def settle_runs(self, limit: int) -> Sequence[tuple[Schedule, ScheduleRun]]:
        """Look what has become of the jobs of at most `limit` runs, the next after those of the last call, and return what is news."""
        query = _WITH_JOBS.where(UNSETTLED).order_by(*_PLACE).limit(limit)
        async with self._store.read() as connection:
            rows = (await connection.execute(query.where(tuple_(*_PLACE) > self._seen) if self._seen else query)).all()
        last = rows[-1] if len(rows) == limit else None
        self._seen = (last.tenant, last.schedule_id, last.job_state, last.job_id) if last is not None else ()
        news = [row for row in rows if row.now_state != row.job_state]
        return await self._settle(news) if news else []

    async def _settle(self, news: Sequence[AnyRow]) -> Sequence[tuple[Schedule, ScheduleRun]]:
        async with self._store.write() as connection:
            followed = await _lock(connection, news)
            now = int((await connection.execute(select(self._store.wall_time))).scalar_one())
            rows = await _still_news(connection, news, followed)
            runs = [(followed[_key(row)], _after(row, now)) for row in rows]
            for row, (schedule, run) in zip(rows, runs, strict=True):
                schedule.hear(run, JobState(row.job_state), row.now_code or "", now)
            if rows:
                await connection.execute(_SETTLE, [_values(row, run) for row, (_, run) in zip(rows, runs, strict=True)])
            for schedule in {schedule.now.key: schedule for schedule, _ in runs}.values():
                await schedule.keep(connection)
        return [(schedule.now, run) for schedule, run in runs]


class _Followed:
    """A schedule whose row is locked, and what its runs make of it."""

    def __init__(self, row: AnyRow) -> None:
        self._before = self.now = schedule_of(row)
        self._looked_at = row.looked_at

    def hear(self, run: ScheduleRun, before: JobState, code: str, now: int) -> None:
        """A job has another state than `before`."""
        last_run = self.now.last_run
        if last_run is not None and last_run.job_id == run.job_id:
            self.now = replace(self.now, last_run=run)
        has_failed = run.job_state in FAILED and before not in FAILED
        if has_failed and self.now.spec.pause_on_failure and self.now.state is ScheduleState.ACTIVE:
            note = FAILURE.format(job=run.job_id, state=run.job_state, code=f" with {code}" if code else "")
            self.now = stopped(self.now, now, note)

    async def keep(self, connection: AsyncConnection) -> None:
        """Write what has changed."""
        if self.now == self._before:
            return
        values = schedule_values if self.now.state is not self._before.state else progress_values
        await connection.execute(update(schedules).where(*is_of(self.now.key)).values(values(self.now, self._looked_at)))


def _key(row: AnyRow) -> ScheduleKey:
    return ScheduleKey(row.tenant, row.schedule_id)


async def _lock(connection: AsyncConnection, news: Sequence[AnyRow]) -> Mapping[ScheduleKey, _Followed]:
    """The schedules of the rows; those that fire right now come later."""
    keys = {_key(row) for row in news}
    wanted = (_s.tenant.in_({key.tenant for key in keys}), _s.schedule_id.in_({key.schedule_id for key in keys}))
    rows = await connection.execute(select(schedules).where(*wanted).with_for_update(skip_locked=True))
    return {key: _Followed(row) for row in rows if (key := _key(row)) in keys}


async def _still_news(connection: AsyncConnection, news: Sequence[AnyRow], known: Collection[ScheduleKey]) -> Sequence[AnyRow]:
    """As they are now that nobody else changes them: another control plane may have been faster."""
    if not known:
        return ()
    wanted: list[ColumnElement[bool]] = [
        UNSETTLED,
        _r.tenant.in_({key.tenant for key in known}),
        _r.schedule_id.in_({key.schedule_id for key in known}),
        _r.job_id.in_({row.job_id for row in news}),
    ]
    rows = await connection.execute(_WITH_JOBS.where(*wanted).order_by(_r.tick_at, _r.kind))
    return [row for row in rows if row.now_state != row.job_state and _key(row) in known]


def _after(row: AnyRow, now: int) -> ScheduleRun:
    """The run as its job is now; one that the ledger has deleted has ended, as it was seen last."""
    run = run_of(row)
    if row.now_state is None:
        return replace(run, ended_at=now)
    state = JobState(row.now_state)
    return replace(run, job_state=state, ended_at=row.now_updated_at if state.is_final else 0)


def _values(row: AnyRow, run: ScheduleRun) -> dict[str, Any]:
    return {
        "of_tenant": row.tenant,
        "of_id": row.schedule_id,
        "of_tick": row.tick_at,
        "of_kind": row.kind,
        "new_state": run.job_state.value if run.job_state is not None else "",
        "is_settled": int(run.ended_at > 0),
        "new_ended_at": run.ended_at,
    }

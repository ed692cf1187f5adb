"""Numbers about schedules, for metrics."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, LargeBinary, func, literal, or_, select

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.schedule_schema import schedule_runs, schedules
from sickbay.adapters.sql.schema import jobs
from sickbay.concurrency.tasks import detached
from sickbay.domain.schedule import FAILED, UNFINISHED, ScheduleKey, ScheduleState
from sickbay.ports.schedule_counts import ScheduleCounts

_s: Final = schedules.c
_BY_STATE: Final = select(_s.state, func.count()).group_by(_s.state)
_BUFFERED: Final = select(func.count()).where(_s.buffered_at.is_not(None))
_RUNNING: Final = (
    select(func.count())
    .select_from(schedule_runs.join(jobs, jobs.c.job_id == schedule_runs.c.job_id))
    .where(schedule_runs.c.settled == 0, jobs.c.state.in_([state.value for state in UNFINISHED]))
)
_NEEDLES: Final = [f'"job_state":"{state.value}"'.encode() for state in sorted(FAILED)]
"""What the latest run of a failing schedule has in it: so the database finds them, and no other is read."""


class SqlScheduleStatistics:
    """Implements `ScheduleStatistics`. What became of the jobs is as their schedules have heard, which is a second ago."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self.detached = store.detached
        self._overdue = select(store.wall_time - func.min(_s.next_at)).where(_s.next_at.is_not(None))
        failed = or_(*(_contains(store, _s.last_run, needle) for needle in _NEEDLES))
        self._failing = select(_s.tenant, _s.schedule_id).where(_s.state != ScheduleState.ENDED.value, failed)

    @detached
    async def count_schedules(self, named: int) -> ScheduleCounts:
        """All of them, with the names of at most so many that fail."""
        async with self._store.read() as connection:
            states = (await connection.execute(_BY_STATE)).all()
            if not states:
                return ScheduleCounts(dict.fromkeys(ScheduleState, 0))
            overdue_ms = (await connection.execute(self._overdue)).scalar_one_or_none()
            buffered = (await connection.execute(_BUFFERED)).scalar_one()
            running = (await connection.execute(_RUNNING)).scalar_one()
            failing = (await connection.execute(self._failing.order_by(_s.tenant, _s.schedule_id).limit(named + 1))).all()
            count = len(failing)
            if count > named:
                count = (await connection.execute(select(func.count()).select_from(self._failing.subquery()))).scalar_one()
        return ScheduleCounts(
            by_state=dict.fromkeys(ScheduleState, 0) | {ScheduleState(state): number for state, number in states},
            overdue_ms=max(0, int(overdue_ms or 0)),
            buffered=buffered,
            running=running,
            failing=count,
            named=[ScheduleKey(*row) for row in failing[:named]],
        )


def _contains(store: Database, column: ColumnElement[bytes], needle: bytes) -> ColumnElement[bool]:
    part = literal(needle, LargeBinary)
    return func.instr(column, part) > 0 if store.is_sqlite else func.position(part.op("IN")(column)) > 0

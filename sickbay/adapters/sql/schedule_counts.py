"""Numbers about schedules, for metrics."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, select

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.schema import jobs, schedule_runs, schedules
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
_FAILING: Final = (
    select(_s.tenant, _s.schedule_id)
    .join(jobs, jobs.c.job_id == _s.last_job_id)
    .where(_s.state != ScheduleState.ENDED.value, jobs.c.state.in_([state.value for state in FAILED]))
)


class SqlScheduleStatistics:
    """Implements `ScheduleStatistics`. The jobs themselves say what became of them, not what their schedules have heard."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self.detached = store.detached
        self._overdue = select(store.wall_time - func.min(_s.next_at)).where(_s.next_at.is_not(None))

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
            failing = (await connection.execute(_FAILING.order_by(_s.tenant, _s.schedule_id).limit(named + 1))).all()
            count = len(failing)
            if count > named:
                count = (await connection.execute(select(func.count()).select_from(_FAILING.subquery()))).scalar_one()
        return ScheduleCounts(
            by_state=dict.fromkeys(ScheduleState, 0) | {ScheduleState(state): number for state, number in states},
            overdue_ms=max(0, int(overdue_ms or 0)),
            buffered=buffered,
            running=running,
            failing=count,
            named=[ScheduleKey(*row) for row in failing[:named]],
        )

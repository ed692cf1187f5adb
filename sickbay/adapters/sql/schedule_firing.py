"""Lets schedules fire: what becomes of their times, and their jobs, in the transaction that moves them on.

Whoever writes runs of a schedule has locked its row, so a look at the runs that are there holds. One transaction lets several schedules
fire, so that a thousand of them at midnight are no thousand transactions. Those that another control plane has locked are left to it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Text, and_, bindparam, column, literal_column, or_, select, update, values
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.change_feed import ChangeFeed
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.rows import AnyRow
from sickbay.adapters.sql.schedule_jobs import RunJob, RunWriter, run_job
from sickbay.adapters.sql.schedule_rows import WITH_JOB, kind_of, progress_values, run_of, schedule_of, schedule_values
from sickbay.adapters.sql.schedule_schema import schedule_runs, schedules
from sickbay.adapters.sql.schema import jobs
from sickbay.concurrency.tasks import detached
from sickbay.domain.errors import ErrorReason, NotFound
from sickbay.domain.schedule import UNFINISHED, Decision, NewRun, Overlap, Schedule, ScheduleKey, ScheduleRun, Situation, Trigger
from sickbay.domain.schedule_firing import advanced, found_anew
from sickbay.ports.schedules import Decide, Fired, IsOpen

SET_BACK_MS: Final = 2_000
"""A clock that is back by more than that was set back. By less it does no harm: times come a little later."""
ENOUGH_RUNS: Final = 250
"""So many jobs are enough for one transaction; what is left is still due in the next."""
ENOUGH_BYTES: Final = 32 * 1024 * 1024
BROKEN: Final = "its times cannot be found: {}"

Name = tuple[int, str]

_s: Final = schedules.c
_r: Final = schedule_runs.c
UNSETTLED: Final = _r.settled == literal_column("0", BigInteger)
"""As in the partial index, so that it is used."""
_HAS_NEXT: Final = _s.next_at.is_not(None)
_MANUAL: Final = _r.trigger == literal_column(f"'{Trigger.MANUAL.value}'", Text)
_STATES: Final = [state.value for state in sorted(UNFINISHED)]
_HOLDS_UP: Final = and_(UNSETTLED, _r.job_state.in_(_STATES), _r.trigger != Trigger.BACKFILL.value)
_UNFINISHED_JOB: Final = (
    select(literal_column("1", BigInteger))
    .where(_r.tenant == _s.tenant, _r.schedule_id == _s.schedule_id, _HOLDS_UP)
    .where(jobs.c.job_id == _r.job_id, jobs.c.state.in_(_STATES))
    .limit(1)
    .correlate(schedules)
    .scalar_subquery()
)
"""Not EXISTS, which PostgreSQL may answer by a join with all jobs. Those of a backfill hold nothing up: they are for times past."""
_RUNNING: Final = _UNFINISHED_JOB.is_not(None)
"""Whether a job of a schedule has not ended."""
_WAIT_IS_OVER: Final = and_(_s.buffered_at.is_not(None), _UNFINISHED_JOB.is_(None))
_MOVE_ON: Final = (
    update(schedules)
    .where(_s.tenant == bindparam("of_tenant"), _s.schedule_id == bindparam("of_id"))
    .values({name: bindparam(f"new_{name}") for name in ("next_at", "looked_at", "buffered_at", "last_run")})
)

log = logging.getLogger(__name__)


class ScheduleFiring:
    """The firing part of `Schedules`."""

    def __init__(self, store: Database, feed: ChangeFeed) -> None:
        self._store = store
        self.detached = store.detached
        self._feed = feed
        self._runs = RunWriter(store)
        # Not `min` or EXISTS: each is the first entry of an index, whatever PostgreSQL believes of the tables.
        first = select(_s.next_at).where(_HAS_NEXT).order_by(_s.next_at).limit(1).scalar_subquery()
        latest = select(_s.looked_at).where(_HAS_NEXT).order_by(_s.looked_at.desc()).limit(1).scalar_subquery()
        waits = select(_s.buffered_at).where(_WAIT_IS_OVER).order_by(_s.buffered_at).limit(1).scalar_subquery()
        at_once = or_(latest > store.wall_time + SET_BACK_MS, waits.is_not(None))
        self._next = select((first - store.wall_time).label("ahead_ms"), at_once.label("at_once"))

    @detached
    async def next_due_ms(self) -> int | None:
        """In how many ms the next schedule is due; 0 or less if one is due, or waits for a job that has ended; None if there is none."""
        async with self._store.read() as connection:
            ahead_ms, at_once = (await connection.execute(self._next)).one()
        return min(0, ahead_ms or 0) if at_once else ahead_ms

    @detached
    async def fire_due(self, decide: Decide, is_open: IsOpen, limit: int) -> Sequence[Fired]:
        """Let schedules that are due do what `decide` says, in one transaction with their jobs and their next times; at most `limit`."""
        async with self._feed.write(()) as write:
            connection = write.connection
            now = int((await connection.execute(select(self._store.wall_time))).scalar_one())
            due = await _due(connection, now, limit)
            if not due:
                return []
            running = await _running(connection, [one for one in due if one.spec.overlap is not Overlap.ALLOW])
            decided: list[tuple[Schedule, Decision]] = []
            runs = size = 0
            for schedule in due:
                situation = Situation(now, schedule.key in running, is_open(schedule.spec.job_type, schedule.key.tenant))
                decision = _decided(decide, schedule, situation)
                decided.append((schedule, decision))
                runs += len(decision.runs)
                size += len(decision.runs) * len(schedule.spec.payload_json)
                if runs >= ENOUGH_RUNS or size >= ENOUGH_BYTES:
                    break
            taken = await _taken(connection, decided)
            turns = [_Turn(schedule, decision, now, taken) for schedule, decision in decided]
            started = [one for turn in turns for one in turn.started]
            await self._runs.write(write, started, [(turn.before.key, run) for turn in turns for run in turn.others])
            await _move_on(connection, turns, now)
        return [turn.fired(now) for turn in turns]

    @detached
    async def submit_runs(self, key: ScheduleKey, runs: Sequence[NewRun]) -> Sequence[ScheduleRun | None]:
        """Submit jobs for these times, MANUAL or BACKFILL, in one transaction; None for one that had a job already."""
        async with self._feed.write(()) as write:
            connection = write.connection
            row = await find(connection, key, for_update=True)
            schedule = schedule_of(row)
            now = int((await connection.execute(select(self._store.wall_time))).scalar_one())
            wanted = [run_job(schedule, new, now, _request_of(new)) for new in runs]
            known = await _known(connection, wanted)
            started = [one for one in wanted if _name_of(one) not in known]
            await self._runs.write(write, started)
            after = schedule
            for one in started:
                is_latest = after.last_run is None or one.run.trigger is Trigger.MANUAL or one.run.tick_at >= after.last_run.tick_at
                if is_latest:
                    after = advanced(after, Decision((), (), after.next_at, after.buffered_at), now, one.run)
            if after is not schedule:
                await connection.execute(update(schedules).where(*is_of(key)).values(progress_values(after, row.looked_at)))
        new_names = {_name_of(one) for one in started}
        return [
            one.run if _name_of(one) in new_names else known[_name_of(one)] if one.run.trigger is Trigger.MANUAL else None for one in wanted
        ]


class _Turn:
    """What a schedule does in a transaction: its decision, without the times that have a job already."""

    def __init__(self, schedule: Schedule, decision: Decision, now: int, taken: Collection[tuple[ScheduleKey, int]]) -> None:
        key = schedule.key
        self.before = schedule
        self.started: list[RunJob] = [run_job(schedule, new, now) for new in decision.runs if (key, new.tick_at) not in taken]
        self.others = [run for run in decision.others if run.count > 1 or (key, run.tick_at) not in taken]
        last_run = self.started[-1].run if self.started else schedule.last_run
        self.after = advanced(schedule, decision, now, last_run)

    @property
    def changes_state(self) -> bool:
        """Whether it is paused now, or has ended."""
        return self.after.state is not self.before.state

    def fired(self, now: int) -> Fired:
        """For observers. A time that waited for a job to end was not late by that."""
        runs = [*self.others, *(one.run for one in self.started)]
        on_time = [one.run.tick_at for one in self.started if one.run.tick_at != self.before.buffered_at]
        return Fired(self.after, sorted(runs, key=lambda run: run.tick_at), max(0, now - on_time[0]) if on_time else 0)


def is_of(key: ScheduleKey) -> list[ColumnElement[bool]]:
    """The row of a schedule."""
    return [_s.tenant == key.tenant, _s.schedule_id == key.schedule_id]


async def find(connection: AsyncConnection, key: ScheduleKey, *, for_update: bool = False) -> AnyRow:
    """The row of a schedule, or NotFound(SCHEDULE_NOT_FOUND)."""
    query: Any = select(schedules).where(*is_of(key))
    row = (await connection.execute(query.with_for_update() if for_update else query)).first()
    if row is None:
        raise NotFound(f"there is no schedule {key.schedule_id!r}", ErrorReason.SCHEDULE_NOT_FOUND)
    found: AnyRow = row
    return found


async def _due(connection: AsyncConnection, now: int, limit: int) -> Sequence[Schedule]:
    """Lock schedules that have something to do. Half of them are those due last, so that those with much to make up for hold up nobody."""
    found: dict[ScheduleKey, Schedule] = {}

    async def add(which: ColumnElement[bool], order: ColumnElement[Any], count: int) -> int:
        wanted = select(schedules).where(which).order_by(order).limit(count).with_for_update(skip_locked=True)
        rows = (await connection.execute(wanted)).all()
        for row in rows:
            schedule = schedule_of(row)
            found[schedule.key] = found_anew(schedule, now) if row.looked_at > now + SET_BACK_MS else schedule
        return len(rows)

    is_due = _s.next_at <= now
    if await add(is_due, _s.next_at, (limit + 1) // 2) == (limit + 1) // 2:
        await add(is_due, _s.next_at.desc(), limit // 2 or 1)
    await add(and_(_HAS_NEXT, _s.looked_at > now + SET_BACK_MS), _s.looked_at, limit)
    await add(_WAIT_IS_OVER, _s.buffered_at, limit)
    return list(found.values())[:limit]


async def _running(connection: AsyncConnection, asked: Sequence[Schedule]) -> Collection[ScheduleKey]:
    """Those with a job that has not ended."""
    if not asked:
        return ()
    of_these = (_s.tenant.in_({one.key.tenant for one in asked}), _s.schedule_id.in_({one.key.schedule_id for one in asked}))
    rows = await connection.execute(select(_s.tenant, _s.schedule_id).where(*of_these, _RUNNING))
    return {ScheduleKey(row.tenant, row.schedule_id) for row in rows}


def _decided(decide: Decide, schedule: Schedule, situation: Situation) -> Decision:
    """What it does; one that fails is paused, so that it holds up no other one and a person hears of it."""
    try:
        return decide(schedule, situation)
    except Exception as error:
        log.exception("the schedule %s of tenant %s is paused: its times cannot be found", schedule.key.schedule_id, schedule.key.tenant)
        return Decision(pauses=BROKEN.format(error))


async def _taken(connection: AsyncConnection, decided: Sequence[tuple[Schedule, Decision]]) -> Collection[tuple[ScheduleKey, int]]:
    """Which of the times have a job already: a clock was set back, or somebody asked for a time that was just due."""
    asked = {(schedule.key, run.tick_at) for schedule, decision in decided for run in decision.runs}
    asked |= {(schedule.key, run.tick_at) for schedule, decision in decided for run in decision.others}
    if not asked:
        return ()
    places = [(*key, tick_at) for key, tick_at in sorted(asked)]
    times = values(column("tenant", Text), column("schedule_id", Text), column("tick_at", BigInteger), name="times").data(places).cte()
    of_time = and_(_r.tenant == times.c.tenant, _r.schedule_id == times.c.schedule_id, _r.tick_at == times.c.tick_at, _r.kind == WITH_JOB)
    job = select(_r.job_id).where(of_time).correlate(times).scalar_subquery()
    rows = await connection.execute(select(times).where(job.is_not(None)))
    return {(ScheduleKey(row.tenant, row.schedule_id), row.tick_at) for row in rows}


async def _known(connection: AsyncConnection, wanted: Sequence[RunJob]) -> Mapping[Name, ScheduleRun]:
    """The runs of one schedule that are there already, by their names."""
    if not wanted:
        return {}
    key, ticks = wanted[0].key, [one.run.tick_at for one in wanted]
    kinds = [kind for _, kind in map(_name_of, wanted) if kind]
    of_times = and_(_r.tick_at.between(min(ticks), max(ticks)), _r.kind == WITH_JOB)
    known: dict[Name, ScheduleRun] = {}
    for which in (of_times, and_(_MANUAL, _r.kind.in_(kinds))):
        query = select(schedule_runs).where(_r.tenant == key.tenant, _r.schedule_id == key.schedule_id, which)
        known |= {_name(run_of(row), row.kind): run_of(row) for row in await connection.execute(query)}
    return known


def _request_of(new: NewRun) -> str:
    """A MANUAL run without a request of its own is one of its own."""
    return (new.request_id or uuid.uuid4().hex) if new.trigger is Trigger.MANUAL else ""


def _name_of(one: RunJob) -> Name:
    return _name(one.run, kind_of(one.run, one.request))


def _name(run: ScheduleRun, kind: str) -> Name:
    """By its time, or a MANUAL one by its request, whenever that came."""
    return (0, kind) if run.trigger is Trigger.MANUAL else (run.tick_at, kind)


async def _move_on(connection: AsyncConnection, turns: Sequence[_Turn], now: int) -> None:
    moved = []
    for turn in turns:
        key = turn.before.key
        if turn.changes_state:
            await connection.execute(update(schedules).where(*is_of(key)).values(schedule_values(turn.after, now)))
            continue
        values = {f"new_{name}": value for name, value in progress_values(turn.after, now).items()}
        moved.append({"of_tenant": key.tenant, "of_id": key.schedule_id, **values})
    if moved:
        await connection.execute(_MOVE_ON, moved)

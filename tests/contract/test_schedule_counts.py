"""Numbers about schedules, on every ledger."""

import pytest
from sqlalchemy import insert, update

from sickbay.adapters.sql.schedule_rows import run_values
from sickbay.adapters.sql.schema import schedule_runs
from sickbay.domain.job import Job, JobEvent, JobState
from sickbay.domain.schedule import (
    RunOutcome,
    Schedule,
    ScheduleKey,
    ScheduleRun,
    ScheduleSpec,
    ScheduleState,
    Timing,
    Trigger,
)
from sickbay.ports.schedule_counts import ScheduleCounts
from tests.support.ledger_events import START, quarantined, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]


def schedule(schedule_id, state=ScheduleState.ACTIVE, *, tenant="default", next_at=START + 60_000, buffered_at=0, job_id=""):
    run = ScheduleRun(START, Trigger.TICK, RunOutcome.SUBMITTED, job_id) if job_id else None
    spec = ScheduleSpec("report", Timing(every_ms=60_000))
    is_active = state is ScheduleState.ACTIVE
    return Schedule(
        ScheduleKey(tenant, schedule_id), spec, state, next_at=next_at if is_active else 0, buffered_at=buffered_at, last_run=run
    )


async def enter(ledger, *some):
    """Schedules, with their latest runs, as they are found after their jobs were submitted."""
    for one in some:
        await ledger.schedules.create_schedule(one)
    async with ledger.store.write() as connection:
        for one in some:
            if one.last_run is not None:
                await connection.execute(insert(schedule_runs).values(run_values(one.key, one.last_run)))


async def test_a_ledger_without_schedules_says_so(ledger):
    assert await ledger.schedule_statistics.count_schedules(5) == ScheduleCounts(dict.fromkeys(ScheduleState, 0))


async def test_they_are_counted_by_state(ledger):
    await enter(ledger, schedule("a"), schedule("b"), schedule("c", ScheduleState.PAUSED), schedule("d", ScheduleState.ENDED))
    counts = await ledger.schedule_statistics.count_schedules(5)
    assert counts.by_state == {ScheduleState.ACTIVE: 2, ScheduleState.PAUSED: 1, ScheduleState.ENDED: 1}
    assert (counts.overdue_ms, counts.buffered, counts.running, counts.failing) == (0, 0, 0, 0)


async def test_the_one_that_is_due_for_longest_counts(ledger, clock):
    await enter(ledger, schedule("late", next_at=START - 7_000), schedule("later", next_at=START - 2_000), schedule("in-time"))
    assert (await ledger.schedule_statistics.count_schedules(5)).overdue_ms == 7_000
    clock.now += 500
    assert (await ledger.schedule_statistics.count_schedules(5)).overdue_ms == 7_500


async def test_a_time_that_waits_for_a_job_is_buffered(ledger):
    await enter(ledger, schedule("a", buffered_at=START - 1_000), schedule("b"))
    assert (await ledger.schedule_statistics.count_schedules(5)).buffered == 1


async def test_jobs_that_have_not_ended_are_running_and_quarantined_ones_are_not(ledger):
    some = [schedule(name, job_id=name) for name in ("waits", "ill", "done")]
    await enter(ledger, *some)
    await ledger.writer.apply([JobEvent(Job("waits", "report", submitted_at=START), JobState.QUEUED, START)])
    await ledger.writer.apply([quarantined("ill"), succeeded("done")])
    assert (await ledger.schedule_statistics.count_schedules(5)).running == 1
    async with ledger.store.write() as connection:
        await connection.execute(update(schedule_runs).values(settled=1))
    assert (await ledger.schedule_statistics.count_schedules(5)).running == 0


@pytest.mark.parametrize("named", [0, 1, 2, 5])
async def test_those_whose_latest_job_failed_are_named_up_to_a_limit(ledger, named):
    """The job says so, not what the schedule has heard; one that has ended is past."""
    some = [
        schedule("b", job_id="ill-b"),
        schedule("a", ScheduleState.PAUSED, job_id="ill-a"),
        schedule("a", tenant="acme", job_id="ill-acme"),
        schedule("ended", ScheduleState.ENDED, job_id="ill-ended"),
        schedule("well", job_id="well"),
    ]
    await enter(ledger, *some)
    await ledger.writer.apply([*(quarantined(f"ill-{name}") for name in ("a", "b", "acme", "ended")), succeeded("well")])
    await ledger.quarantine.discard("ill-a", "", "ann")
    counts = await ledger.schedule_statistics.count_schedules(named)
    assert counts.failing == 3
    assert list(counts.named) == [ScheduleKey("acme", "a"), ScheduleKey("default", "a"), ScheduleKey("default", "b")][:named]

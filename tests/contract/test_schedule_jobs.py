"""What becomes of the jobs of schedules is kept with their runs, and may pause the schedule."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.schedule import RunOutcome, ScheduleState, job_id_of
from tests.support.clock import START, ManualClock
from tests.support.ledger_events import DAY
from tests.support.schedules import KEY, cut_at, fire, of_job, planes, runs_of, schedule

pytest_plugins = ["tests.support.ledger_fixtures"]

SKIPPED, REFUSED, SUBMITTED = RunOutcome.SKIPPED_OVERLAP, RunOutcome.SKIPPED_CIRCUIT_OPEN, RunOutcome.SUBMITTED
HOUR = 3_600_000


async def test_what_becomes_of_a_job_is_kept_with_its_run_and_told_once(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    clock.now += 1_000
    await fire(ledger)
    job_id = job_id_of(KEY, START + 1_000)
    assert await ledger.schedules.settle_runs(100) == []
    for state in (JobState.RUNNING, JobState.SUCCEEDED):
        clock.now += 100
        await of_job(ledger, job_id, state, at=clock.now)
        ((told, run),) = await ledger.schedules.settle_runs(100)
        assert (run.job_id, run.job_state, run.ended_at) == (job_id, state, clock.now if state.is_final else 0)
        assert await ledger.schedules.settle_runs(100) == []
        assert await runs_of(ledger) == [run]
        assert (await ledger.schedules.get_schedule(KEY)) == told
        assert told.last_run == run
    await of_job(ledger, job_id, JobState.QUARANTINED, generation=2)
    assert await ledger.schedules.settle_runs(100) == [], "it has ended for good"


async def test_a_quarantined_job_may_still_succeed(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    clock.now += 1_000
    await fire(ledger)
    job_id = job_id_of(KEY, START + 1_000)
    await of_job(ledger, job_id, JobState.QUARANTINED)
    ((told, run),) = await ledger.schedules.settle_runs(100)
    assert (run.job_state, run.ended_at, told.is_failing, told.state) == (JobState.QUARANTINED, 0, True, ScheduleState.ACTIVE)
    await of_job(ledger, job_id, JobState.SUCCEEDED, generation=2)
    ((told, run),) = await ledger.schedules.settle_runs(100)
    assert (run.job_state, told.is_failing) == (JobState.SUCCEEDED, False)


async def test_a_job_that_the_ledger_has_deleted_has_ended_as_it_was_seen_last(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    clock.now += 1_000
    await fire(ledger)
    await of_job(ledger, job_id_of(KEY, START + 1_000), JobState.RUNNING)
    await ledger.schedules.settle_runs(100)
    await of_job(ledger, job_id_of(KEY, START + 1_000), JobState.SUCCEEDED)
    clock.now += 2 * DAY
    await ledger.writer.prune(clock.now)
    ((_, run),) = await ledger.schedules.settle_runs(100)
    assert (run.job_state, run.ended_at) == (JobState.RUNNING, clock.now)
    assert await ledger.schedules.settle_runs(100) == []


@pytest.mark.parametrize("state", [JobState.QUARANTINED, JobState.DISCARDED, JobState.CANCELLED, JobState.SUCCEEDED])
async def test_a_failure_pauses_the_schedule_that_asks_for_it(ledger, clock, state):
    """In the transaction in which it hears of it, with a note that names the job; a person who cancels one does not make it fail."""
    made = await ledger.schedules.create_schedule(schedule(pause_on_failure=True))
    clock.now += 1_000
    await fire(ledger)
    job_id = job_id_of(KEY, START + 1_000)
    await of_job(ledger, job_id, state)
    ((told, _),) = await ledger.schedules.settle_runs(100)
    fails = state in {JobState.QUARANTINED, JobState.DISCARDED}
    assert told == await ledger.schedules.get_schedule(KEY)
    assert told.state is (ScheduleState.PAUSED if fails else ScheduleState.ACTIVE)
    assert (told.etag != made.etag) == fails
    if fails:
        code = " with API_TIMEOUT" if state is JobState.QUARANTINED else ""
        assert told.pause_note == f"job {job_id} is {state}{code}"
        clock.now += DAY
        assert await fire(ledger) == []


async def test_a_failed_job_that_is_discarded_later_pauses_no_second_time(ledger, clock):
    await ledger.schedules.create_schedule(schedule(pause_on_failure=True))
    clock.now += 1_000
    await fire(ledger)
    await of_job(ledger, job_id_of(KEY, START + 1_000), JobState.QUARANTINED)
    await ledger.schedules.settle_runs(100)
    await ledger.schedules.change_schedule(KEY, lambda found, now: replace(found, state=ScheduleState.ACTIVE, next_at=now + 1_000))
    await of_job(ledger, job_id_of(KEY, START + 1_000), JobState.DISCARDED)
    ((told, run),) = await ledger.schedules.settle_runs(100)
    assert (told.state, run.job_state) == (ScheduleState.ACTIVE, JobState.DISCARDED)


async def test_so_many_runs_are_looked_at_in_a_call_and_all_in_turn(ledger, clock):
    await ledger.schedules.create_schedule(schedule(overlap="ALLOW"))
    clock.now += 25_000
    await fire(ledger)
    await of_job(ledger, job_id_of(KEY, START + 25_000), JobState.SUCCEEDED)
    news = [await ledger.schedules.settle_runs(10) for _ in range(4)]
    assert [run.tick_at for one in news for _, run in one] == [START + 25_000]


@pytest.mark.servers
async def test_of_two_control_planes_one_tells_what_is_new(postgres):
    clock = ManualClock()
    async with planes(postgres.url, clock, clock) as ledgers:
        await ledgers[0].schedules.create_schedule(schedule(overlap="ALLOW"))
        clock.now += 50_000
        await fire(ledgers[0])
        for number in range(1, 51):
            await of_job(ledgers[0], job_id_of(KEY, START + 1_000 * number), JobState.SUCCEEDED)
        told = []
        for _ in range(3):
            for news in await asyncio.gather(*(ledger.schedules.settle_runs(100) for ledger in ledgers)):
                told += [run.job_id for _, run in news]
        assert len(told) == len(set(told)) == 50


@pytest.mark.servers
async def test_a_cut_between_two_of_its_statements_neither_settles_nor_pauses(postgres):
    clock = ManualClock()
    async with cut_at(postgres, clock, "UPDATE schedules ") as (ours, other):
        await other.schedules.create_schedule(schedule(pause_on_failure=True))
        clock.now += 1_000
        await fire(other)
        await of_job(other, job_id_of(KEY, START + 1_000), JobState.QUARANTINED)
        with pytest.raises(Unavailable):
            await ours.schedules.settle_runs(100)
        assert [run.job_state for run in await runs_of(other)] == [JobState.SCHEDULED]
        ((told, _),) = await other.schedules.settle_runs(100)
        assert told.state is ScheduleState.PAUSED

"""Schedules fire once, however many control planes look, wherever one is cut off, and whatever a clock is set to."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.schedule import RunOutcome, ScheduleKey, job_id_of
from tests.support.clock import START, ManualClock
from tests.support.ledger_events import DAY
from tests.support.schedules import KEY, cut_at, fire, jobs_of, of_job, planes, runs_of, schedule

pytest_plugins = ["tests.support.ledger_fixtures"]

SKIPPED, REFUSED, SUBMITTED = RunOutcome.SKIPPED_OVERLAP, RunOutcome.SKIPPED_CIRCUIT_OPEN, RunOutcome.SUBMITTED
HOUR = 3_600_000


@pytest.mark.servers
async def test_three_that_look_at_once_submit_one_job_for_each_time(postgres):
    clock = ManualClock()
    async with planes(postgres.url, clock, clock, clock) as ledgers:
        for number in range(40):
            await ledgers[0].schedules.create_schedule(schedule(key=ScheduleKey("default", f"s{number}"), overlap="ALLOW"))
        told = []
        for _ in range(10):
            clock.now += 1_000
            for _ in range(3):
                for fired in await asyncio.gather(*(fire(ledger, limit=20) for ledger in ledgers)):
                    told += [(one.schedule.key, run.tick_at) for one in fired for run in one.runs]
        while fired := await fire(ledgers[0]):
            told += [(one.schedule.key, run.tick_at) for one in fired for run in one.runs]
        assert set(Counter(told).values()) == {1}
        assert len(told) == 400 == len(await jobs_of(ledgers[0]))


@pytest.mark.servers
async def test_clocks_of_machines_do_not_matter_where_the_database_has_one(postgres):
    """Decided by the server's clock, in whatever time these machines live."""
    clocks = [ManualClock(START - DAY), ManualClock(START), ManualClock(START + DAY)]
    async with planes(postgres.url, *clocks, own_time=True) as ledgers:
        now = await ledgers[0].schedules.now()
        assert abs(await ledgers[2].schedules.now() - now) < 60_000
        await ledgers[1].schedules.create_schedule(schedule(every_ms=HOUR, next_at=now // HOUR * HOUR))
        fired = [one for ledger in ledgers for one in await fire(ledger)]
        (run,) = [run for one in fired for run in one.runs]
        assert (run.tick_at, run.outcome) == (now // HOUR * HOUR, SUBMITTED)
        assert abs(run.handled_at - now) < 60_000


@pytest.mark.servers
@pytest.mark.parametrize("table", ["schedule_runs", "jobs", "job_changes", "schedules"])
async def test_a_connection_that_is_cut_in_the_middle_leaves_nothing_or_all(postgres, table):
    """Cut when this table is written; another control plane does it all then."""
    clock = ManualClock()
    async with cut_at(postgres, clock, f"INSERT INTO {table} ", f"UPDATE {table} ") as (ours, other):
        await other.schedules.create_schedule(schedule(overlap="ALLOW"))
        clock.now += 3_000
        with pytest.raises(Unavailable):
            await fire(ours)
        assert await runs_of(other) == []
        assert await jobs_of(other) == []
        (fired,) = await fire(other)
        assert [run.tick_at for run in fired.runs] == [START + 1_000, START + 2_000, START + 3_000]
        assert len(await jobs_of(other)) == 3
        assert await fire(other) == []


async def test_a_clock_that_is_a_day_ahead_for_a_while_makes_nothing_fire_twice(ledger, clock):
    """What it fired then, early, is not fired again; and it goes on at once when the clock is right again."""
    await ledger.schedules.create_schedule(schedule(every_ms=HOUR, overlap="ALLOW"))
    first = (await ledger.schedules.get_schedule(KEY)).next_at
    clock.now = first
    await fire(ledger)
    clock.now += DAY
    while await fire(ledger):
        pass
    early = [run.tick_at for run in await runs_of(ledger)]
    assert early == [first + HOUR * number for number in range(25)]
    clock.now -= DAY
    assert await ledger.schedules.next_due_ms() <= 0, "it is looked at anew"
    assert [run for one in await fire(ledger) for run in one.runs] == []
    assert await ledger.schedules.next_due_ms() == HOUR
    for _ in range(30):
        clock.now += HOUR
        await fire(ledger)
    found = [run.tick_at for run in await runs_of(ledger)]
    assert found == [first + HOUR * number for number in range(31)]
    assert len(await jobs_of(ledger)) == 31


async def test_after_a_day_ahead_one_that_skips_goes_on_at_once(ledger, clock):
    """The times that it skipped in the future come, and fire."""
    await ledger.schedules.create_schedule(schedule(every_ms=HOUR))
    first = (await ledger.schedules.get_schedule(KEY)).next_at
    clock.now = first + DAY
    await fire(ledger)
    await of_job(ledger, job_id_of(KEY, first), JobState.SUCCEEDED)
    clock.now = first
    assert [run for one in await fire(ledger) for run in one.runs] == []
    for number in range(1, 25):
        clock.now = first + number * HOUR
        (fired,) = await fire(ledger)
        assert [run.outcome for run in fired.runs] == [SUBMITTED]
        await of_job(ledger, fired.runs[0].job_id, JobState.SUCCEEDED)
    assert len({one.job.job_id for one in await jobs_of(ledger)}) == 25


async def test_a_clock_that_is_corrected_by_a_second_changes_nothing(ledger, clock):
    await ledger.schedules.create_schedule(schedule(overlap="ALLOW"))
    clock.now += 5_000
    await fire(ledger)
    clock.now -= 1_900
    assert await ledger.schedules.next_due_ms() == 2_900
    assert await fire(ledger) == []
    clock.now += 2_900
    await fire(ledger)
    assert [run.tick_at for run in await runs_of(ledger)] == [START + 1_000 * number for number in range(1, 7)]


async def test_a_clock_that_is_set_back_loses_nothing_of_what_is_still_to_be_made_up_for(ledger, clock):
    await ledger.schedules.create_schedule(schedule(overlap="ALLOW"))
    clock.now += 250_000
    await fire(ledger)
    clock.now -= 10_000
    while await fire(ledger):
        pass
    clock.now += 10_000
    while await fire(ledger):
        pass
    assert [run.tick_at for run in await runs_of(ledger)] == [START + 1_000 * number for number in range(1, 251)]

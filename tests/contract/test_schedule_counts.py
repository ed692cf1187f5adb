"""Numbers about schedules, on every ledger."""

import pytest

from sickbay.domain.schedule import NewRun, Schedule, ScheduleKey, ScheduleSpec, ScheduleState, Timing, Trigger
from sickbay.ports.schedule_counts import ScheduleCounts
from tests.support.ledger_events import START, quarantined, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]


def schedule(schedule_id, state=ScheduleState.ACTIVE, *, tenant="default", next_at=START + 60_000, buffered_at=0):
    spec = ScheduleSpec("report", Timing(every_ms=60_000))
    next_at = next_at if state is ScheduleState.ACTIVE else 0
    return Schedule(ScheduleKey(tenant, schedule_id), spec, state, next_at=next_at, buffered_at=buffered_at)


async def enter(ledger, *some):
    for one in some:
        await ledger.schedules.create_schedule(one)


async def job_of(ledger, one, tick_at=START):
    """The id of a job that it has submitted now."""
    (run,) = await ledger.schedules.submit_runs(one.key, [NewRun(tick_at, tick_at, Trigger.TICK)])
    return run.job_id


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
    some = [schedule(name) for name in ("waits", "ill", "done")]
    await enter(ledger, *some)
    waits, ill, done = [await job_of(ledger, one) for one in some]
    assert len({waits, ill, done}) == 3
    assert (await ledger.schedule_statistics.count_schedules(5)).running == 3
    await ledger.writer.apply([quarantined(ill), succeeded(done)])
    assert (await ledger.schedule_statistics.count_schedules(5)).running == 1
    await ledger.schedules.settle_runs(100)
    assert (await ledger.schedule_statistics.count_schedules(5)).running == 1
    await ledger.writer.apply([succeeded(waits)])
    assert (await ledger.schedule_statistics.count_schedules(5)).running == 0


@pytest.mark.parametrize("named", [0, 1, 2, 5])
async def test_those_whose_latest_job_failed_are_named_up_to_a_limit(ledger, named):
    """Once they have heard of it; a schedule that has ended is past, and a job that is not the latest one, too."""
    ill = [schedule("b"), schedule("a", ScheduleState.PAUSED), schedule("a", tenant="acme"), schedule("ended", ScheduleState.ENDED)]
    healed, well = schedule("healed"), schedule("well")
    await enter(ledger, *ill, healed, well)
    jobs = [await job_of(ledger, one) for one in (*ill, healed)]
    await ledger.writer.apply([*map(quarantined, jobs), succeeded(await job_of(ledger, well))])
    await ledger.quarantine.discard(jobs[1], "", "ann")
    await ledger.writer.apply([succeeded(await job_of(ledger, healed, START + 1))])
    assert (await ledger.schedule_statistics.count_schedules(named)).failing == 0
    await ledger.schedules.settle_runs(100)
    counts = await ledger.schedule_statistics.count_schedules(named)
    assert counts.failing == 3
    assert list(counts.named) == [ScheduleKey("acme", "a"), ScheduleKey("default", "a"), ScheduleKey("default", "b")][:named]


async def test_a_failed_job_that_was_resubmitted_and_succeeded_is_none(ledger):
    one = schedule("nightly")
    await enter(ledger, one)
    job_id = await job_of(ledger, one)
    await ledger.writer.apply([quarantined(job_id)])
    await ledger.schedules.settle_runs(100)
    assert (await ledger.schedule_statistics.count_schedules(5)).failing == 1
    await ledger.writer.apply([succeeded(job_id, generation=1)])
    await ledger.schedules.settle_runs(100)
    assert (await ledger.schedule_statistics.count_schedules(5)).failing == 0

"""Schedules fire: one job for each time, by the policies; `test_schedule_clocks.py` has several control planes, and clocks."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import event

from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority
from sickbay.domain.queries import ScheduledJobQuery
from sickbay.domain.schedule import NewRun, RunOutcome, ScheduleKey, ScheduleState, Trigger, job_id_of
from sickbay.domain.schedule_firing import decide
from tests.support.clock import START
from tests.support.ledger_events import DAY
from tests.support.schedules import KEY, fire, jobs_of, of_job, runs_of, schedule

pytest_plugins = ["tests.support.ledger_fixtures"]

SKIPPED, REFUSED, SUBMITTED = RunOutcome.SKIPPED_OVERLAP, RunOutcome.SKIPPED_CIRCUIT_OPEN, RunOutcome.SUBMITTED
HOUR = 3_600_000


async def test_the_job_of_a_time_has_everything_of_its_schedule(ledger, clock):
    made = schedule(payload_json=b'{"night":1}', priority=Priority.HIGH, jitter_ms=500, key=ScheduleKey("acme", "nightly"))
    await ledger.schedules.create_schedule(made)
    assert await ledger.schedules.next_due_ms() == 1_000
    assert await fire(ledger) == []
    clock.now += 1_250
    assert await ledger.schedules.next_due_ms() == -250
    (fired,) = await fire(ledger)
    (run,) = fired.runs
    assert (run.tick_at, run.trigger, run.outcome, run.job_state) == (START + 1_000, Trigger.TICK, SUBMITTED, JobState.SCHEDULED)
    assert (run.job_id, run.handled_at, fired.late_ms) == (job_id_of(made.key, START + 1_000), START + 1_250, 250)
    record = await ledger.reader.get(run.job_id)
    job = record.job
    assert (record.state, job.job_type, job.tenant, job.priority, job.payload_json) == (
        *(JobState.SCHEDULED, "email", "acme", Priority.HIGH, b'{"night":1}'),
    )
    assert (job.schedule_id, job.tick_at, job.submitted_at, job.generation, job.attempt) == ("nightly", START + 1_000, clock.now, 0, 0)
    assert START + 1_000 <= job.run_at <= START + 1_500
    assert [(change.state, change.at) for change in await ledger.reader.history(run.job_id)] == [(JobState.SCHEDULED, clock.now)]
    after = await ledger.schedules.get_schedule(made.key)
    assert (after.next_at, after.last_run, after.etag) == (START + 2_000, run, made.etag)
    assert await ledger.schedules.next_due_ms() == 750
    assert await runs_of(ledger, made.key) == [run]


async def test_what_it_submitted_is_sent_like_every_job_that_is_due(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    clock.now += 1_000
    (fired,) = await fire(ledger)
    assert [one.job.job_id for one in (await ledger.scheduled_jobs.list_scheduled(ScheduledJobQuery(schedule_id="nightly"), 9, "")).items]
    (lease,) = await ledger.scheduled_jobs.lease_due(10)
    assert (lease.job.job_id, lease.job.generation, lease.job.tick_at) == (fired.runs[0].job_id, 1, START + 1_000)
    await ledger.quarantine.mark_released([lease])
    assert (await ledger.reader.get(lease.job.job_id)).state is JobState.QUEUED


async def test_whoever_watches_a_job_that_is_to_come_hears_of_it(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    async with ledger.reader.watch(job_id_of(KEY, START + 1_000)) as watcher:
        clock.now += 1_000
        await fire(ledger)
        async with asyncio.timeout(5):
            record, change = await anext(watcher)
    assert (record.job.job_id, change.state) == (job_id_of(KEY, START + 1_000), JobState.SCHEDULED)


HOLDING_UP = [JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING, JobState.RETRYING, JobState.PARKED]
ENDED = [JobState.SUCCEEDED, JobState.DISCARDED, JobState.CANCELLED, JobState.QUARANTINED]


@pytest.mark.parametrize("state", HOLDING_UP + ENDED)
async def test_which_states_of_its_job_hold_up_the_next_time(ledger, clock, state):
    await ledger.schedules.create_schedule(schedule())
    clock.now += 1_000
    await fire(ledger)
    await of_job(ledger, job_id_of(KEY, START + 1_000), state)
    clock.now += 1_000
    (fired,) = await fire(ledger)
    assert [run.outcome for run in fired.runs] == [SKIPPED if state in HOLDING_UP else SUBMITTED]


async def test_a_job_that_the_ledger_no_longer_has_holds_up_nothing(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    clock.now += 1_000
    await fire(ledger)
    await of_job(ledger, job_id_of(KEY, START + 1_000), JobState.SUCCEEDED)
    clock.now += 2 * DAY
    await ledger.writer.prune(clock.now)
    (fired,) = await fire(ledger)
    assert SUBMITTED in {run.outcome for run in fired.runs}


async def test_a_job_that_was_resubmitted_holds_up_again(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    clock.now += 1_000
    await fire(ledger)
    await of_job(ledger, job_id_of(KEY, START + 1_000), JobState.QUARANTINED)
    await ledger.schedules.settle_runs(100)
    await of_job(ledger, job_id_of(KEY, START + 1_000), JobState.RUNNING, generation=2)
    await ledger.schedules.settle_runs(100)
    clock.now += 1_000
    (fired,) = await fire(ledger)
    assert [run.outcome for run in fired.runs] == [SKIPPED]


async def test_one_waits_until_the_job_has_ended_and_fires_at_once_then(ledger, clock):
    await ledger.schedules.create_schedule(schedule(overlap="BUFFER_ONE"))
    clock.now += 1_000
    await fire(ledger)
    clock.now += 2_100
    (waiting,) = await fire(ledger)
    assert (waiting.schedule.buffered_at, waiting.late_ms) == (START + 2_000, 0)
    assert (await ledger.schedules.get_schedule(KEY)).buffered_at == START + 2_000
    assert await ledger.schedules.next_due_ms() == 900
    assert await fire(ledger) == []
    await of_job(ledger, job_id_of(KEY, START + 1_000), JobState.SUCCEEDED)
    assert await ledger.schedules.next_due_ms() == 0
    (fired,) = await fire(ledger)
    assert [(run.tick_at, run.outcome) for run in fired.runs] == [(START + 2_000, SUBMITTED)]
    assert (fired.schedule.buffered_at, fired.late_ms) == (0, 0), "it was not late: it waited"
    assert await fire(ledger) == []
    assert [(run.tick_at, run.outcome) for run in await runs_of(ledger)] == [
        (START + 1_000, SUBMITTED),
        (START + 2_000, SUBMITTED),
        (START + 3_000, SKIPPED),
    ]


async def test_each_asks_the_circuit_of_its_own_type_and_tenant(ledger, clock):
    names = [("acme", "email"), ("acme", "report"), ("other", "email")]
    for tenant, job_type in names:
        made = schedule(key=ScheduleKey(tenant, job_type), job_type=job_type, while_open="SKIP")
        await ledger.schedules.create_schedule(made)
    clock.now += 1_000
    fired = await ledger.schedules.fire_due(decide, lambda job_type, tenant: (job_type, tenant) == ("email", "acme"), 10)
    outcomes = {(one.schedule.key.tenant, one.schedule.spec.job_type): one.runs[0].outcome for one in fired}
    assert outcomes == {("acme", "email"): REFUSED, ("acme", "report"): SUBMITTED, ("other", "email"): SUBMITTED}


async def test_a_paused_one_does_not_fire_and_an_ended_one_says_so(ledger, clock):
    await ledger.schedules.create_schedule(schedule(end_at=START + 2_000))
    await ledger.schedules.create_schedule(schedule(key=ScheduleKey("default", "off"), state=ScheduleState.PAUSED, next_at=0))
    clock.now += 5_000
    (fired,) = await fire(ledger)
    assert fired.schedule.state is ScheduleState.ENDED
    after = await ledger.schedules.get_schedule(KEY)
    assert (after, after.revision, after.next_at) == (fired.schedule, 1, 0)
    assert await ledger.schedules.next_due_ms() is None


async def test_one_that_cannot_decide_is_paused_and_holds_up_no_other(ledger, clock):
    def fails_for_one(made, situation):
        if made.key == KEY:
            raise ValueError("no such zone")
        return decide(made, situation)

    await ledger.schedules.create_schedule(schedule())
    await ledger.schedules.create_schedule(schedule(key=ScheduleKey("default", "other")))
    clock.now += 1_000
    fired = {one.schedule.key: one for one in await ledger.schedules.fire_due(fails_for_one, lambda *_: False, 10)}
    assert fired[KEY].schedule.pause_note == "its times cannot be found: no such zone"
    assert await ledger.schedules.get_schedule(KEY) == fired[KEY].schedule
    assert [run.outcome for run in fired["default", "other"].runs] == [SUBMITTED]
    assert await ledger.schedules.next_due_ms() == 1_000


async def test_much_to_make_up_for_is_done_in_turns_that_hold_up_nobody(ledger, clock):
    """One is behind by 1,000 times: what is due now fires in the first turn, all the same."""
    await ledger.schedules.create_schedule(schedule(overlap="ALLOW"))
    clock.now += 1_000_000
    await ledger.schedules.create_schedule(schedule(key=ScheduleKey("default", "prompt"), next_at=clock.now))
    fired = await fire(ledger, limit=2)
    assert {one.schedule.key.schedule_id for one in fired} == {"nightly", "prompt"}
    turns = 1
    while await ledger.schedules.next_due_ms() <= 0:
        assert await fire(ledger, limit=2)
        turns += 1
    assert turns == 10
    assert [run.tick_at for run in await runs_of(ledger)] == [START + 1_000 * number for number in range(1, 1_001)]
    assert len({one.job.job_id for one in await jobs_of(ledger)}) == 1_000


async def test_a_transaction_submits_a_bounded_number_of_jobs(ledger, clock):
    for number in range(6):
        await ledger.schedules.create_schedule(schedule(key=ScheduleKey("default", f"s{number}"), overlap="ALLOW"))
    clock.now += 100_000
    fired = [await fire(ledger), await fire(ledger)]
    assert [sum(len(one.runs) for one in turn) for turn in fired] == [300, 300]
    assert not await fire(ledger)


async def test_a_time_that_somebody_has_made_up_for_gets_no_second_job(ledger, clock):
    await ledger.schedules.create_schedule(schedule(overlap="ALLOW"))
    clock.now += 3_000
    made = await ledger.schedules.submit_runs(KEY, [NewRun(START + 2_000, clock.now, Trigger.BACKFILL, actor="ann")])
    (fired,) = await fire(ledger)
    assert [run.tick_at for run in fired.runs] == [START + 1_000, START + 3_000]
    assert [run.trigger for run in await runs_of(ledger)] == [Trigger.TICK, Trigger.BACKFILL, Trigger.TICK]
    assert made[0] in await runs_of(ledger)


async def test_a_backfill_submits_what_has_no_job_and_says_what_had_one(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    clock.now += 3_000
    await fire(ledger)  # one job, and two times that were skipped
    wanted = [NewRun(START + 1_000 * number, clock.now, Trigger.BACKFILL, actor="ann") for number in range(4)]
    first = await ledger.schedules.submit_runs(KEY, wanted)
    assert [run and run.tick_at for run in first] == [START, None, START + 2_000, START + 3_000]
    assert {run.actor for run in first if run} == {"ann"}
    assert await ledger.schedules.submit_runs(KEY, wanted) == [None] * 4
    found = Counter((run.tick_at, run.outcome, run.count) for run in await runs_of(ledger))
    assert found == Counter([*((START + 1_000 * number, SUBMITTED, 1) for number in range(4)), (START + 3_000, SKIPPED, 2)])
    assert len(await jobs_of(ledger)) == 4
    assert (await ledger.schedules.get_schedule(KEY)).last_run.tick_at == START + 3_000
    assert await ledger.schedules.times_with_jobs(KEY, START + 1_000, START + 3_000) == {START + 1_000, START + 2_000}


async def test_the_jobs_of_a_backfill_hold_up_nothing(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    await ledger.schedules.submit_runs(KEY, [NewRun(START - 1_000, START, Trigger.BACKFILL)])
    clock.now += 1_000
    (fired,) = await fire(ledger)
    assert [run.outcome for run in fired.runs] == [SUBMITTED]


async def test_what_a_person_asks_for_runs_whatever_runs_and_holds_up_the_next_time(ledger, clock):
    await ledger.schedules.create_schedule(schedule(state=ScheduleState.PAUSED, next_at=0))
    twice = [NewRun(clock.now, clock.now, Trigger.MANUAL, actor="ann") for _ in range(2)]
    one, other = await ledger.schedules.submit_runs(KEY, twice)
    assert one.job_id != other.job_id
    await ledger.schedules.change_schedule(KEY, lambda found, now: replace(found, state=ScheduleState.ACTIVE, next_at=now + 1_000))
    clock.now += 1_000
    (fired,) = await fire(ledger)
    assert [run.outcome for run in fired.runs] == [SKIPPED]


async def test_a_request_that_is_sent_again_gets_the_run_of_the_first(ledger, clock):
    await ledger.schedules.create_schedule(schedule())
    (first,) = await ledger.schedules.submit_runs(KEY, [NewRun(clock.now, clock.now, Trigger.MANUAL, "r1", "ann")])
    clock.now += 700
    again = [NewRun(clock.now, clock.now, Trigger.MANUAL, name, "bob") for name in ("r1", "r2")]
    same, new = await ledger.schedules.submit_runs(KEY, again)
    assert same == first
    assert (new.tick_at, new.actor) == (clock.now, "bob")
    await ledger.schedules.create_schedule(schedule(key=ScheduleKey("other", "nightly")))
    (of_other,) = await ledger.schedules.submit_runs(ScheduleKey("other", "nightly"), again[:1])
    assert of_other.job_id not in {first.job_id, new.job_id}


async def test_a_megabyte_is_not_written_at_each_time(ledger, clock):
    """Only what has changed of the row is; a backfill of a hundred such jobs comes in pieces."""
    await ledger.schedules.create_schedule(schedule(payload_json=b'{"a":"' + b"x" * 1_000_000 + b'"}', overlap="ALLOW"))
    asked = []
    event.listen(ledger.store._writer.sync_engine, "before_cursor_execute", lambda *told: asked.append((told[2], str(told[3]))))
    clock.now += 1_000
    await fire(ledger)
    (changed,) = [values for sql, values in asked if sql.startswith("UPDATE schedules")]
    assert len(changed) < 2_000
    made = await ledger.schedules.submit_runs(KEY, [NewRun(START - 1_000 * number, START, Trigger.BACKFILL) for number in range(20)])
    assert len(made) == len(await runs_of(ledger)) - 1 == 20

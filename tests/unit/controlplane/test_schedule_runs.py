"""Jobs that ScheduleService submits: triggered, made up for, listed."""

import pytest

from sickbay.domain.errors import (
    InvalidArgument,
    NotFound,
    Unavailable,
)
from sickbay.schedules.v1 import schedule_pb2
from tests.support.schedule_ward import HOUR, open_ward, stamp


async def test_a_trigger_submits_a_job_now_once_for_each_key_whatever_the_state():
    async with open_ward() as ward:
        await ward.create(paused=True)
        first = (await ward("TriggerSchedule", schedule_id="nightly", request_id="k", actor="ada")).run
        assert (first.trigger, first.outcome, first.actor) == (first.TRIGGER_MANUAL, first.OUTCOME_SUBMITTED, "ada")
        assert first.tick_time.ToMilliseconds() == ward.clock.now
        job = (await ward.backends.reader.get(first.job_id)).job
        assert (job.job_type, job.schedule_id, job.run_at) == ("report", "nightly", ward.clock.now)
        ward.clock.now += 5
        assert (await ward("TriggerSchedule", schedule_id="nightly", request_id="k")).run == first
        others = [(await ward("TriggerSchedule", schedule_id="nightly", **key)).run for key in ({"request_id": "l"}, {}, {})]
        assert len({first.job_id, *(run.job_id for run in others)}) == 4
        runs = (await ward("ListScheduleRuns", schedule_id="nightly")).runs
        assert {run.job_id for run in runs} == {first.job_id, *(run.job_id for run in others)}
        assert ward.heard == ["change", "jobs", "jobs", "jobs", "jobs", "jobs"]
        assert (await ward.get()).last_run.job_id in {run.job_id for run in others}


async def test_a_trigger_that_was_not_told_is_repeated_with_its_key():
    """The ledger is away after the job was written: the repeat finds it."""
    async with open_ward() as ward:
        await ward.create()
        ward.schedules.fail("submit_runs", after=True)
        with pytest.raises(Unavailable):
            await ward("TriggerSchedule", schedule_id="nightly", request_id="k")
        told = (await ward("TriggerSchedule", schedule_id="nightly", request_id="k")).run
        assert [run.job_id for run in (await ward("ListScheduleRuns", schedule_id="nightly")).runs] == [told.job_id]


async def test_a_backfill_makes_up_for_times_that_have_no_job():
    async with open_ward() as ward:
        await ward.create(paused=True)
        hour = ward.clock.now - ward.clock.now % HOUR

        def window(first, last):
            return {"schedule_id": "nightly", "start_time": stamp(hour - first * HOUR), "end_time": stamp(hour - last * HOUR)}

        planned = await ward("BackfillSchedule", validate_only=True, **window(3, 0))
        assert [(run.tick_time.ToMilliseconds(), run.job_id, run.outcome) for run in planned.runs] == [
            (hour - number * HOUR, "", 0) for number in (3, 2, 1)
        ]
        assert planned.existing == 0
        assert list((await ward("ListScheduleRuns", schedule_id="nightly")).runs) == []
        done = await ward("BackfillSchedule", actor="ada", **window(3, 1))
        assert [(run.tick_time.ToMilliseconds(), run.trigger, run.actor) for run in done.runs] == [
            (hour - number * HOUR, schedule_pb2.ScheduleRun.TRIGGER_BACKFILL, "ada") for number in (3, 2)
        ]
        for validate_only in (True, False):
            more = await ward("BackfillSchedule", validate_only=validate_only, **window(4, 0))
            assert ([run.tick_time.ToMilliseconds() for run in more.runs], more.existing) == ([hour - 4 * HOUR, hour - HOUR], 2)
        nothing = await ward("BackfillSchedule", **window(4, 0))
        assert (list(nothing.runs), nothing.existing) == ([], 4)
        with pytest.raises(InvalidArgument, match="there are 1,001 times"):
            await ward("BackfillSchedule", **window(1_001, 0))
        with pytest.raises(NotFound):
            await ward("BackfillSchedule", **window(3, 0) | {"schedule_id": "other"})


async def test_runs_are_filtered_and_paged():
    async with open_ward() as ward:
        await ward.create()
        made = []
        for _ in range(3):
            ward.clock.now += 1
            made.append((await ward("TriggerSchedule", schedule_id="nightly")).run)
        first = await ward("ListScheduleRuns", schedule_id="nightly", page_size=2)
        assert list(first.runs) == made[:0:-1]
        rest = await ward("ListScheduleRuns", schedule_id="nightly", page_size=2, page_token=first.next_page_token)
        assert (list(rest.runs), rest.next_page_token) == ([made[0]], "")
        assert list((await ward("ListScheduleRuns", schedule_id="nightly", outcome="OUTCOME_MISSED")).runs) == []

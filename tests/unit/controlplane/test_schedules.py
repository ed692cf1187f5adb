"""ScheduleService on the embedded back ends: what is checked, stored and told, and who hears of it."""

import pytest

from sickbay.domain.errors import (
    Aborted,
    AlreadyExists,
    ErrorReason,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from sickbay.domain.job import JobState
from sickbay.schedules.v1 import schedule_pb2
from tests.support.schedule_ward import HOUR, SPEC, open_ward


async def test_a_schedule_is_created_read_and_listed():
    async with open_ward() as ward:
        made = await ward.create()
        assert [time.ToMilliseconds() for time in made.next_times] == [
            ward.clock.now - ward.clock.now % HOUR + number * HOUR for number in range(1, 6)
        ]
        assert made.description_of_times.startswith("At the start of every hour in UTC; next: Tue 2023-11-14 23:00 UTC, ")
        assert (made.state, made.origin, made.tenant) == (made.STATE_ACTIVE, made.ORIGIN_API, "default")
        assert await ward.get() == made
        assert ward.heard == ["change"]
        (listed,) = (await ward("ListSchedules")).schedules
        assert (listed.spec.WhichOneof("content"), list(listed.next_times), listed.etag) == (None, [made.next_times[0]], made.etag)
        with pytest.raises(AlreadyExists) as caught:
            await ward.create()
        assert caught.value.reason is ErrorReason.SCHEDULE_EXISTS
        assert await ward.get() == made


async def test_created_paused_it_waits():
    async with open_ward() as ward:
        made = await ward.create(paused=True, actor="ada")
        assert (made.state, list(made.next_times), made.paused_by) == (made.STATE_PAUSED, [], "ada")
        assert "; resumed now, it would run at: Tue 2023-11-14 23:00 UTC, " in made.description_of_times
        assert (await ward.get()) == made


async def test_what_is_only_validated_is_not_stored():
    async with open_ward() as ward:
        told = await ward.create(validate_only=True)
        assert len(told.next_times) == 5
        assert told.description_of_times
        with pytest.raises(NotFound):
            await ward.get()
        made = await ward.create()
        with pytest.raises(AlreadyExists):
            await ward.create(validate_only=True)
        changed = {"schedule_id": "nightly", "spec": schedule_pb2.ScheduleSpec(job_type="other", cron="@daily"), "validate_only": True}
        told = (await ward("UpdateSchedule", **changed)).schedule
        assert (told.spec.job_type, told.etag) == ("other", made.etag)
        with pytest.raises(Aborted):
            await ward("UpdateSchedule", etag="x", **changed)
        assert await ward.get() == made
        assert ward.heard == ["change"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cron": "0 25 * * *"}, "25"),
        ({"cron": "0 3 * *"}, "fields"),
        ({"cron": ""}, "it is not said when the schedule runs"),
        ({"timezone": "Europe/Berln"}, "did you mean Europe/Berlin"),
        ({"cron": "0 0 30 2 *"}, "the month 2 has no day 30"),
        ({"interval": {"seconds": 60}}, "two ways to say when it runs"),
        ({"end_time": {"seconds": 5}}, "is in the past"),
        ({"jitter": {"seconds": 3_600}}, "the jitter must be shorter"),
    ],
)
async def test_times_that_make_no_sense_are_said(fields, words):
    async with open_ward() as ward:
        for validate_only in (True, False):
            with pytest.raises(InvalidArgument, match=words) as caught:
                await ward.create(spec=fields, validate_only=validate_only)
            assert caught.value.reason is ErrorReason.INVALID_SCHEDULE
        made = await ward.create()
        with pytest.raises(InvalidArgument, match=words):
            await ward("UpdateSchedule", schedule_id="nightly", spec=schedule_pb2.ScheduleSpec(**SPEC | fields))
        assert await ward.get() == made


async def test_an_update_replaces_the_spec_and_the_same_one_changes_nothing():
    async with open_ward() as ward:
        made = await ward.create(spec={"description": "old", "pause_on_failure": True})
        ward.clock.now += 1_000
        spec = schedule_pb2.ScheduleSpec(job_type="report", interval={"seconds": 60})
        after = (await ward("UpdateSchedule", schedule_id="nightly", spec=spec, etag=made.etag)).schedule
        assert (after.spec.description, after.spec.pause_on_failure, after.spec.payload_json) == ("", False, "{}")
        assert after.next_times[0].ToMilliseconds() == ward.clock.now - ward.clock.now % 60_000 + 60_000
        assert after.etag != made.etag
        assert after.update_time.ToMilliseconds() == ward.clock.now
        with pytest.raises(Aborted) as caught:
            await ward("UpdateSchedule", schedule_id="nightly", spec=spec, etag=made.etag)
        assert caught.value.reason is ErrorReason.ETAG_MISMATCH
        again = (await ward("UpdateSchedule", schedule_id="nightly", spec=after.spec, etag=after.etag)).schedule
        assert again == after


async def test_a_schedule_that_is_over_may_be_sent_again_as_it_is():
    async with open_ward() as ward:
        made = await ward.create(spec={"end_time": {"seconds": ward.clock.now // 1000 + 7_200}})
        ward.clock.now += 24 * HOUR
        again = await ward("UpdateSchedule", schedule_id="nightly", spec=made.spec)
        assert again.schedule.etag == made.etag


async def test_pause_and_resume():
    async with open_ward() as ward:
        made = await ward.create()
        waiting = (await ward("PauseSchedule", schedule_id="nightly", note="holiday", actor="ada", etag=made.etag)).schedule
        assert (waiting.state, waiting.pause_note, waiting.paused_by) == (waiting.STATE_PAUSED, "holiday", "ada")
        assert list(waiting.next_times) == []
        again = (await ward("PauseSchedule", schedule_id="nightly")).schedule
        assert (again.pause_note, again.etag) == ("holiday", waiting.etag)
        noted = (await ward("PauseSchedule", schedule_id="nightly", note="longer", actor="bob")).schedule
        assert (noted.pause_note, noted.paused_by) == ("longer", "ada")
        with pytest.raises(Aborted):
            await ward("ResumeSchedule", schedule_id="nightly", etag=waiting.etag)
        ward.clock.now += 10 * HOUR
        resumed = (await ward("ResumeSchedule", schedule_id="nightly", etag=noted.etag)).schedule
        assert (resumed.state, resumed.pause_note, resumed.paused_by) == (resumed.STATE_ACTIVE, "", "")
        assert resumed.next_times[0].ToMilliseconds() == ward.clock.now - ward.clock.now % HOUR + HOUR
        assert (await ward("ResumeSchedule", schedule_id="nightly")).schedule == resumed
        assert ward.heard[-1] == "change"


async def test_a_schedule_in_code_is_changed_there_and_paused_here():
    live = {"nightly"}
    async with open_ward(
        may_be_in_code=lambda one: one.key.schedule_id in live, is_orphaned=lambda one: one.key.schedule_id not in live
    ) as ward:
        await ward.in_code()
        for validate_only in (True, False):
            with pytest.raises(FailedPrecondition, match=r"'nightly' is in the code of reports\.nightly: change it there") as caught:
                await ward("UpdateSchedule", schedule_id="nightly", spec=schedule_pb2.ScheduleSpec(**SPEC), validate_only=validate_only)
            assert caught.value.reason is ErrorReason.SCHEDULE_IN_CODE
        with pytest.raises(FailedPrecondition, match="remove it there and deploy that first") as caught:
            await ward("DeleteSchedule", schedule_id="nightly")
        assert caught.value.reason is ErrorReason.SCHEDULE_IN_CODE
        assert (await ward("PauseSchedule", schedule_id="nightly")).schedule.state == schedule_pb2.Schedule.STATE_PAUSED
        assert (await ward("ResumeSchedule", schedule_id="nightly")).schedule.state == schedule_pb2.Schedule.STATE_ACTIVE
        assert (await ward("TriggerSchedule", schedule_id="nightly")).run.job_id
        assert not (await ward.get()).orphaned
        live.clear()
        assert (await ward.get()).orphaned
        assert [one.orphaned for one in (await ward("ListSchedules")).schedules] == [True]
        await ward("DeleteSchedule", schedule_id="nightly")
        with pytest.raises(NotFound):
            await ward.get()


async def test_deleting_takes_the_runs_and_leaves_the_jobs():
    async with open_ward() as ward:
        made = await ward.create()
        run = (await ward("TriggerSchedule", schedule_id="nightly")).run
        with pytest.raises(Aborted):
            await ward("DeleteSchedule", schedule_id="nightly", etag="x")
        await ward("DeleteSchedule", schedule_id="nightly", etag=made.etag)
        with pytest.raises(NotFound):
            await ward("ListScheduleRuns", schedule_id="nightly")
        with pytest.raises(NotFound):
            await ward("DeleteSchedule", schedule_id="nightly")
        assert (await ward.backends.reader.get(run.job_id)).state is JobState.SCHEDULED
        await ward.create()
        assert list((await ward("ListScheduleRuns", schedule_id="nightly")).runs) == []


async def test_lists_are_filtered_and_paged():
    async with open_ward() as ward:
        for name in "cab":
            await ward.create(name, paused=name == "a")
        await ward.in_code("d")
        listed = await ward("ListSchedules", page_size=2)
        assert [one.schedule_id for one in listed.schedules] == ["a", "b"]
        rest = await ward("ListSchedules", page_size=2, page_token=listed.next_page_token)
        assert [one.schedule_id for one in rest.schedules] == ["c", "d"]
        assert not rest.next_page_token
        for fields, names in [
            ({"state": "STATE_PAUSED"}, ["a"]),
            ({"origin": "ORIGIN_CODE"}, ["d"]),
            ({"job_type": "other"}, []),
            ({"tenant": "acme"}, []),
        ]:
            assert [one.schedule_id for one in (await ward("ListSchedules", **fields)).schedules] == names
        with pytest.raises(InvalidArgument) as caught:
            await ward("ListSchedules", state="STATE_PAUSED", page_token=listed.next_page_token)
        assert caught.value.reason is ErrorReason.INVALID_PAGE_TOKEN


async def test_a_payload_that_a_submit_would_reject_is_rejected():
    class Types:
        async def rejection_now(self, job_type, payload_json):
            return (
                InvalidArgument(f"the payload is not one of {job_type}", ErrorReason.INVALID_PAYLOAD) if b"secret" in payload_json else None
            )

    async with open_ward(types=Types()) as ward:
        with pytest.raises(InvalidArgument, match="not one of report"):
            await ward.create()
        made = await ward.create(spec={"payload_json": "{}"})
        with pytest.raises(InvalidArgument, match="not one of report"):
            await ward("UpdateSchedule", schedule_id="nightly", spec=schedule_pb2.ScheduleSpec(**SPEC))
        assert await ward.get() == made

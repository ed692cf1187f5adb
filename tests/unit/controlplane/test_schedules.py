"""ScheduleService on the embedded back ends: what is checked, stored, told, and who hears of it."""

from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from controlplane.schedule_service import ScheduleApi
from sickbay.domain.access import Principal, Role
from sickbay.domain.errors import (
    Aborted,
    AlreadyExists,
    ErrorReason,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from sickbay.domain.job import JobState
from sickbay.domain.schedule import Origin, Schedule, ScheduleKey, ScheduleSpec, Timing
from sickbay.ports.access import Credentials
from sickbay.schedules.v1 import schedule_pb2
from sickbay.schedules.v1 import schedule_service_pb2 as pb
from sickbay.server.access.caller import Caller
from sickbay.server.audit.notes import AuditedContext
from tests.support.embedded_backends import open_backends

HOUR = 3_600_000
SPEC = {"job_type": "report", "cron": "0 * * * *", "payload_json": '{"secret": 1}'}
OURS = Principal("ann", frozenset({Role.OPERATE}), frozenset({"acme"}))
VIEWER = Principal("vic", frozenset({Role.VIEW}), frozenset({"acme"}))


class Ward:
    """A service, its calls, and what it has told others."""

    def __init__(self, backends, **options):
        self.backends, self.heard = backends, []
        self.schedules, self.clock = backends.schedules, backends.clock
        hears = {"on_change": lambda: self.heard.append("change"), "on_submitted": lambda: self.heard.append("jobs")}
        self.api = ScheduleApi(backends.schedules, **hears, **options)
        self.notes = None

    async def __call__(self, method, *, principal=None, **fields):
        context = None
        if principal is not None:
            context = AuditedContext(SimpleNamespace(), Caller(principal, Credentials()))
            self.notes = context.notes
        return await getattr(self.api, method)(getattr(pb, f"{method}Request")(**fields), context)

    async def create(self, name="nightly", **fields):
        spec = schedule_pb2.ScheduleSpec(**SPEC | fields.pop("spec", {}))
        return (await self("CreateSchedule", schedule_id=name, spec=spec, **fields)).schedule

    async def get(self, name="nightly", **fields):
        return (await self("GetSchedule", schedule_id=name, **fields)).schedule

    async def in_code(self, name="nightly", tenant="default"):
        now = self.clock.now
        spec = ScheduleSpec("report", Timing(cron="0 * * * *"))
        made = Schedule(ScheduleKey(tenant, name), spec, origin=Origin.CODE, created_at=now, handler="reports.nightly", next_at=now + HOUR)
        await self.schedules.create_schedule(made)


@asynccontextmanager
async def open_ward(**options):
    async with open_backends() as backends:
        yield Ward(backends, **options)


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


def stamp(ms):
    return {"seconds": ms // 1000}


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


CHANGES = ("UpdateSchedule", "DeleteSchedule", "PauseSchedule", "ResumeSchedule", "TriggerSchedule", "BackfillSchedule")


@pytest.mark.parametrize("method", ["GetSchedule", "ListScheduleRuns", *CHANGES])
async def test_what_another_tenant_has_does_not_exist(method):
    async with open_ward() as ward:
        await ward.create(tenant="beta")
        before = await ward.schedules.get_schedule(ScheduleKey("beta", "nightly"))
        more = {"spec": schedule_pb2.ScheduleSpec(**SPEC)} if method == "UpdateSchedule" else {}
        if method == "BackfillSchedule":
            more = {"start_time": stamp(ward.clock.now - 5 * HOUR), "end_time": stamp(ward.clock.now)}
        said = set()
        for tenant in ("beta", "gamma", "acme", ""):
            with pytest.raises(NotFound) as caught:
                await ward(method, principal=OURS, schedule_id="nightly", tenant=tenant, **more)
            said.add((str(caught.value), caught.value.reason))
        assert said == {("there is no schedule 'nightly'", ErrorReason.SCHEDULE_NOT_FOUND)}
        assert await ward.schedules.get_schedule(ScheduleKey("beta", "nightly")) == before


async def test_a_new_one_is_of_the_principals_tenant_and_changes_are_by_its_name():
    async with open_ward() as ward:
        made = await ward.create(principal=OURS, paused=True, actor="somebody else")
        assert (made.tenant, made.paused_by) == ("acme", "ann")
        with pytest.raises(PermissionDenied):
            await ward.create(principal=OURS, tenant="beta")
        run = (await ward("TriggerSchedule", principal=OURS, schedule_id="nightly", actor="somebody else")).run
        assert run.actor == "ann"


async def test_payloads_are_hidden_from_those_who_may_not_read_them():
    async with open_ward() as ward:
        await ward.create(tenant="acme")
        assert (await ward.get(principal=OURS)).spec.payload_json == SPEC["payload_json"]
        seen = await ward.get(principal=VIEWER)
        assert (seen.payload_hidden, seen.spec.WhichOneof("content")) == (True, None)


async def test_each_action_says_what_has_changed():
    async with open_ward() as ward:

        async def noted(method, **fields):
            await ward(method, principal=OURS, schedule_id="nightly", **fields)
            assert ward.notes.tenant == "acme"
            return ward.notes.before, ward.notes.after

        spec = schedule_pb2.ScheduleSpec(**SPEC)
        before, after = await noted("CreateSchedule", spec=spec, validate_only=True)
        assert (before, after) == ("", "nothing (validate_only)")
        before, after = await noted("CreateSchedule", spec=spec)
        assert before == ""
        assert after.startswith("ACTIVE, job_type=report, payload_json=(13 characters), priority=PRIORITY_NORMAL, cron=0 * * * *")
        spec.cron = "30 * * * *"
        assert await noted("UpdateSchedule", spec=spec) == ("ACTIVE, cron=0 * * * *", "ACTIVE, cron=30 * * * *")
        assert await noted("PauseSchedule") == ("ACTIVE", "PAUSED")
        assert await noted("ResumeSchedule") == ("PAUSED", "ACTIVE")
        assert (await noted("TriggerSchedule"))[1].startswith("job ")
        window = {"start_time": stamp(ward.clock.now - 5 * HOUR), "end_time": stamp(ward.clock.now)}
        assert (await noted("BackfillSchedule", **window))[1] == "5 jobs"
        assert (await noted("DeleteSchedule"))[1] == "deleted"
        assert ward.notes.before.startswith("ACTIVE, job_type=report")


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

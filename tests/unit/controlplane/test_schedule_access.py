"""Who may read and change schedules, and what the audit log hears of it."""

import pytest

from sickbay.domain.access import Principal, Role
from sickbay.domain.errors import (
    ErrorReason,
    NotFound,
    PermissionDenied,
)
from sickbay.domain.schedule import ScheduleKey
from sickbay.schedules.v1 import schedule_pb2
from tests.support.schedule_ward import HOUR, SPEC, open_ward, stamp

OURS = Principal("ann", frozenset({Role.OPERATE}), frozenset({"acme"}))
VIEWER = Principal("vic", frozenset({Role.VIEW}), frozenset({"acme"}))


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

"""A fake control plane with schedules, for the tests of commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from sickbay.contract.faults import Fault
from sickbay.schedules.v1 import schedule_pb2, schedule_service_pb2
from tests.support.cli_services import Fleet, schedule, schedule_run

Known = dict[tuple[str, str], schedule_pb2.Schedule]
"""Schedules with their payloads, by tenant and id."""

GONE = Fault(grpc.StatusCode.NOT_FOUND, "the tenant default has no schedule x", "SCHEDULE_NOT_FOUND")
BAD = Fault(grpc.StatusCode.INVALID_ARGUMENT, "cron: the hour 30 is not 0 to 23", "INVALID_SCHEDULE")
STALE = Fault(grpc.StatusCode.ABORTED, "the schedule has changed; read it again", "ETAG_MISMATCH")


def usual_schedules() -> Known:
    """The schedules of the fake control plane, with their payloads."""
    return {
        ("default", "nightly"): schedule(payload='{"of": "night"}'),
        ("default", "hourly"): schedule("hourly", cron="@hourly", timezone=""),
    }


@contextmanager
def schedule_fleet(known: Known) -> Iterator[Fleet]:
    """Answers as a control plane with these schedules does; what is changed changes them."""

    def answer(method: str, of: Any):
        def found(request: Any) -> Any:
            one = known.get((request.tenant or "default", request.schedule_id))
            return GONE if one is None else of(one)

        started.answers[method] = found

    def made(request: Any) -> schedule_pb2.Schedule:
        one = schedule(request.schedule_id)
        one.tenant = request.tenant or "default"
        one.spec.CopyFrom(request.spec)
        if not request.validate_only:
            known[one.tenant, one.schedule_id] = one
        return one

    def deleted(request: Any) -> Any:
        del known[request.tenant or "default", request.schedule_id]
        return pb.DeleteScheduleResponse()

    def listed(request: Any) -> Any:
        found = []
        for (tenant, _), one in sorted(known.items()):
            if (tenant == request.tenant or not request.tenant) and request.origin in {0, one.origin}:
                brief = schedule_pb2.Schedule()
                brief.CopyFrom(one)
                brief.spec.ClearField("content")
                found.append(brief)
        return pb.ListSchedulesResponse(schedules=found)

    pb = schedule_service_pb2
    with Fleet() as started:
        answer("GetSchedule", lambda one: pb.GetScheduleResponse(schedule=one))
        answer("PauseSchedule", lambda one: pb.PauseScheduleResponse(schedule=schedule(one.schedule_id, "PAUSED")))
        answer("ResumeSchedule", lambda one: pb.ResumeScheduleResponse(schedule=one))
        answer("TriggerSchedule", lambda _: pb.TriggerScheduleResponse(run=schedule_run(job_state="QUEUED")))
        answer("BackfillSchedule", lambda _: pb.BackfillScheduleResponse(runs=[schedule_run(), schedule_run()], existing=3))
        answer("ListScheduleRuns", lambda _: pb.ListScheduleRunsResponse(runs=[schedule_run(), schedule_run("MISSED", count=7)]))
        started.answers["CreateSchedule"] = lambda request: pb.CreateScheduleResponse(schedule=made(request))
        started.answers["UpdateSchedule"] = lambda request: pb.UpdateScheduleResponse(schedule=made(request))
        started.answers["DeleteSchedule"] = deleted
        started.answers["ListSchedules"] = listed
        yield started


def sent(fleet: Fleet, method: str) -> list[Any]:
    return [request for name, request in fleet.calls if name == method]


def changes(fleet: Fleet) -> list[str]:
    """What was changed, not only checked."""
    return [name for name, request in fleet.calls if name[:3] in {"Cre", "Upd", "Del"} and not getattr(request, "validate_only", False)]

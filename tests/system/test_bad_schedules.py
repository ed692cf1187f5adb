"""Schedules that make no sense are refused by both doors, with one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from sickbay.schedules.v1 import schedule_pb2
from sickbay.schedules.v1 import schedule_service_pb2 as pb
from sickbay.schedules.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from tests.support.clients import Clients, refusal
from tests.support.leaks import assert_for_people
from tests.system.test_bad_input_rest import assert_refused

MIB = 1024 * 1024


@pytest.fixture
def stub(sickbay: Clients) -> Iterator[Any]:
    """Of the service."""
    with grpc.insecure_channel(f"127.0.0.1:{sickbay.grpc_ports['Control plane']}") as channel:
        yield ScheduleServiceStub(channel)


def spec(**fields: Any) -> dict[str, Any]:
    return {"scheduleId": "bad", "spec": {"jobType": "healthy", "cron": "0 3 * * *", **fields}}


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing": ({}, 400, "INVALID_FIELD"),
    "no spec": ({"scheduleId": "bad"}, 400, "INVALID_FIELD"),
    "no name": ({**spec(), "scheduleId": ""}, 400, "INVALID_FIELD"),
    "bad name": ({**spec(), "scheduleId": "A B"}, 400, "INVALID_FIELD"),
    "bad tenant": ({**spec(), "tenant": "A/B"}, 400, "INVALID_FIELD"),
    "long actor": ({**spec(), "by": "x" * 129}, 400, "INVALID_FIELD"),
    "unknown field": ({**spec(), "crom": 5}, 400, "INVALID_FIELD"),
    "unknown field of the spec": (spec(crom="5"), 400, "INVALID_FIELD"),
    "no job type": (spec(jobType=""), 400, "INVALID_JOB_TYPE"),
    "no times": (spec(cron=""), 400, "INVALID_SCHEDULE"),
    "both times": (spec(intervalSeconds=60), 400, "INVALID_SCHEDULE"),
    "bad cron": (spec(cron="0 25 * * *"), 400, "INVALID_SCHEDULE"),
    "never": (spec(cron="0 0 31 4 *"), 400, "INVALID_SCHEDULE"),
    "long cron": (spec(cron="*" * 300), 400, "INVALID_FIELD"),
    "cron a number": (spec(cron=5), 400, "INVALID_FIELD"),
    "bad zone": (spec(timezone="Europe/Berln"), 400, "INVALID_SCHEDULE"),
    "zone a path": (spec(timezone="../../etc/passwd"), 400, "INVALID_SCHEDULE"),
    "short interval": (spec(cron="", intervalSeconds=0.5), 400, "INVALID_FIELD"),
    "interval of nothing": (spec(cron="", intervalSeconds=0), 400, "INVALID_FIELD"),
    "negative interval": (spec(cron="", intervalSeconds=-60), 400, "INVALID_FIELD"),
    "interval a text": (spec(cron="", intervalSeconds="1m"), 400, "INVALID_FIELD"),
    "endless interval": (spec(cron="", intervalSeconds=1e300), 400, "INVALID_FIELD"),
    "past end": (spec(endAt="2020-01-01T00:00:00Z"), 400, "INVALID_SCHEDULE"),
    "end before start": (spec(startAt="2040-01-01T00:00:00Z", endAt="2039-01-01T00:00:00Z"), 400, "INVALID_SCHEDULE"),
    "start without a zone": (spec(startAt="2040-01-01T00:00:00"), 400, "INVALID_FIELD"),
    "start in words": (spec(startAt="tomorrow"), 400, "INVALID_FIELD"),
    "long jitter": (spec(jitterSeconds=86_401), 400, "INVALID_FIELD"),
    "jitter as long as the interval": (spec(cron="", intervalSeconds=60, jitterSeconds=60), 400, "INVALID_SCHEDULE"),
    "long window": (spec(catchUpWindowSeconds=1e9), 400, "INVALID_FIELD"),
    "negative window": (spec(catchUpWindowSeconds=-1), 400, "INVALID_FIELD"),
    "unknown overlap": (spec(overlap="QUEUE"), 400, "INVALID_FIELD"),
    "unknown while open": (spec(whileOpen="WAIT"), 400, "INVALID_FIELD"),
    "unknown priority": (spec(priority="URGENT"), 400, "INVALID_FIELD"),
    "flag a text": (spec(pauseOnFailure="yes"), 400, "INVALID_FIELD"),
    "long description": (spec(description="x" * 501), 400, "INVALID_FIELD"),
    "payload a list": (spec(payload=[]), 400, "INVALID_PAYLOAD"),
    "payload a string": (spec(payload="{}"), 400, "INVALID_PAYLOAD"),
    "payload too large": (spec(payload={"a": "x" * MIB}), 413, "PAYLOAD_TOO_LARGE"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_schedule_is_refused(case: str, sickbay: Clients):
    body, status, reason = BAD[case]
    assert_refused(sickbay.plane.post("/schedules", json=body), status, reason)
    assert sickbay.plane.get("/schedules/bad").status_code == 404


def test_a_mistake_is_told_with_the_next_five_times(sickbay: Clients):
    told = assert_refused(sickbay.plane.post("/schedules", json=spec(timezone="Europe/Berln")), 400, "INVALID_SCHEDULE")
    assert "did you mean Europe/Berlin?" in told
    assert told.count(" 03:00 CE") == 5


def request(**fields: Any) -> pb.CreateScheduleRequest:
    known = {"job_type": "healthy", "cron": "0 3 * * *"} | fields
    return pb.CreateScheduleRequest(schedule_id="bad", spec=schedule_pb2.ScheduleSpec(**known))


INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
GRPC: dict[str, tuple[Callable[[Any], Any], grpc.StatusCode, str]] = {
    "nothing": (lambda s: s.CreateSchedule(pb.CreateScheduleRequest()), INVALID, "INVALID_FIELD"),
    "bad cron": (lambda s: s.CreateSchedule(request(cron="every day")), INVALID, "INVALID_SCHEDULE"),
    "bad duration": (lambda s: s.CreateSchedule(request(cron="", interval=Duration(seconds=5, nanos=-1))), INVALID, "INVALID_FIELD"),
    "unknown overlap": (lambda s: s.CreateSchedule(request(overlap=77)), INVALID, "INVALID_FIELD"),
    "unknown": (lambda s: s.GetSchedule(pb.GetScheduleRequest(schedule_id="unknown")), MISSING, "SCHEDULE_NOT_FOUND"),
    "no name": (lambda s: s.GetSchedule(pb.GetScheduleRequest()), INVALID, "INVALID_FIELD"),
    "unknown paused": (lambda s: s.PauseSchedule(pb.PauseScheduleRequest(schedule_id="unknown")), MISSING, "SCHEDULE_NOT_FOUND"),
    "unknown resumed": (lambda s: s.ResumeSchedule(pb.ResumeScheduleRequest(schedule_id="unknown")), MISSING, "SCHEDULE_NOT_FOUND"),
    "unknown triggered": (lambda s: s.TriggerSchedule(pb.TriggerScheduleRequest(schedule_id="unknown")), MISSING, "SCHEDULE_NOT_FOUND"),
    "unknown deleted": (lambda s: s.DeleteSchedule(pb.DeleteScheduleRequest(schedule_id="unknown")), MISSING, "SCHEDULE_NOT_FOUND"),
    "unknown listed": (lambda s: s.ListScheduleRuns(pb.ListScheduleRunsRequest(schedule_id="unknown")), MISSING, "SCHEDULE_NOT_FOUND"),
    "no window": (lambda s: s.BackfillSchedule(pb.BackfillScheduleRequest(schedule_id="unknown")), INVALID, "INVALID_FIELD"),
    "page size": (lambda s: s.ListSchedules(pb.ListSchedulesRequest(page_size=1001)), INVALID, "INVALID_FIELD"),
    "page token": (lambda s: s.ListSchedules(pb.ListSchedulesRequest(page_token="nonsense")), INVALID, "INVALID_PAGE_TOKEN"),
    "unknown state": (lambda s: s.ListSchedules(pb.ListSchedulesRequest(state=77)), INVALID, "INVALID_FIELD"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", GRPC)
def test_bad_input_over_grpc_is_refused(case: str, stub: Any):
    call, code, reason = GRPC[case]
    with pytest.raises(grpc.RpcError) as caught:
        call(stub)
    found, why, message = refusal(caught.value)
    assert (found, why) == (code, reason)
    assert_for_people(message)

"""What is sent again is safe by the contract, and both clients have the same methods."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime

import pytest
from google.protobuf.descriptor_pb2 import MethodOptions

from sickbay.breakers.v1 import breaker_service_pb2
from sickbay.client import (
    AsyncClient,
    Client,
    ScheduleSpec,
    breaker_calls,
    job_calls,
    quarantine_calls,
    schedule_calls,
    scheduled_calls,
    type_calls,
)
from sickbay.client.calls import Call, Pages, Server, Watch
from sickbay.jobs.v1 import job_service_pb2, job_type_service_pb2, quarantine_service_pb2, scheduled_job_service_pb2
from sickbay.schedules.v1 import schedule_service_pb2

SERVICES = {
    "JobServiceStub": job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
    "JobTypeServiceStub": job_type_service_pb2.DESCRIPTOR.services_by_name["JobTypeService"],
    "BreakerServiceStub": breaker_service_pb2.DESCRIPTOR.services_by_name["BreakerService"],
    "QuarantineServiceStub": quarantine_service_pb2.DESCRIPTOR.services_by_name["QuarantineService"],
    "ScheduledJobServiceStub": scheduled_job_service_pb2.DESCRIPTOR.services_by_name["ScheduledJobService"],
    "ScheduleServiceStub": schedule_service_pb2.DESCRIPTOR.services_by_name["ScheduleService"],
}
ARGUMENTS = {
    "spec": ScheduleSpec("report", cron="@daily"),
    "start_time": datetime(2024, 1, 1, tzinfo=UTC),
    "end_time": datetime(2024, 1, 2, tzinfo=UTC),
}
"""What "{}" cannot be."""
SAFE = (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)


def described():
    """Every call of the clients, with the arguments that it needs."""
    for module in (job_calls, breaker_calls, quarantine_calls, scheduled_calls, schedule_calls, type_calls):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            answer = str(function.__annotations__["return"])
            if answer.startswith(("Call[", "Pages[", "Watch[")) and not name.startswith("_"):
                taken = inspect.signature(function).parameters.values()
                needed = [one for one in taken if one.default is one.empty or (one.name == "payload" and one.kind is not one.KEYWORD_ONLY)]
                yield pytest.param(
                    function(*(ARGUMENTS.get(one.name, "{}") for one in needed)), id=f"{module.__name__.rpartition('.')[2]}.{name}"
                )


@pytest.mark.parametrize("call", list(described()))
def test_what_is_sent_again_is_safe_by_the_contract(call: Call | Pages | Watch):
    method = SERVICES[call.rpc.stub.__name__].methods_by_name[call.rpc.method]
    assert method.input_type.full_name == call.request.DESCRIPTOR.full_name
    assert method.server_streaming == isinstance(call, Watch)
    if isinstance(call, Call) and call.is_safe:
        has_key = "request_id" in call.request.DESCRIPTOR.fields_by_name and call.request.request_id
        assert method.GetOptions().idempotency_level in SAFE or has_key


def test_every_rpc_is_there():
    """RequeueJobs and GetMetrics are for operators, who have the command."""
    known = {parameter.values[0].rpc.method for parameter in described()} | {job_calls.BATCH.method}
    all_of_them = {name for service in SERVICES.values() for name in service.methods_by_name}
    assert all_of_them - known == {"RequeueJobs", "GetMetrics"}
    assert {parameter.values[0].rpc.server for parameter in described()} == set(Server)


def methods(kind):
    return {name: inspect.signature(value) for name, value in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_documentation():
    one, other = Client(), AsyncClient()
    groups = ("breakers", "quarantine", "scheduled_jobs", "schedules")
    for left, right in ((one, other), *((getattr(one, name), getattr(other, name)) for name in groups)):
        ours, theirs = methods(type(left)), methods(type(right))
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert list(ours[name].parameters) == list(theirs[name].parameters)
            assert getattr(type(left), name).__doc__
            assert getattr(type(left), name).__qualname__ == f"{type(left).__name__}.{name}"
    assert list(inspect.signature(one.get).parameters) == ["job_id", "timeout"]

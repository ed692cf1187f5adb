"""The gateways cover the contract, their documentation is true, and needs no internet."""

import re

import httpx
import pytest
from pydantic import BaseModel, TypeAdapter

from controlplane.rest import app as plane_rest
from jobapi import rest as jobs_rest
from sickbay.audit.v1 import audit_service_pb2
from sickbay.breakers.v1 import breaker_pb2, breaker_service_pb2, incident_service_pb2
from sickbay.breakers.v1.explanation_pb2 import BreakerExplanation
from sickbay.domain.breaker import BreakerState
from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.explanation import BreakerReason, BreakerStep, JobReason, JobStep
from sickbay.domain.job import JobState, Reason
from sickbay.domain.schedule import Origin, Overlap, RunOutcome, ScheduleState, Trigger, WhileOpen
from sickbay.jobs.v1 import (
    error_reason_pb2,
    job_pb2,
    job_service_pb2,
    job_type_service_pb2,
    quarantine_service_pb2,
    scheduled_job_service_pb2,
    worker_service_pb2,
)
from sickbay.jobs.v1.explanation_pb2 import JobExplanation
from sickbay.schedules.v1 import schedule_pb2, schedule_service_pb2
from sickbay.server.enums import number
from sickbay.server.health import Health
from sickbay.server.rest import schemas
from sickbay.server.rest.transcoding.kinds import of_enum
from sickbay.telemetry.metrics import MetricsRegistry
from worker import rest as worker_rest

GRPC_ONLY = frozenset({"Work"})
"""RPCs without a route, each with its reason: Work is a stream in both directions."""


def apps():
    health = Health()
    return [
        jobs_rest.create_gateway(None, health, MetricsRegistry("jobapi"), "1", types=None),
        plane_rest.create_gateway(
            None,
            None,
            health,
            MetricsRegistry("controlplane"),
            "1",
            incidents=None,
            scheduled_jobs=None,
            workers=None,
            audit=None,
            schedules=None,
        ),
        worker_rest.create_gateway(health, MetricsRegistry("worker"), "1"),
    ]


def operations():
    return {route["operationId"] for app in apps() for path in app.openapi()["paths"].values() for route in path.values()}


def rpcs():
    files = (
        *(job_service_pb2, job_type_service_pb2, quarantine_service_pb2, worker_service_pb2),
        *(breaker_service_pb2, incident_service_pb2, audit_service_pb2, schedule_service_pb2, scheduled_job_service_pb2),
    )
    return {method.name for file in files for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods}


def test_every_rpc_has_a_route_or_a_reason():
    assert rpcs() - GRPC_ONLY == operations() - {"Health", "HealthLive", "HealthReady", "Scrape"}


@pytest.mark.parametrize("app", apps(), ids=lambda app: app.title)
async def test_the_documentation_page_refers_to_no_other_host(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        page = (await client.get("/docs")).text
        assert re.findall(r"(?:src|href)=[\"'](?:https?:)?//", page) == []
        assets = re.findall(r"(?:src|href)=[\"']([^\"']+)", page)
        assert assets
        for asset in assets:
            assert (await client.get(asset)).status_code == 200


@pytest.mark.parametrize(("names", "enum"), [(schemas._StateName, JobState), (schemas._BreakerName, BreakerState)])
def test_documented_names_are_the_domains(names, enum):
    assert TypeAdapter(names).json_schema()["enum"] == [one.value for one in enum]


@pytest.mark.parametrize(
    ("names", "enum"),
    [
        (job_pb2.Job.State, JobState),
        (quarantine_service_pb2.QuarantinedJob.Reason, Reason),
        (breaker_pb2.Breaker.State, BreakerState),
        (JobExplanation.Reason, JobReason),
        (JobExplanation.NextStep, JobStep),
        (BreakerExplanation.Reason, BreakerReason),
        (BreakerExplanation.NextStep, BreakerStep),
        (schedule_pb2.Schedule.State, ScheduleState),
        (schedule_pb2.Schedule.Origin, Origin),
        (schedule_pb2.ScheduleRun.Trigger, Trigger),
        (schedule_pb2.ScheduleRun.Outcome, RunOutcome),
        (schedule_pb2.DESCRIPTOR.enum_types_by_name["Overlap"], Overlap),
        (schedule_pb2.DESCRIPTOR.enum_types_by_name["WhileOpen"], WhileOpen),
    ],
)
def test_the_contracts_names_are_the_domains(names, enum):
    assert of_enum(getattr(names, "DESCRIPTOR", names)).schema["enum"] == [one.value for one in enum]


def test_every_schema_says_what_it_is():
    models = [
        model for model in vars(schemas).values() if isinstance(model, type) and issubclass(model, BaseModel) and model is not BaseModel
    ]
    assert len(models) > 10
    assert all(model.__doc__ for model in models)


@pytest.mark.parametrize("app", apps(), ids=lambda app: app.title)
def test_the_contracts_comments_are_the_documentation(app):
    document = app.openapi()
    assert all(schema.get("description") for name, schema in document["components"]["schemas"].items() if "ValidationError" not in name)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all(operation.get("description") for operation in operations)
    parameters = [parameter for operation in operations for parameter in operation.get("parameters", [])]
    assert all(parameter.get("description") for parameter in parameters)


def test_reasons_of_errors_are_the_contracts():
    names = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118 - an enum wrapper
    assert names - {"UNSPECIFIED"} == {reason.value for reason in ErrorReason}


def test_enum_names_in_queries_are_read_and_wrong_ones_listed():
    from sickbay.jobs.v1.job_pb2 import Job

    assert number(Job.State, "STATE", "") == 0
    assert number(Job.State, "STATE", "PARKED") == Job.STATE_PARKED
    for wrong in ("parked", "UNSPECIFIED", "X" * 500):
        with pytest.raises(InvalidArgument, match="use one of QUEUED, RUNNING"):
            number(Job.State, "STATE", wrong)


async def test_health_follows_the_service():
    health = Health()
    health.begin()
    app = worker_rest.create_gateway(health, MetricsRegistry("worker"), "1")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        well = await client.get("/health")
        health.end()
        ill = await client.get("/health")
    assert (well.status_code, well.json()) == (200, {"status": "ok", "info": {"api": {"status": "up"}}})
    assert (ill.status_code, ill.json()["status"]) == (503, "error")

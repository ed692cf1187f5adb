"""The REST gateway of the control plane: generated from the contracts of its services, and its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from controlplane.rest.audit_export import LINES, export
from sickbay.audit.v1 import audit_service_pb2 as audit_pb
from sickbay.breakers.v1 import breaker_service_pb2 as breakers_pb
from sickbay.breakers.v1 import incident_service_pb2 as incidents_pb
from sickbay.contract.paging import MAX_PAGE_SIZE
from sickbay.jobs.v1 import quarantine_service_pb2 as quarantine_pb
from sickbay.jobs.v1 import scheduled_job_service_pb2 as scheduled_pb
from sickbay.jobs.v1 import worker_service_pb2 as workers_pb
from sickbay.schedules.v1 import schedule_service_pb2 as schedules_pb
from sickbay.server.health import Health, add_health
from sickbay.server.rest.accept import JSON, prefers
from sickbay.server.rest.app import create_app, json_response
from sickbay.server.rest.openapi import fails
from sickbay.server.rest.schemas import BreakerBody
from sickbay.server.rest.scrape import DOCUMENTED, scrape_response, wants_text
from sickbay.server.rest.sse import STREAM
from sickbay.server.rest.transcoding.gateway import Gateway, RouteOptions
from sickbay.server.rest.views import breaker_view
from sickbay.telemetry.metrics import MetricsRegistry

if TYPE_CHECKING:  # stubs for asyncio exist for type checkers only
    from sickbay.audit.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceAsyncStub
    from sickbay.breakers.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub
    from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceAsyncStub
    from sickbay.jobs.v1.scheduled_job_service_pb2_grpc import ScheduledJobServiceAsyncStub
    from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub
    from sickbay.schedules.v1.schedule_service_pb2_grpc import ScheduleServiceAsyncStub
    from sickbay.telemetry.spans import Tracing

_AUDIT: Final = audit_pb.DESCRIPTOR.services_by_name["AuditService"]
_BREAKERS: Final = breakers_pb.DESCRIPTOR.services_by_name["BreakerService"]
_INCIDENTS: Final = incidents_pb.DESCRIPTOR.services_by_name["IncidentService"]
_QUARANTINE: Final = quarantine_pb.DESCRIPTOR.services_by_name["QuarantineService"]
_SCHEDULED: Final = scheduled_pb.DESCRIPTOR.services_by_name["ScheduledJobService"]
_SCHEDULES: Final = schedules_pb.DESCRIPTOR.services_by_name["ScheduleService"]
_WORKERS: Final = workers_pb.DESCRIPTOR.services_by_name["WorkerService"]


def create_gateway(
    breakers: BreakerServiceAsyncStub,
    quarantine: QuarantineServiceAsyncStub,
    health: Health,
    metrics: MetricsRegistry,
    version: str,
    *,
    incidents: IncidentServiceAsyncStub,
    scheduled_jobs: ScheduledJobServiceAsyncStub,
    workers: WorkerServiceAsyncStub,
    audit: AuditServiceAsyncStub,
    schedules: ScheduleServiceAsyncStub,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The application; every route's operation id is the name of its RPC."""
    about = (
        "Read and control circuit breakers, read their incidents, manage jobs in quarantine, jobs that run later and schedules, "
        "list workers, and read the audit log."
    )
    app = create_app("Sickbay Control Plane", about, version, tracing)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

    async def scrape(request: Request, _: breakers_pb.GetMetricsRequest) -> Response | None:
        """If `Accept` names Prometheus text or OpenMetrics, the response has that format, with more metrics."""
        return await scrape_response(metrics, request) if wants_text(request.headers.get("accept", "")) else None

    async def breaker_named_events(request: Request, asked: breakers_pb.WatchBreakersRequest) -> Response | None:
        """If `Accept` names JSON, the response is the breaker of the job type `events`, which has the same path."""
        if not prefers(request.headers.get("accept", ""), JSON, STREAM):
            return None
        reply = await breakers.GetBreaker(breakers_pb.GetBreakerRequest(job_type="events", tenant=asked.tenant))
        return json_response(breaker_view(reply.breaker))

    async def audit_lines(request: Request, asked: audit_pb.ListAuditEntriesRequest) -> Response | None:
        """If `Accept` names JSON lines (`application/jsonl`), the response has all entries that match, one per line."""
        return await export(audit, asked) if prefers(request.headers.get("accept", ""), LINES, JSON) else None

    add_health(app, health)
    gateway = Gateway(app)
    options = {
        "GetMetrics": RouteOptions(alternative=scrape, responses=DOCUMENTED),
        "ListBreakers": RouteOptions(defaults={"page_size": MAX_PAGE_SIZE}, lenient=True),
        "WatchBreakers": RouteOptions(alternative=breaker_named_events, responses={200: {"model": BreakerBody}, **fails(404)}),
    }
    gateway.add(_BREAKERS, breakers, options)
    gateway.add(_INCIDENTS, incidents)
    gateway.add(_AUDIT, audit, {"ListAuditEntries": RouteOptions(alternative=audit_lines)})
    gateway.add(_QUARANTINE, quarantine)
    gateway.add(_SCHEDULED, scheduled_jobs)
    gateway.add(_WORKERS, workers)
    gateway.add(_SCHEDULES, schedules)
    return app

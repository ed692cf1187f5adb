"""Assembles the Job API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from jobapi.metrics import DemotionCollector, DoorCollector, NamesCollector, SubmissionMetrics, TenantSubmissionMetrics
from jobapi.rest import create_gateway
from jobapi.service import JobApi
from jobapi.type_service import JobTypeApi
from sickbay.concurrency.slices import Slices
from sickbay.domain.health import Health, checks_of
from sickbay.fleet import FleetView
from sickbay.job_types.view import JobTypeView
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub, add_JobServiceServicer_to_server
from sickbay.jobs.v1.job_type_service_pb2_grpc import JobTypeServiceStub, add_JobTypeServiceServicer_to_server
from sickbay.observer import Observer, Observers
from sickbay.runtime.door_rules import DoorRules
from sickbay.runtime.parts import JobApiParts
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.server.audit.auditor import Auditor
from sickbay.server.endpoints import Address, Endpoints, serve_endpoints
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.server.service import Service
from sickbay.submission.circuits import Circuits
from sickbay.submission.door import Door
from sickbay.submission.lanes import LaneChoice
from sickbay.submission.names import NameLimits, Names
from sickbay.submission.recent import RecentJobs
from sickbay.submission.submit import JobSubmitter
from sickbay.submission.waiting import WaitingJobs
from sickbay.telemetry.backends import BackendStatusCollector, HealthCollector, PublishMetrics
from sickbay.telemetry.metrics import MetricsRegistry
from sickbay.telemetry.settings_file import SettingsFileCollector
from sickbay.telemetry.tracing import current_trace, trace_observers
from sickbay.version import VERSION

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Traces


@asynccontextmanager
async def serve(
    backends: JobApiParts,
    address: Address,
    traces: Traces | None = None,
    *,
    names: NameLimits | None = None,
    observers: Sequence[Observer] = (),
) -> AsyncIterator[Endpoints]:
    """Serve JobService and JobTypeService until the context ends.

    `names` limits the job types and tenants of clients, `observers` are the user's.
    """
    metrics = MetricsRegistry("jobapi")
    health = Health(checks_of(backends.status, "broker"), grace_s=backends.health_grace)
    known = Names(names or NameLimits())
    BackendStatusCollector(backends.status, metrics.registry)
    HealthCollector(health, metrics.registry)
    SettingsFileCollector(backends.settings_file, metrics.registry)
    NamesCollector(known, metrics.registry)
    tracing = traces.of("jobapi") if traces else None
    observer = Observers(
        [
            PublishMetrics(metrics.registry),
            SubmissionMetrics(metrics.registry),
            TenantSubmissionMetrics(metrics.registry, backends.metrics_tenants),
            *trace_observers(tracing, backends.system),
            *observers,
        ]
    )
    recent = RecentJobs()
    policies = backends.policies or Policies(Settings())
    rules = DoorRules(policies)
    waiting = WaitingJobs(backends.waiting, backends.clock, lambda: rules.limits_waiting)
    door = Door(rules, backends.rate_limiter, waiting)
    DoorCollector(door, waiting, metrics.registry)
    circuits = Circuits(backends.circuits, backends.breaker_scope)
    fleet = FleetView(backends.registry, backends.broker) if backends.registry is not None else None
    lanes = LaneChoice(fleet)
    types = JobTypeView(backends.job_types, backends.registry)
    slices = Slices()
    DemotionCollector(lanes, metrics.registry)
    submitter = JobSubmitter(
        backends.broker,
        backends.keys,
        recent,
        backends.clock,
        names=known,
        circuits=circuits,
        door=door,
        lanes=lanes,
        types=types,
        slices=slices,
        kept_bytes=backends.kept_bytes,
        observer=observer,
        trace=current_trace(tracing),
    )
    api = JobApi(
        submitter=submitter,
        reader=backends.reader,
        holds=backends.holds,
        recent=recent,
        broker=backends.broker,
        clock=backends.clock,
        policies=policies,
        circuits=circuits,
        fleet=fleet,
        slices=slices,
        observer=observer,
    )
    async with (
        lanes.detached,
        submitter.detached,
        api.detached,
        waiting.watched(),
        types.watched(),
        serve_endpoints(
            [
                Service("sickbay.jobs.v1.JobService", add_JobServiceServicer_to_server, api),
                Service("sickbay.jobs.v1.JobTypeService", add_JobTypeServiceServicer_to_server, JobTypeApi(types)),
            ],
            lambda channel, health: create_gateway(
                JobServiceStub(channel), health, metrics, VERSION, types=JobTypeServiceStub(channel), slices=slices, tracing=tracing
            ),
            address,
            registry=metrics.registry,
            health=health,
            name="Job API",
            call_observers=[CallMeter(metrics.registry)],
            auditor=Auditor(backends.broker, backends.clock, metrics.registry),
            tracing=tracing,
        ) as endpoints,
    ):
        yield endpoints

"""Puts the Job API together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from jobapi.metrics import MeteredIntake, NamesCollector
from jobapi.names import NameLimits, Names
from jobapi.recent import Recent
from jobapi.rest import create_gateway
from jobapi.service import JobApi
from jobapi.submit import JobSubmitter
from sickbay.domain.health import Health, checks_of
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub, add_JobServiceServicer_to_server
from sickbay.runtime.backends import JobApiParts
from sickbay.server.endpoints import Address, Endpoints, serve_endpoints
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.server.service import Service
from sickbay.telemetry.backends import BackendStatusCollector, HealthCollector, MeteredBroker
from sickbay.telemetry.metrics import MetricsRegistry
from sickbay.telemetry.tracing import traced
from sickbay.version import VERSION

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Traces


@asynccontextmanager
async def serve(
    backends: JobApiParts, address: Address, traces: Traces | None = None, *, names: NameLimits | None = None
) -> AsyncIterator[Endpoints]:
    """Serve JobService until the context ends; `names` bounds the job types and tenants that clients make up."""
    told = MetricsRegistry("jobapi")
    BackendStatusCollector(backends.vitals, told.registry)
    health = Health(checks_of(backends.vitals, "broker"), grace_s=backends.health_grace)
    HealthCollector(health, told.registry)
    tracing = traces.of("jobapi") if traces else None
    broker = traced(MeteredBroker(backends.broker, told.registry), tracing, backends.system)
    recent = Recent()
    known = Names(names or NameLimits())
    NamesCollector(known, told.registry)
    intake = JobSubmitter(broker, backends.keys, recent, backends.clock, names=known, kept_bytes=backends.kept_bytes)
    api = JobApi(
        intake=MeteredIntake(intake, told.registry),
        reader=backends.reader,
        holds=backends.holds,
        recent=recent,
        broker=broker,
        clock=backends.clock,
    )
    services = [Service("sickbay.jobs.v1.JobService", add_JobServiceServicer_to_server, api)]
    async with (
        intake.detached,
        api.detached,
        serve_endpoints(
            services,
            lambda channel, health: create_gateway(JobServiceStub(channel), health, told, VERSION, tracing=tracing),
            address,
            registry=told.registry,
            health=health,
            name="Job API",
            around=[CallMeter(told.registry)],
            tracing=tracing,
        ) as doors,
    ):
        yield doors

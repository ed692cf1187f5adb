"""Puts the Job API together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gen.sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub, add_JobServiceServicer_to_server
from jobapi.intake import Intake
from jobapi.metrics import MeteredIntake
from jobapi.recent import Recent
from jobapi.rest import create_gateway
from jobapi.service import JobApi
from sickbay.backends import JobApiParts
from sickbay.rpc.doors import Address, Doors, open_doors
from sickbay.rpc.metered import CallMeter
from sickbay.rpc.service import Service
from sickbay.telemetry.backends import MeteredBroker, VitalsCollector
from sickbay.telemetry.metrics import Exposition
from sickbay.telemetry.tracing import traced
from sickbay.version import VERSION

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Traces


@asynccontextmanager
async def serve(backends: JobApiParts, address: Address, traces: Traces | None = None) -> AsyncIterator[Doors]:
    """Serve JobService until the context ends."""
    told = Exposition("jobapi")
    VitalsCollector(backends.vitals, told.registry)
    tracing = traces.of("jobapi") if traces else None
    broker = traced(MeteredBroker(backends.broker, told.registry), tracing, backends.system)
    recent = Recent()
    intake = MeteredIntake(Intake(broker, backends.keys, recent, backends.clock), told.registry)
    api = JobApi(intake, backends.reader, recent, broker, backends.clock)
    services = [Service("sickbay.jobs.v1.JobService", add_JobServiceServicer_to_server, api)]
    async with open_doors(
        services,
        lambda channel, health: create_gateway(JobServiceStub(channel), health, told, VERSION, tracing=tracing),
        address,
        around=[CallMeter(told.registry)],
        tracing=tracing,
    ) as doors:
        yield doors

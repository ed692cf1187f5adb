"""Both ports of a Job API with access control, in process: its servicers answer at once, or stream for as long as they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import httpx

from jobapi.rest import create_gateway
from sickbay.domain.access import Principal, Role
from sickbay.domain.health import Health
from sickbay.domain.limits import Limits
from sickbay.jobs.v1 import job_pb2, worker_service_pb2_grpc
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1 import work_pb2 as work_pb
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceServicer, JobServiceStub, add_JobServiceServicer_to_server
from sickbay.jobs.v1.job_type_service_pb2_grpc import JobTypeServiceStub
from sickbay.server.access.caller import principal_of
from sickbay.server.access.control import Access, Exempt
from sickbay.server.endpoints import Address, serve_endpoints
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.server.service import Service
from sickbay.telemetry.metrics import MetricsRegistry
from tests.support.known_callers import KnownCallers

SHOP = Principal("shop", frozenset({Role.SUBMIT}), frozenset({"acme"}))
BANK = Principal("bank", frozenset({Role.SUBMIT}), frozenset({"bank"}))
PROBE = Principal("probe", frozenset({Role.VIEW}))
FLEET = Principal("fleet", frozenset({Role.WORK}))


class Jobs(JobServiceServicer):
    """GetJob answers with the name of its caller; WatchJob does what its id says: wait, run, fail or end."""

    def __init__(self) -> None:
        self.watching = asyncio.Event()
        self.watched = asyncio.Event()
        self.called: list[str] = []

    async def GetJob(self, request, context):
        self.called.append("GetJob")
        return pb.GetJobResponse(job=job_pb2.Job(job_id=request.job_id, tenant=principal_of(context).name or "anybody"))

    async def SubmitJob(self, request, context):
        self.called.append("SubmitJob")
        return pb.SubmitJobResponse(job=job_pb2.Job(job_id="new", tenant=principal_of(context).name or "anybody"))

    async def WatchJob(self, request, context):
        try:
            reply = pb.WatchJobResponse(job=job_pb2.Job(job_id=request.job_id, tenant=principal_of(context).name or "anybody"))
            yield reply
            self.watching.set()
            if request.job_id == "fail":
                raise ValueError("secret")
            while request.job_id == "run":
                yield reply
                await asyncio.sleep(0)
            if request.job_id != "end":
                await asyncio.Event().wait()
        finally:
            self.watched.set()


class Work(worker_service_pb2_grpc.WorkerServiceServicer):
    """Takes messages of programs until they end."""

    def __init__(self) -> None:
        self.working, self.worked = asyncio.Event(), asyncio.Event()

    async def Work(self, requests, context):
        try:
            async for _ in requests:
                self.working.set()
                yield work_pb.WorkResponse()
        finally:
            self.worked.set()


class Doors:
    """What tests use of the running service."""

    def __init__(self, callers: KnownCallers, access: Access | None, metrics: MetricsRegistry) -> None:
        self.callers, self.access, self.metrics = callers, access, metrics
        self.jobs, self.work = Jobs(), Work()
        self.channel: grpc.aio.Channel
        self.rest: httpx.AsyncClient
        self.stub: JobServiceStub
        self.grpc_port = 0

    def value(self, name: str, **labels: str) -> float | None:
        """A sample of the metrics."""
        return self.metrics.registry.get_sample_value(name, labels)


def bearer(token: str) -> dict[str, str]:
    """The header with a token."""
    return {"authorization": f"Bearer {token}"}


def sent(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata with a token."""
    return tuple(bearer(token).items())


@asynccontextmanager
async def doors(
    exempt: Sequence[Exempt] = (), *, origins: Sequence[str] = (), limits: Limits | None = None, is_guarded: bool = True
) -> AsyncIterator[Doors]:
    """The running service, known to `shop`, `bank`, `probe` and `fleet`, whose tokens are their names."""
    callers = KnownCallers(shop=SHOP, bank=BANK, probe=PROBE, fleet=FLEET)
    metrics, health = MetricsRegistry("test"), Health()
    access = Access([callers], exempt) if is_guarded else None
    found = Doors(callers, access, metrics)
    address = Address("127.0.0.1", 0, 0, limits=limits or Limits(), cors_origins=frozenset(origins), access=access)
    services = [
        Service("sickbay.jobs.v1.JobService", add_JobServiceServicer_to_server, found.jobs),
        Service("sickbay.jobs.v1.WorkerService", worker_service_pb2_grpc.add_WorkerServiceServicer_to_server, found.work),
    ]
    async with serve_endpoints(
        services,
        lambda channel, health: create_gateway(JobServiceStub(channel), health, metrics, "1", types=JobTypeServiceStub(channel)),
        address,
        registry=metrics.registry,
        health=health,
        name="test",
        call_observers=[CallMeter(metrics.registry)],
    ) as endpoints:
        found.grpc_port = endpoints.grpc_port
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{endpoints.grpc_port}") as found.channel,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{endpoints.rest_port}", timeout=30, trust_env=False) as found.rest,
        ):
            found.stub = JobServiceStub(found.channel)
            yield found

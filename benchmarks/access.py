"""What access control costs: calls a second and CPU per call of SubmitJob and GetJob, over gRPC and REST, without it and with it.

    python -m benchmarks.access --calls 3000 --rounds 5

Servers and clients share one process and one core, so a time per call is that of both. The variants take turns in each round, and the
ratios are of their medians. An earlier version is measured by running this with its code: `off` is then the only variant.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple

import grpc
import httpx

from jobapi.rest import create_gateway
from sickbay.domain.health import Health
from sickbay.jobs.v1 import job_pb2
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceServicer, JobServiceStub, add_JobServiceServicer_to_server
from sickbay.jobs.v1.job_type_service_pb2_grpc import JobTypeServiceStub
from sickbay.server.endpoints import Address, serve_endpoints
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.server.service import Service
from sickbay.telemetry.metrics import MetricsRegistry

try:
    from sickbay.domain.access import Principal, Role
    from sickbay.server.access.control import Access
except ImportError:  # a version without access control
    Access = None  # type: ignore[assignment,misc]

TOKEN: Final = "sb_k_0123456789_" + "x" * 43
BODY: Final = b'{"jobType":"email","payload":{"to":"user@example.com"}}'


class Keys:
    """Finds a principal as a file of keys does: by the digest of the token."""

    def __init__(self) -> None:
        """With one key."""
        self._found = {hashlib.sha256(TOKEN.encode()).digest(): Principal("shop", frozenset({Role.SUBMIT}))}

    async def authenticate(self, credentials: Any) -> Any:
        """See the port."""
        return self._found.get(hashlib.sha256(credentials.bearer.encode()).digest())


class Jobs(JobServiceServicer):
    """Answers at once."""

    async def SubmitJob(self, request: Any, _: Any) -> Any:  # noqa: N802 - the contract's name
        """Nothing is stored."""
        return pb.SubmitJobResponse(job=job_pb2.Job(job_id="a", job_type=request.job_type, tenant="default"))

    async def GetJob(self, request: Any, _: Any) -> Any:  # noqa: N802 - the contract's name
        """A job that is always there."""
        return pb.GetJobResponse(job=job_pb2.Job(job_id=request.job_id, job_type="email", tenant="default"))


class Result(NamedTuple):
    """Of one measurement: seconds of the clock and of the CPU, per call."""

    wall: float
    cpu: float


async def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    variants = ["off"] if Access is None else ["off", "required"]
    async with AsyncExitStack() as stack:
        calls = {variant: await _calls(stack, is_guarded=variant == "required") for variant in variants}
        for name in calls["off"]:
            found: dict[str, list[Result]] = {variant: [] for variant in variants}
            for _ in range(options.rounds + 1):
                for variant in variants:
                    found[variant].append(await _measured(calls[variant][name], options.calls))
            medians = {variant: _median(results[1:]) for variant, results in found.items()}
            for variant, one in medians.items():
                ratio = f"  CPU x{one.cpu / medians['off'].cpu:.3f}"
                print(f"{name:16} {variant:9} {1 / one.wall:8.0f} calls/s {one.cpu * 1e6:8.1f} us CPU per call{ratio}")


def _median(results: list[Result]) -> Result:
    return Result(statistics.median(one.wall for one in results), statistics.median(one.cpu for one in results))


async def _measured(call: Callable[[], Awaitable[Any]], count: int) -> Result:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        await call()
    return Result((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


async def _calls(stack: AsyncExitStack, *, is_guarded: bool) -> dict[str, Callable[[], Awaitable[Any]]]:
    metrics, health = MetricsRegistry("benchmark"), Health()
    more: dict[str, Any] = {"access": Access([Keys()])} if is_guarded else {}
    endpoints = await stack.enter_async_context(
        serve_endpoints(
            [Service("sickbay.jobs.v1.JobService", add_JobServiceServicer_to_server, Jobs())],  # type: ignore[abstract]  # it serves two
            lambda channel, health: create_gateway(JobServiceStub(channel), health, metrics, "1", types=JobTypeServiceStub(channel)),
            Address("127.0.0.1", 0, 0, **more),
            registry=metrics.registry,
            health=health,
            name="benchmark",
            call_observers=[CallMeter(metrics.registry)],
        )
    )
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{endpoints.grpc_port}"))
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    rest = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{endpoints.rest_port}", headers=headers))
    stub, sent = JobServiceStub(channel), (("authorization", f"Bearer {TOKEN}"),)

    async def checked(method: str, path: str, status: int, **more: Any) -> None:
        answer = await rest.request(method, path, **more)
        if answer.status_code != status:
            raise RuntimeError(answer.text)

    return {
        "gRPC SubmitJob": lambda: stub.SubmitJob(pb.SubmitJobRequest(), metadata=sent),
        "gRPC GetJob": lambda: stub.GetJob(pb.GetJobRequest(job_id="a"), metadata=sent),
        "REST SubmitJob": lambda: checked("POST", "/jobs", 202, content=BODY),
        "REST GetJob": lambda: checked("GET", "/jobs/a", 200),
    }


if __name__ == "__main__":
    asyncio.run(main())

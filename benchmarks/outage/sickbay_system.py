"""Sickbay in both forms, from outside: started as its users start it, asked over gRPC."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import grpc

from benchmarks.outage.corner import own_corner
from benchmarks.outage.processes import Child, child
from benchmarks.outage.scenarios import ON_DEPENDENCY
from benchmarks.outage.system import Look, Setting
from benchmarks.outage.trace import StateSeen
from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsRequest, ResetBreakerRequest, WatchBreakersRequest
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, ListJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub

CALL_S: Final = 20.0
BATCH: Final = 500
PORTS: Final = ("jobapi-port", "worker-port", "control-plane-port", "jobapi-grpc-port", "worker-grpc-port", "control-plane-grpc-port")
_BANNER: Final = re.compile(r"^ {2}(Job API|Worker|Control plane) +http://localhost:\d+ +gRPC localhost:(\d+) ", re.MULTILINE)
_READY: Final = re.compile(r"ready: HTTP on port \d+, gRPC on port (\d+)")
_UNFINISHED: Final = ("QUEUED", "RUNNING", "RETRYING", "PARKED")


class Sickbay:
    """A client of the Job API and of the control plane."""

    def __init__(self, jobs: grpc.aio.Channel, plane: grpc.aio.Channel) -> None:
        """Over these channels."""
        self.states: list[StateSeen] = []
        self._last = Look(0, 0, 0)
        self._jobs: Any = JobServiceStub(jobs)
        self._breakers: Any = BreakerServiceStub(plane)

    async def submit(self, kind: str, numbers: Sequence[int], *, tenants: bool = False) -> list[str]:
        """One call for one job, else batches."""
        asked = [
            SubmitJobRequest(job_type=kind, payload_json=f'{{"n": {number}}}', tenant=f"tenant-{number}" if tenants else "")
            for number in numbers
        ]
        if len(asked) == 1:
            try:
                return [(await self._jobs.SubmitJob(asked[0], timeout=CALL_S)).job.job_id]
            except grpc.RpcError:
                return [""]
        ids: list[str] = []
        for first in range(0, len(asked), BATCH):
            request = BatchSubmitJobsRequest(requests=asked[first : first + BATCH])
            ids += [result.job_id for result in (await self._jobs.BatchSubmitJobs(request, timeout=CALL_S)).results]
        return ids

    async def reset(self, kind: str) -> None:
        """As an admin does."""
        await self._breakers.ResetBreaker(ResetBreakerRequest(job_type=kind), timeout=CALL_S)

    async def look(self) -> Look:
        """The counts of the ledger; the last ones while it does not answer."""
        with suppress(grpc.RpcError):
            count = (await self._breakers.GetMetrics(GetMetricsRequest(), timeout=CALL_S)).jobs_by_state
            self._last = Look(count["PARKED"], count["QUARANTINED"], sum(count[state] for state in _UNFINISHED))
        return self._last

    async def watch(self) -> None:
        """Write down what the circuits of the dependency's types become."""
        async for reply in self._breakers.WatchBreakers(WatchBreakersRequest()):
            seen = reply.breaker
            if seen.job_type in ON_DEPENDENCY:
                state = Breaker.State.Name(seen.state).removeprefix("STATE_")
                probe = seen.probe_time.ToJsonString() if seen.HasField("probe_time") else ""
                self.states.append(StateSeen(time.monotonic(), f"{seen.tenant}/{seen.job_type}", state, probe))

    async def known(self) -> Mapping[str, str]:
        """Every job of the ledger."""
        known, token = dict[str, str](), ""
        while True:
            page = await self._jobs.ListJobs(ListJobsRequest(page_size=1_000, page_token=token), timeout=CALL_S)
            known |= {job.job_id: Job.State.Name(job.state).removeprefix("STATE_") for job in page.jobs}
            token = page.next_page_token
            if not token:
                return known


def settings(setting: Setting) -> dict[str, str]:
    """The variables of a process: the scenario's own win."""
    times = setting.times
    return {
        **setting.env,
        "JOB_HANDLERS": "benchmarks.outage.handlers",
        "COOLDOWN_PERIOD": f"{times.cooldown_s:g}",
        "RETRY_DELAY_MS": f"{times.retry_s * 1000:.0f}",
        **setting.scenario.settings,
    }


@asynccontextmanager
async def embedded(setting: Setting) -> AsyncIterator[Sickbay]:
    """`sickbay up`, its data in files."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as data:
        words = ["sickbay_cli", "up", "--data", data, *(f"--{name}=0" for name in PORTS)]
        async with child(words, setting.folder, settings(setting)) as process:
            ports = {name: int(port) for name, port in await process.said(_BANNER, 3)}
            async with connected(ports["Job API"], ports["Control plane"]) as system:
                yield system


@asynccontextmanager
async def distributed(setting: Setting, workers: int) -> AsyncIterator[Sickbay]:
    """A Job API, a control plane and so many workers, on servers of which a corner is theirs alone."""
    async with AsyncExitStack() as stack:
        corner = await stack.enter_async_context(own_corner())
        env = (
            settings(setting)
            | corner
            | {"PORT": "0", "GRPC_PORT": "0", "BIND_HOST": "127.0.0.1", "LOG_LEVEL": "INFO", "LOG_FORMAT": "json"}
        )
        names = ["jobapi", "controlplane", *(f"worker-{number}" for number in range(workers))]
        started: list[Child] = [
            await stack.enter_async_context(child([name.partition("-")[0]], setting.folder, env | {"WORKER_NAME": name}, name))
            for name in names
        ]
        ready = await asyncio.gather(*(one.said(_READY) for one in started))
        yield await stack.enter_async_context(connected(int(ready[0][0][0]), int(ready[1][0][0])))


@asynccontextmanager
async def connected(job_port: int, plane_port: int) -> AsyncIterator[Sickbay]:
    """A client that watches the circuits meanwhile."""
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{job_port}") as jobs,
        grpc.aio.insecure_channel(f"127.0.0.1:{plane_port}") as plane,
    ):
        system = Sickbay(jobs, plane)
        watching = asyncio.create_task(system.watch())
        try:
            yield system
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError, grpc.RpcError):
                await watching

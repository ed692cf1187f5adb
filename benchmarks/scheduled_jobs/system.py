"""Sickbay in both forms, from outside: started as its users start it, given jobs over gRPC, its processes watched."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]  # it ships none
import grpc
import psutil
from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.outage.corner import own_corner
from benchmarks.outage.processes import child
from benchmarks.scheduled_jobs.figures import Start
from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsRequest
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub

CALL_S: Final = 60.0
BATCH: Final = 250
CALLS: Final = 4
"""Calls at a time."""
PORTS: Final = ("jobapi-port", "worker-port", "control-plane-port", "jobapi-grpc-port", "worker-grpc-port", "control-plane-grpc-port")
WHOLE: Final = "sickbay up"
"""The one process of the embedded form."""
_BANNER: Final = re.compile(r"^ {2}(Job API|Control plane) +http://localhost:\d+ +gRPC localhost:(\d+) ", re.MULTILINE)
_READY: Final = re.compile(r"ready: HTTP on port \d+, gRPC on port (\d+)")


@dataclass(frozen=True)
class Batch:
    """Jobs that are submitted together: `run_at` says when each is due (ms), None: at once."""

    name: str
    count: int
    run_at: Mapping[int, int] | None = None
    job_type: str = "timed"

    def request(self, number: int) -> SubmitJobRequest:
        """One of them."""
        asked = SubmitJobRequest(job_type=self.job_type, payload_json=json.dumps({"batch": self.name, "n": number}))
        if self.run_at is not None:
            seconds, ms = divmod(self.run_at[number], 1000)
            asked.run_time.CopyFrom(Timestamp(seconds=seconds, nanos=ms * 1_000_000))
        return asked


class System:
    """A running system."""

    def __init__(
        self, jobs: grpc.aio.Channel, plane: grpc.aio.Channel, processes: Mapping[str, psutil.Process], starts: Path, database: str = ""
    ) -> None:
        """Over these channels; `starts` is the file that hears of every run, `database` the URL of its PostgreSQL, if it has one."""
        self._database = database
        self._jobs: Any = JobServiceStub(jobs)
        self._plane: Any = BreakerServiceStub(plane)
        self._processes = processes
        self._starts = starts

    def cpu_s(self, *names: str) -> float:
        """CPU seconds so far of the processes of these names, of those that there are."""
        times = [process.cpu_times() for name, process in self._processes.items() if name in {*names, WHOLE}]
        return float(sum(one.user + one.system for one in times))

    async def analyze(self) -> None:
        """What PostgreSQL's autovacuum does within a minute; it may be off where tests run."""
        if self._database:
            connection = await asyncpg.connect(self._database)
            await connection.execute("ANALYZE jobs")
            await connection.close()

    async def submit(self, batch: Batch) -> None:
        """Several batches at a time; returns when all are durable."""
        chunks: Iterator[range] = iter([range(first, min(batch.count, first + BATCH)) for first in range(0, batch.count, BATCH)])

        async def caller() -> None:
            for chunk in chunks:
                asked = BatchSubmitJobsRequest(requests=[batch.request(number) for number in chunk])
                reply = await self._jobs.BatchSubmitJobs(asked, timeout=CALL_S)
                if refused := [result.error.message for result in reply.results if not result.job_id]:
                    raise SystemExit(f"jobs are refused: {refused[0]}")

        await asyncio.gather(*(caller() for _ in range(CALLS)))

    async def submit_one(self, batch: Batch, number: int) -> None:
        """One call."""
        await self._jobs.SubmitJob(batch.request(number), timeout=CALL_S)

    async def in_state(self, state: str) -> int:
        """How many jobs the ledger knows in this state."""
        return int((await self._plane.GetMetrics(GetMetricsRequest())).jobs_by_state[state])

    async def until_in_state(self, state: str, count: int) -> None:
        """Wait until the ledger knows so many."""
        while await self.in_state(state) < count:
            await asyncio.sleep(0.05)

    async def starts(self, batch: str, count: int) -> list[Start]:
        """Wait for so many runs of this batch."""
        while len(found := [start for start in Start.read(self._starts.read_text("ascii")) if start.batch == batch]) < count:
            await asyncio.sleep(0.1)
        return found


def _settings(folder: Path) -> dict[str, str]:
    return {"SCHEDULED_STARTS": str(folder / "starts"), "JOB_HANDLERS": "benchmarks.scheduled_jobs.handlers", "LOG_LEVEL": "INFO"}


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[System]:
    """`sickbay up`, its data in files."""
    words = ["sickbay_cli", "up", "--data", str(folder / "data"), *(f"--{name}=0" for name in PORTS)]
    async with child(words, folder, _settings(folder)) as process:
        ports = {name: port for name, port in await process.said(_BANNER, 2)}  # noqa: C416 - tuples of unknown length, for the type checker
        async with _connected(ports["Job API"], ports["Control plane"]) as (jobs, plane):
            yield System(jobs, plane, {WHOLE: psutil.Process(process.pid)}, folder / "starts")


@asynccontextmanager
async def distributed(folder: Path) -> AsyncIterator[System]:
    """A Job API, a control plane and a worker, on servers of which a corner is theirs alone."""
    async with AsyncExitStack() as stack:
        corner = await stack.enter_async_context(own_corner())
        env = corner | {"PORT": "0", "GRPC_PORT": "0", "BIND_HOST": "127.0.0.1", "LOG_FORMAT": "json"} | _settings(folder)
        names = ("jobapi", "controlplane", "worker")
        children = [await stack.enter_async_context(child([name], folder, env)) for name in names]
        ready = [(await one.said(_READY))[0][0] for one in children]
        jobs, plane = await stack.enter_async_context(_connected(ready[0], ready[1]))
        processes = {name: psutil.Process(one.pid) for name, one in zip(names, children, strict=True)}
        yield System(jobs, plane, processes, folder / "starts", corner["DATABASE_URL"])


@asynccontextmanager
async def _connected(jobs: str, plane: str) -> AsyncIterator[tuple[grpc.aio.Channel, grpc.aio.Channel]]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{jobs}") as one, grpc.aio.insecure_channel(f"127.0.0.1:{plane}") as other:
        yield one, other

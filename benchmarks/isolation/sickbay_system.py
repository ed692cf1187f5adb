"""Sickbay in both forms, from outside: started as its users start it, given jobs over gRPC."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import grpc
import psutil

from benchmarks.isolation.rows import Batch
from benchmarks.isolation.system import Setting
from benchmarks.outage.corner import own_corner
from benchmarks.outage.processes import child
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub

CALL_S: Final = 30.0
BATCH: Final = 250
CALLS: Final = 4
"""Calls of a flood at a time."""
PORTS: Final = ("jobapi-port", "worker-port", "control-plane-port", "jobapi-grpc-port", "worker-grpc-port", "control-plane-grpc-port")
_BANNER: Final = re.compile(r"^ {2}Job API +http://localhost:\d+ +gRPC localhost:(\d+) ", re.MULTILINE)
_READY: Final = re.compile(r"ready: HTTP on port \d+, gRPC on port (\d+)")
_PRIORITY: Final = SubmitJobRequest.DESCRIPTOR.fields_by_name.get("priority")
_VALUES: Final = {value.name: value.number for value in _PRIORITY.enum_type.values} if _PRIORITY and _PRIORITY.enum_type else {}


class Sickbay:
    """A client of the Job API, and what its processes cost."""

    has_priorities = bool(_VALUES)

    def __init__(self, address: str, channel: grpc.aio.Channel, pids: Sequence[int]) -> None:
        """Over this channel."""
        self.address = address
        self._jobs: Any = JobServiceStub(channel)
        self._processes = [psutil.Process(pid) for pid in pids]

    async def submit(self, batch: Batch, number: int) -> None:
        """One call."""
        await self._jobs.SubmitJob(_request(batch, number), timeout=CALL_S)

    async def flood(self, batch: Batch, numbers: Sequence[int]) -> None:
        """Several batches at a time."""
        chunks = iter([numbers[first : first + BATCH] for first in range(0, len(numbers), BATCH)])

        async def caller() -> None:
            for chunk in chunks:
                asked = BatchSubmitJobsRequest(requests=[_request(batch, number) for number in chunk])
                reply = await self._jobs.BatchSubmitJobs(asked, timeout=CALL_S)
                if refused := [result.error.message for result in reply.results if not result.job_id]:
                    raise OSError(f"jobs are refused: {refused[0]}")

        await asyncio.gather(*(caller() for _ in range(CALLS)))

    def cpu_s(self) -> float:
        """Of all processes."""
        return sum(times.user + times.system for times in (process.cpu_times() for process in self._processes))


def _request(batch: Batch, number: int) -> SubmitJobRequest:
    request = SubmitJobRequest(job_type=batch.kind, payload_json=json.dumps({"n": number, "ms": batch.ms}), tenant=batch.tenant)
    if batch.priority and _VALUES:
        setattr(request, "priority", _VALUES[f"PRIORITY_{batch.priority}"])  # noqa: B010 - older versions have no such field
    return request


def settings(setting: Setting) -> dict[str, str]:
    """The variables of a process."""
    return {**setting.env, "JOB_HANDLERS": "benchmarks.isolation.handlers", "LOG_LEVEL": "INFO", **setting.settings}


@asynccontextmanager
async def embedded(setting: Setting) -> AsyncIterator[Sickbay]:
    """`sickbay up`, its data in files."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as data:
        words = ["sickbay_cli", "up", "--data", data, *(f"--{name}=0" for name in PORTS)]
        async with child(words, setting.folder, settings(setting)) as process:
            port = (await process.said(_BANNER))[0][0]
            async with connected(f"127.0.0.1:{port}", [process.pid]) as system:
                yield system


@asynccontextmanager
async def distributed(setting: Setting, workers: int) -> AsyncIterator[Sickbay]:
    """A Job API, a control plane and so many workers, on servers of which a corner is theirs alone."""
    async with AsyncExitStack() as stack:
        corner = await stack.enter_async_context(own_corner())
        own = {"PORT": "0", "GRPC_PORT": "0", "BIND_HOST": "127.0.0.1", "LOG_FORMAT": "json"}
        env = corner | own | settings(setting)
        names = ["jobapi", "controlplane", *(f"worker-{number}" for number in range(workers))]
        children = [
            await stack.enter_async_context(child([name.partition("-")[0]], setting.folder, env | {"WORKER_NAME": name}, name))
            for name in names
        ]
        ready = await asyncio.gather(*(one.said(_READY) for one in children))
        yield await stack.enter_async_context(connected(f"127.0.0.1:{ready[0][0][0]}", [one.pid for one in children]))


@asynccontextmanager
async def connected(address: str, pids: Sequence[int] = ()) -> AsyncIterator[Sickbay]:
    """A client with a connection; `pids` are the system's processes, if anybody asks what they cost."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield Sickbay(address, channel, pids)

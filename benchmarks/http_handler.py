"""Jobs behind HTTP: how many per second one worker posts to an endpoint on this machine, and what each costs.

    python -m benchmarks.http_handler

Beside them the same jobs with a handler in Python that does nothing, and the same requests by httpx alone, 10 and 100 at a time. The
endpoint is a process of its own, whose CPU is not counted. About half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import httpx
import psutil
import uvloop

from benchmarks.embedded import BATCH, PAYLOAD, PORTS, System, started
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub

AT_A_TIME: Final = (10, 100)
"""The second is what a worker runs by default."""
HEADERS: Final = {"Content-Type": "application/json", "Content-Length": str(len(PAYLOAD)), "Idempotency-Key": "0190f2a0-1111.0"}
ANSWER: Final = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"n": 1}'


async def serve() -> None:
    """Answer every request at once; the port is told first."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
                writer.write(ANSWER)
        except EOFError:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def endpoint() -> Iterator[str]:
    """The URL of an endpoint in a process of its own."""
    with subprocess.Popen([sys.executable, "-m", "benchmarks.http_handler", "--serve"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/jobs"  # type: ignore[union-attr]  # it is a pipe
        finally:
            process.terminate()


async def alone(name: str, post: Callable[[], Awaitable[object]], count: int, at_a_time: int) -> None:
    """So many requests."""
    calls = iter(range(count))

    async def client() -> None:
        for _ in calls:
            await post()

    await post()
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_a_time)))
    show(name, count, time.perf_counter() - began, time.process_time() - cpu)


async def jobs(name: str, system: System, job_type: str, count: int) -> None:
    """So many jobs in batches, until all have succeeded; what is counted is the whole system in one process."""
    request = BatchSubmitJobsRequest(requests=[SubmitJobRequest(job_type=job_type, payload_json=PAYLOAD)] * BATCH)
    before, cpu, began = await system.succeeded(), system.cpu(), time.perf_counter()
    for _ in range(count // BATCH):
        await system.jobs.BatchSubmitJobs(request)
    await system.settle(before + count)
    show(name, count, time.perf_counter() - began, system.cpu() - cpu)


def show(name: str, count: int, seconds: float, cpu: float) -> None:
    """One line."""
    print(f"{name:<34} {count / seconds:8.0f} /s {cpu / count * 1e6:8.0f} CPU us each", flush=True)


async def measure(folder: Path, count: int) -> None:
    """Everything, printed as it comes."""
    with endpoint() as url:
        for at_a_time in AT_A_TIME:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            async with httpx.AsyncClient(trust_env=False, limits=limits) as client:
                post = partial(client.post, url, headers=HEADERS, content=PAYLOAD)
                await alone(f"httpx alone, {at_a_time} at a time", post, count // at_a_time * 10, at_a_time)
        settings = folder / "sickbay.toml"
        settings.write_text(f'[types.posted]\nhandler = "{url}"\n')
        os.environ["SICKBAY_CONFIG"] = str(settings)
        with started(folder / "data", folder / "starts.txt") as process:
            async with (
                grpc.aio.insecure_channel(f"127.0.0.1:{PORTS[3]}") as channel,
                grpc.aio.insecure_channel(f"127.0.0.1:{PORTS[5]}") as plane,
            ):
                await asyncio.gather(channel.channel_ready(), plane.channel_ready())
                system = System(psutil.Process(process.pid), JobServiceStub(channel), BreakerServiceStub(plane))
                for job_type in ("noop", "posted"):
                    await jobs(f"(warming up: {job_type})", system, job_type, 1_000)
                await jobs("a handler in Python, does nothing", system, "noop", count)
                await jobs("a handler behind HTTP", system, "posted", count)


def main() -> None:
    """Measure in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5_000, help="requests and jobs of each kind")
    parser.add_argument("--serve", action="store_true", help="be the endpoint")
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve())
        return
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(Path(folder), options.count))


if __name__ == "__main__":
    main()

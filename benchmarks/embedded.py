"""How fast the embedded system is: one process, real files, everything durable. `make bench`, about a minute.

The floor is what SQLite alone takes here for the same durable steps, measured in the same run: compare the ratios, not the numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import uvloop

from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsRequest
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub

HERE = Path(__file__).parent
PORTS = (46100, 46101, 46102, 46103, 46104, 46105)
NAMES = ("jobapi-port", "worker-port", "control-plane-port", "jobapi-grpc-port", "worker-grpc-port", "control-plane-grpc-port")
BATCH = 100
PAYLOAD = '{"to": "user@example.com", "subject": "Hello", "body": "Message content"}'


@dataclass
class System:
    """A running `sickbay up`."""

    process: psutil.Process
    jobs: Any
    breakers: Any

    async def succeeded(self) -> int:
        """How many jobs the ledger knows as SUCCEEDED."""
        return int((await self.breakers.GetMetrics(GetMetricsRequest())).jobs_by_state["SUCCEEDED"])

    async def settle(self, target: int) -> None:
        """Wait until so many have succeeded."""
        while await self.succeeded() < target:
            await asyncio.sleep(0.05)

    def cpu(self) -> float:
        """CPU seconds so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def started(folder: Path, starts: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`sickbay up` with handlers that do nothing."""
    options = [f"--{name}={port}" for name, port in zip(NAMES, PORTS, strict=True)]
    env = os.environ | {"JOB_HANDLERS": "noop_handlers", "BENCH_STARTS": str(starts), "LOG_LEVEL": "WARNING", "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "sickbay_cli", "up", "--data", str(folder), *options]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def first_job(began: float) -> float:
    """Seconds from the start of the program to its first accepted job."""
    body = json.dumps({"jobType": "noop", "payload": json.loads(PAYLOAD)}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORTS[0]}/jobs", body, {"Content-Type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=1):  # noqa: S310
                return time.perf_counter() - began
        except urllib.error.HTTPError as error:
            raise SystemExit(f"the first job is refused: {error.read().decode()}") from None
        except OSError:
            time.sleep(0.01)


async def batched(system: System, count: int) -> tuple[float, float, float]:
    """Jobs per second submitted and done in batches of 100, and CPU microseconds per job of the whole system."""
    request = BatchSubmitJobsRequest(requests=[SubmitJobRequest(job_type="noop", payload_json=PAYLOAD)] * BATCH)
    return await _throughput(system, count, BATCH, lambda: system.jobs.BatchSubmitJobs(request), 8)


async def one_by_one(system: System, count: int) -> tuple[float, float, float]:
    """The same with one call per job, 64 calls at a time."""
    request = SubmitJobRequest(job_type="noop", payload_json=PAYLOAD)
    return await _throughput(system, count, 1, lambda: system.jobs.SubmitJob(request), 64)


async def _throughput(system: System, count: int, size: int, call: Any, concurrency: int) -> tuple[float, float, float]:
    before, cpu, began = await system.succeeded(), system.cpu(), time.perf_counter()
    calls = iter(range(count // size))

    async def client() -> None:
        for _ in calls:
            await call()

    await asyncio.gather(*(client() for _ in range(concurrency)))
    accepted = time.perf_counter() - began
    await system.settle(before + count)
    return count / accepted, count / (time.perf_counter() - began), (system.cpu() - cpu) / count * 1e6


async def latencies(system: System, starts: Path, rate: int, seconds: int) -> list[float]:
    """Milliseconds from before the submit call to the begin of the handler, at a steady rate."""
    before = await system.succeeded()
    tasks = set()
    began = time.perf_counter()
    for n in range(rate * seconds):
        await asyncio.sleep(max(0.0, began + n / rate - time.perf_counter()))
        request = SubmitJobRequest(job_type="timed", payload_json=f'{{"sent": {time.time_ns()}}}')
        tasks.add(asyncio.ensure_future(system.jobs.SubmitJob(request)))
    await asyncio.gather(*tasks)
    await system.settle(before + rate * seconds)
    return sorted(int(line) / 1000 for line in starts.read_text("ascii").split())


def floor(folder: Path, count: int) -> float:
    """Messages per second that SQLite alone stores, hands out and deletes durably, 100 in a transaction."""
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE m (id INTEGER PRIMARY KEY, body BLOB)")
    began = time.perf_counter()
    for _ in range(count // BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO m (body) VALUES (?)", [(PAYLOAD.encode(),)] * BATCH)
        connection.execute("COMMIT")
        rows = connection.execute("SELECT id, body FROM m ORDER BY id LIMIT ?", (BATCH,)).fetchall()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("DELETE FROM m WHERE id = ?", [(row[0],) for row in rows])
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    return count / seconds


def percentile(values: list[float], percent: float) -> float:
    """The value below which so many percent lie."""
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


async def measure(folder: Path, scale: float) -> None:
    """Everything, printed as it comes."""
    starts = folder / "starts.txt"
    raw = floor(folder, int(20_000 * scale))
    launched = time.perf_counter()
    with started(folder / "data", starts) as process:
        print(f"start to first accepted job   {first_job(launched):8.2f} s")
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{PORTS[3]}") as channel,
            grpc.aio.insecure_channel(f"127.0.0.1:{PORTS[5]}") as plane,
        ):
            system = System(psutil.Process(process.pid), JobServiceStub(channel), BreakerServiceStub(plane))
            await system.settle(1)
            await _idle(system)
            times = await latencies(system, starts, 100, max(1, int(10 * scale)))
            print(f"submit to handler, 100/s      {statistics.median(times):8.2f} ms p50 {percentile(times, 99):8.2f} ms p99")
            await batched(system, 1_000)
            for name, run, count in (("batches of 100", batched, 30_000), ("one by one, 64 at a time", one_by_one, 6_000)):
                accepted, done, cpu = await run(system, int(count * scale))
                print(f"{name:<29} {accepted:8.0f} accepted/s {done:8.0f} done/s {cpu:6.0f} CPU us a job {done / raw:6.2f} of the floor")
            print(f"memory after all              {system.process.memory_info().rss / 1e6:8.0f} MB")
    print(f"floor: SQLite alone           {raw:8.0f} messages/s stored, handed out and deleted, 100 in a transaction")


async def _idle(system: System) -> None:
    await asyncio.sleep(2)
    cpu = system.cpu()
    await asyncio.sleep(10)
    print(f"idle                          {(system.cpu() - cpu) * 10:8.2f} % of a core, {system.process.memory_info().rss / 1e6:.0f} MB")


def main() -> None:
    """Measure in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="smaller is shorter")
    parser.add_argument("--folder", type=Path, help="where to put the data; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        uvloop.run(measure(Path(folder), options.scale))


if __name__ == "__main__":
    main()

"""Rates of runs on real servers: how long 100 jobs take at 10/s on 4 workers, and what jobs that wait for the rate cost meanwhile.

    python scripts/with_servers.py python benchmarks/rates.py --waiting 100000

Needs rabbitmqctl. The messages per second are those of the whole broker, so nothing else may use it. About a minute, and as long again as
it takes to submit and park so many jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import httpx
import psutil
from redis.asyncio import Redis

from benchmarks.outage.corner import RABBITMQCTL, own_corner
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub

if TYPE_CHECKING:
    from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceAsyncStub

HERE: Final = Path(__file__).parent
WORKERS: Final = 4
PORTS: Final = {"jobapi": 46300, "controlplane": 46302, "worker": 46310}
BATCH: Final = 1_000
WATCHED_S: Final = 30.0
COUNTERS: Final = {"published": "messages_received_total", "delivered": "messages_delivered_total", "acked": "messages_acknowledged_total"}


@contextlib.contextmanager
def services(env: Mapping[str, str]) -> Iterator[Mapping[str, list[psutil.Process]]]:
    """One Job API, one control plane, four workers."""
    started: list[tuple[str, subprocess.Popen[bytes]]] = []
    try:
        for number, name in enumerate(["controlplane", "jobapi", *["worker"] * WORKERS]):
            port = PORTS[name] + (2 * number if name == "worker" else 0)
            own = {"BIND_HOST": "127.0.0.1", "PORT": str(port), "GRPC_PORT": str(port + 1), **env}
            started.append((name, subprocess.Popen([sys.executable, "-m", name], env=os.environ | own)))
        found: dict[str, list[psutil.Process]] = {}
        for name, process in started:
            found.setdefault(name, []).append(psutil.Process(process.pid))
        yield found
    finally:
        for _, process in started:
            process.terminate()
        for _, process in started:
            process.wait(60)


class Watch:
    """What broker, Redis and processes did over a stretch."""

    def __init__(self, redis: Redis, processes: Mapping[str, list[psutil.Process]]) -> None:
        """Call `begin`, later `report`."""
        self._redis = redis
        brokers = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "beam.smp"]
        databases = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "postgres"]
        self._processes = {**processes, "RabbitMQ": brokers, "PostgreSQL": databases}

    async def begin(self) -> None:
        """Start."""
        self._began, self._before, self._cpu = time.perf_counter(), await self._counts(), self._cpus()

    async def report(self) -> None:
        """Print what happened per second."""
        seconds, after = time.perf_counter() - self._began, await self._counts()
        rates = {name: (after[name] - count) / seconds for name, count in self._before.items()}
        print("  per second: " + ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items()))
        cpus = {name: (used - self._cpu[name]) / seconds for name, used in self._cpus().items()}
        print("  of one core: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in cpus.items()))

    async def _counts(self) -> Mapping[str, int]:
        command = [*RABBITMQCTL, "eval", "rabbit_global_counters:overview()."]
        text = (await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)).stdout.decode()
        counts = {name: sum(map(int, re.findall(rf"{counter} => (\d+)", text))) for name, counter in COUNTERS.items()}
        return counts | {"Redis commands": int((await self._redis.info("stats"))["total_commands_processed"])}

    def _cpus(self) -> Mapping[str, float]:
        used = {}
        for name, processes in self._processes.items():
            times = []
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    times.append(process.cpu_times())
            used[name] = sum(one.user + one.system for one in times)
        return used


async def submit(jobs: JobServiceAsyncStub, count: int) -> float:
    """Submit so many jobs, all sent now; returns how long that took."""
    began = time.perf_counter()
    request = SubmitJobRequest(job_type="timed", payload_json=f'{{"sent": {time.time_ns()}}}')
    for start in range(0, count, BATCH):
        await jobs.BatchSubmitJobs(BatchSubmitJobsRequest(requests=[request] * min(BATCH, count - start)))
    return time.perf_counter() - began


def waiting() -> float:
    """How many jobs wait for the rate, as the control plane says."""
    text = httpx.get(f"http://127.0.0.1:{PORTS['controlplane']}/metrics", headers={"accept": "text/plain"}).text
    return sum(float(found) for found in re.findall(r"^sickbay_rate_waiting_jobs\{.*\} (\S+)$", text, re.MULTILINE))


async def until_waiting(count: Callable[[], int]) -> None:
    """Until so many are parked, and no more come; it gets smaller as jobs run."""
    while await asyncio.to_thread(waiting) < count():
        await asyncio.sleep(0.5)


def starts(file: Path) -> list[float]:
    """Seconds from the submit to each run, in order."""
    return sorted(int(line) / 1e6 for line in file.read_text("ascii").split())


async def measure(count: int) -> None:
    """Everything, printed as it comes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sickbay.toml").write_text('[types.timed]\nrate = "10/s"\n')
        async with own_corner() as env:
            own = {"SICKBAY_CONFIG": str(folder / "sickbay.toml"), "BENCH_STARTS": str(folder / "starts"), "LOG_LEVEL": "ERROR"}
            handlers = {"PYTHONPATH": str(HERE), "JOB_HANDLERS": "noop_handlers"}
            address = f"127.0.0.1:{PORTS['jobapi'] + 1}"
            with services({**env, **own, **handlers}) as processes:
                async with grpc.aio.insecure_channel(address) as channel, Redis.from_url(env["REDIS_URL"]) as redis:
                    async with asyncio.timeout(60):
                        await channel.channel_ready()
                    await steps(JobServiceStub(channel), folder / "starts", Watch(redis, processes), count)


async def steps(jobs: JobServiceAsyncStub, file: Path, watch: Watch, count: int) -> None:
    """The rows."""
    await asyncio.sleep(5)  # all workers consume
    await submit(jobs, 100)
    while len(starts(file)) < 100:
        await asyncio.sleep(0.1)
    times = starts(file)
    most = max(sum(begin <= one < begin + 1 for one in times) for begin in times)
    print(f"100 jobs at 10/s on {WORKERS} workers: the last starts after {times[-1]:.2f} s, at most {most} in any second")
    await asyncio.sleep(5)
    await watch.begin()
    await asyncio.sleep(WATCHED_S)
    print("idle")
    await watch.report()
    print(f"{count:,} jobs submitted in {await submit(jobs, count):.1f} s")
    began, before = time.perf_counter(), len(starts(file))
    await until_waiting(lambda: count - 1_000 - len(starts(file)))
    print(f"all but those that ran wait {time.perf_counter() - began:.1f} s later")
    await asyncio.sleep(10)
    before = len(starts(file))
    await watch.begin()
    await asyncio.sleep(WATCHED_S)
    ran = len(starts(file)) - before
    print(f"{await asyncio.to_thread(waiting):,.0f} jobs wait, {ran / WATCHED_S:.1f} run per second")
    await watch.report()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=100_000, help="jobs that wait while the broker is watched")
    asyncio.run(measure(parser.parse_args().waiting))


if __name__ == "__main__":
    main()

"""The distributed form on RabbitMQ beside the raw aio-pika floor, in one run: same queue type, same message size. About a minute.

    python scripts/with_servers.py python benchmarks/rabbitmq.py

Needs rabbitmqctl, for a virtual host of its own. Compare the ratios, not the numbers: client, workers and broker share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import grpc
import psutil
import uvloop

from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.adapters.embedded.workers import EmbeddedWorkerRegistry
from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.domain.breaker import BreakerConfig
from sickbay.domain.job import Job, new_job_id
from sickbay.domain.queries import DuplicateCheck
from sickbay.domain.retry import RetryPolicy
from sickbay.fleet import FleetView
from sickbay.handlers.registry import HandlerSpec
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from sickbay.messages.codec import encode_job
from sickbay.messages.outbox import EventOutbox
from sickbay.ports import Queue
from sickbay.runtime.backends import wall_clock
from worker.engine import Engine
from worker.runner import Runner

HERE = Path(__file__).parent
PAYLOAD = b'{"to": "user@example.com", "subject": "Hello", "body": "Message content"}'
IN_FLIGHT = 100
PREFETCH = 200
RABBITMQCTL = shlex.split(os.environ.get("SICKBAY_TEST_RABBITMQCTL") or "rabbitmqctl")
SERVER = os.environ.get("SICKBAY_TEST_RABBITMQ_URL") or "amqp://guest:guest@localhost:5672"
PORTS = {"jobapi": (46200, 46203), "worker": (46201, 46204)}


@contextmanager
def own_vhost() -> Iterator[str]:
    """The URL of a virtual host that is deleted afterwards."""
    name = f"sickbay-bench-{os.getpid()}"
    for command in (["add_vhost", name], ["set_permissions", "-p", name, urlsplit(SERVER).username or "guest", ".*", ".*", ".*"]):
        subprocess.run([*RABBITMQCTL, *command], check=True, capture_output=True)
    try:
        yield urlsplit(SERVER)._replace(path=f"/{name}").geturl()
    finally:
        subprocess.run([*RABBITMQCTL, "delete_vhost", name], check=True, capture_output=True)


def body() -> bytes:
    """One job as it lies in the queue."""
    return encode_job(Job(new_job_id(wall_clock()), "noop", PAYLOAD, submitted_at=wall_clock()))


class Meter:
    """Wall and CPU time of this process and of the broker over a stretch."""

    def __init__(self) -> None:
        """Start."""
        brokers = (one for one in psutil.process_iter(["name"]) if one.info["name"] == "beam.smp")
        self._processes = (psutil.Process(), *brokers)
        self._began, self._cpu = time.perf_counter(), self._now()

    def _now(self) -> tuple[float, ...]:
        return tuple(times.user + times.system for times in (process.cpu_times() for process in self._processes))

    def row(self, name: str, count: int, floor: float | None = None) -> float:
        """Print and return the rate."""
        rate = count / (time.perf_counter() - self._began)
        ours, *broker = ((after - before) / count * 1e6 for before, after in zip(self._cpu, self._now(), strict=True))
        ratio = "" if floor is None else f"{rate / floor:6.2f} of the floor"
        print(f"{name:<44} {rate:8.0f}/s {ours:7.0f} CPU us here {sum(broker):6.0f} in the broker {ratio}")
        return rate


async def pipelined(count: int, call: Callable[[], Awaitable[Any]], in_flight: int = IN_FLIGHT) -> None:
    """Make `count` calls, so many at a time."""
    calls = iter(range(count))

    async def client() -> None:
        for _ in calls:
            await call()

    await asyncio.gather(*(client() for _ in range(in_flight)))


@asynccontextmanager
async def raw_queue(url: str) -> AsyncIterator[tuple[Any, Any]]:
    """A raw channel with confirms and a quorum queue on it."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(PREFETCH)
        yield channel, await channel.declare_queue("raw", durable=True, arguments={"x-queue-type": "quorum"})


async def raw_floor(url: str, count: int) -> tuple[float, float]:
    """Publishes with confirms, then consumes and acks, with nothing but aio-pika."""
    async with raw_queue(url) as (channel, queue):
        message = aio_pika.Message(body(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        meter = Meter()
        await pipelined(count, lambda: channel.default_exchange.publish(message, "raw", mandatory=True))
        publish = meter.row("floor: aio-pika publish with confirm", count)
        done = asyncio.Event()
        left = count

        async def handle(delivery: Any) -> None:
            nonlocal left
            await delivery.ack()
            left -= 1
            if not left:
                done.set()

        meter = Meter()
        await queue.consume(handle)
        await done.wait()
        return publish, meter.row("floor: aio-pika consume and ack", count)


class NothingKnown:
    """A fence that lets everything through: all jobs of this benchmark are fresh."""

    async def caught_up(self) -> None:
        """Nothing is known."""

    async def check(self, job: Job, *, suspect: bool) -> DuplicateCheck:
        """Nothing is known."""
        return DuplicateCheck(superseded=False)

    async def crashes(self, job: Job) -> int:
        """Nothing was counted."""
        return 0

    async def clear_crashes(self, job: Job) -> None:
        """Nothing was counted."""

    def is_cancelled(self, job: Job) -> bool:
        """Nothing is known."""
        return False

    def is_to_end(self, job: Job) -> bool:
        """Nothing is known."""
        return False

    async def begin(self, job: Job) -> bool:
        """Nothing is known."""
        return True

    def end(self, job: Job) -> None:
        """Nobody wants to know."""

    def register_worker(self, is_unreported: Callable[[str], bool], cancel: Callable[[str], object] = str, *, takes_jobs: bool) -> None:
        """Nobody asks."""


async def engine(url: str, count: int, floor: float) -> None:
    """The whole way of a job through our engine: decode, admit, no-op handler, verdict, event, ack."""
    left, done = count, asyncio.Event()

    async def noop(job: Job) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    async with RabbitBroker(url, wall_clock) as broker:
        await broker.ready()
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            exchange = await channel.get_exchange("jobs")
            await pipelined(
                count, lambda: exchange.publish(aio_pika.Message(body(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT), "main")
            )
        breakers = EmbeddedBreakers(BreakerConfig(), wall_clock, SystemRandom())
        runner = Runner(breakers, timeout_s=30, concurrency=1)
        async with EventOutbox(broker) as events:
            working = Engine(
                broker=broker,
                breakers=breakers,
                guard=NothingKnown(),
                events=events,
                runner=runner,
                handlers={"noop": HandlerSpec("noop", noop)},
                policy=RetryPolicy(),
                concurrency=PREFETCH // 2,
                clock=wall_clock,
                name="bench",
                fleet=FleetView(EmbeddedWorkerRegistry(wall_clock), broker),
            )
            meter = Meter()
            task = asyncio.create_task(working.run())
            await done.wait()
            await events.flush()
            meter.row("our engine: consume, run, event, ack", count, floor)
            await working.drain(5)
            await task
            runner.close()
        if await broker.depth(Queue.MAIN):
            print("jobs were left in the queue: this run proves nothing")


@contextmanager
def service(name: str, url: str, **env: str) -> Iterator[psutil.Process]:
    """One of our services as a process of its own."""
    http, rpc = PORTS[name]
    own = {"RABBITMQ_URL": url, "PORT": str(http), "GRPC_PORT": str(rpc), "LOG_LEVEL": "WARNING", "PYTHONPATH": str(HERE), **env}
    with subprocess.Popen([sys.executable, "-m", name], env=os.environ | own) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


async def submits(url: str, count: int, floor: float) -> None:
    """SubmitJob and BatchSubmitJobs over gRPC against the publish floor."""
    with service("jobapi", url) as process:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{PORTS['jobapi'][1]}") as channel:
            async with asyncio.timeout(30):
                await channel.channel_ready()
            jobs = JobServiceStub(channel)
            one = SubmitJobRequest(job_type="noop", payload_json=PAYLOAD.decode())
            many = BatchSubmitJobsRequest(requests=[one] * 100)
            await jobs.SubmitJob(one)
            for name, size, request, call in (
                ("SubmitJob", 1, one, jobs.SubmitJob),
                ("BatchSubmitJobs of 100", 100, many, jobs.BatchSubmitJobs),
            ):
                before, meter = process.cpu_times(), Meter()
                await pipelined(count // size, lambda call=call, request=request: call(request), 64 if size == 1 else 8)  # type: ignore[misc]
                meter.row(name, count, floor)
                used = process.cpu_times()
                print(f"{'':<44} {(used.user + used.system - before.user - before.system) / count * 1e6:17.0f} CPU us in jobapi")


async def latency(url: str, redis: str, folder: Path, seconds: int) -> None:
    """From before the submit call to the begin of the handler, at 100 jobs a second."""
    starts = folder / "starts.txt"
    with service("jobapi", url), service("worker", url, REDIS_URL=redis, JOB_HANDLERS="noop_handlers", BENCH_STARTS=str(starts)):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{PORTS['jobapi'][1]}") as channel:
            async with asyncio.timeout(30):
                await channel.channel_ready()
            jobs = JobServiceStub(channel)
            count = 100 * seconds
            tasks = []
            began = time.perf_counter()
            for n in range(count):
                await asyncio.sleep(max(0.0, began + n / 100 - time.perf_counter()))
                request = SubmitJobRequest(job_type="timed", payload_json=f'{{"sent": {time.time_ns()}}}')
                tasks.append(asyncio.ensure_future(jobs.SubmitJob(request)))
            await asyncio.gather(*tasks)
            while len(times := starts.read_text("ascii").split()) < count:
                await asyncio.sleep(0.1)
    ms = sorted(int(one) / 1000 for one in times[50:])
    print(f"submit to handler at 100/s: {statistics.median(ms):.2f} ms p50, {ms[int(len(ms) * 0.99)]:.2f} ms p99")


async def measure(count: int, redis: str) -> None:
    """Everything, printed as it comes."""
    with own_vhost() as url:
        publish, consume = await raw_floor(url, count)
        await engine(url, count, consume)
    with own_vhost() as url:
        await submits(url, count, publish)
    with own_vhost() as url, tempfile.TemporaryDirectory() as folder:
        await latency(url, redis, Path(folder), 10)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="messages for each row")
    parser.add_argument("--redis", default=(os.environ.get("SICKBAY_TEST_REDIS_URL") or "redis://localhost:6379") + "/14")
    options = parser.parse_args()
    uvloop.run(measure(options.count, options.redis))


if __name__ == "__main__":
    main()

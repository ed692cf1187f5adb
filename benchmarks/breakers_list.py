"""How long `GET /breakers` takes with thousands of breakers: one control plane in a process of its own, read over HTTP page by page.

    python -m benchmarks.breakers_list                      embedded, and on a Redis that it starts
    python -m benchmarks.breakers_list --redis URL          embedded, and on this Redis, in a database that is empty

Prints p50, p99 and the fastest of a page and of all pages, and the CPU time of the control plane for all pages, which depends less on what
else the machine does. The client counts from the first byte that it sends to the last that it reads; it parses the JSON afterwards.
Nothing is asserted: compare two runs on one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from pathlib import Path
from random import Random

import psutil
import uvloop

from controlplane.app import serve
from scripts.servers import Redis
from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.adapters.embedded.workers import EmbeddedWorkerRegistry
from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.breaker import BreakerKey, BreakerScope, Permit
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.ports import Breakers
from sickbay.runtime.parts import ControlPlaneParts
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.server.endpoints import Address
from sickbay.system.clock import SteadyClock, wall_clock

PAGE = 1_000
FAILED = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "the mail server did not answer within 5 s")
WARM_UP = 3
OPEN_EVERY = 10
"""One breaker in so many is OPEN, the others have failed once."""


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--breakers", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--redis", help="the URL of an empty database of a Redis")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        uvloop.run(serve_breakers(options.serve, options.breakers))
        return
    with tempfile.TemporaryDirectory() as folder:
        own = nullcontext(None) if options.redis else Redis(Path(folder) / "redis")
        with own as server:
            for name, url in (("embedded", ""), ("redis", server.url if server else options.redis)):
                with serving(url, options.breakers) as (port, process):
                    report(name, port, process, options.breakers, options.rounds)


async def serve_breakers(url: str, number: int) -> None:
    """Serve breakers of tenants until standard input ends; prints the port."""
    gc.set_threshold(50_000, 20, 50)  # as a service does
    settings = Settings.read(breaker_trip_confirm_ms=0)  # the failures come within a millisecond
    config_of = Policies(settings).breaker
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(open_ledger("sqlite://", wall_clock))
        broker = await stack.enter_async_context(SqliteBroker(":memory:", SteadyClock()))
        breakers: Breakers = EmbeddedBreakers(config_of, wall_clock, Random(1))
        if url:
            breakers = await stack.enter_async_context(RedisBreakers(url, config_of))
        await fail(breakers, number, settings.failure_threshold)
        parts = ControlPlaneParts(
            broker=broker,
            clock=wall_clock,
            ready=ledger.link.wait_up,
            breaker_scope=BreakerScope.TENANT,
            breakers=breakers,
            workers=EmbeddedWorkerRegistry(wall_clock),
            writer=ledger.writer,
            quarantine=ledger.quarantine,
            scheduled_jobs=ledger.scheduled_jobs,
            schedules=ledger.schedules,
            schedule_statistics=ledger.schedule_statistics,
            lost=ledger.lost,
            holds=ledger.holds,
            incidents=ledger.incidents,
            audit=ledger.audit,
            notices=ledger.notices,
        )
        endpoints = await stack.enter_async_context(serve(parts, Address("127.0.0.1", 0, 0)))
        await endpoints.serving()
        print(endpoints.rest_port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def fail(breakers: Breakers, number: int, threshold: int) -> None:
    """Make so many breakers of tenants that have something to show; `threshold` failures open one."""
    keys = {BreakerKey(f"job-type-{index % 50:02}", f"tenant-{index:05}"): index for index in range(number)}
    while missing := keys.keys() - set(await breakers.keys()):  # a Redis that is slow for a moment does not get them all
        for key in sorted(missing):
            for job in range(1 if keys[key] % OPEN_EVERY else threshold):
                permit = await breakers.admit(key, f"job-{job}")
                if isinstance(permit, Permit):
                    await breakers.settle(permit, FAILED)


@contextmanager
def serving(url: str, number: int) -> Iterator[tuple[int, psutil.Process]]:
    """A control plane in a process of its own, and its port."""
    command = [sys.executable, "-m", "benchmarks.breakers_list", "--breakers", str(number), "--serve", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise SystemExit("the control plane did not start")
        try:
            yield int(line), psutil.Process(process.pid)
        finally:
            process.communicate(timeout=30)  # it ends with its standard input


def report(name: str, port: int, process: psutil.Process, number: int, rounds: int) -> None:
    """Read all pages again and again, and print how long it took."""
    pages: list[float] = []
    totals: list[float] = []
    size, cpu, first = 0, 0.0, 0.0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for turn in range(-WARM_UP, rounds):
        if not turn:
            cpu = cpu_ms(process)
        took, token, seen, size = [], "", 0, 0
        while True:
            began = time.perf_counter()
            connection.request("GET", f"/breakers?pageSize={PAGE}" + (f"&pageToken={token}" if token else ""))
            body = connection.getresponse().read()
            took.append((time.perf_counter() - began) * 1000)
            page = json.loads(body)
            seen, size, token = seen + page["count"], size + len(body), page.get("nextPageToken", "")
            if not token:
                break
        if seen != number:
            raise SystemExit(f"{seen} breakers were listed, not {number}")
        first = first or sum(took)
        if turn >= 0:
            pages += took
            totals.append(sum(took))
    cpu = (cpu_ms(process) - cpu) / rounds
    connection.close()
    print(f"{name}: {number} breakers, {size / 1024:.0f} KiB; all pages the first time {first:.1f} ms", flush=True)
    for what, values in ("a page", pages), ("all pages", totals):
        print(f"  {what}: p50 {statistics.median(values):.1f} ms, p99 {high(values):.1f} ms, fastest {min(values):.1f} ms", flush=True)
    print(f"  CPU of the control plane: {cpu:.1f} ms for all pages", flush=True)


def cpu_ms(process: psutil.Process) -> float:
    """The CPU time so far."""
    times = process.cpu_times()
    return float(times.user + times.system) * 1000


def high(values: list[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


if __name__ == "__main__":
    main()

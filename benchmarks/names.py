"""What made-up tenants and job types cost: jobs of random names go in, one batch after the other, beside a client with an ordinary job.

    python -m benchmarks.names --jobs 20000                    sickbay up, in memory
    python -m benchmarks.names --jobs 20000 --url URL --plane URL    a running system, for example a fleet on Redis

Prints how many were taken, the memory of the process before and after, series of all three ports, how long GET /breakers takes, and the
ordinary client's slowest submissions. Nothing is asserted: compare two runs on one machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import httpx

from scripts.servers import free_port

BATCH = 500

Running = tuple[str, str, list[str], int]
"""The URLs of the Job API, of the control plane and of what else has metrics, and the process (0 if it is somebody else's)."""


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--url", help="the Job API of a running system")
    parser.add_argument("--plane", help="its control plane")
    options = parser.parse_args()
    running: AbstractContextManager[Running] = nullcontext((options.url, options.plane, [], 0)) if options.url else started()
    with running as (url, plane, others, pid), httpx.Client(timeout=60) as client:
        ports = [url, plane, *others]
        show("before", client, plane, ports, pid)
        with ordinary(url) as waits:
            idle = measured(waits, 2.0)
            taken = flood(client, url, options.jobs)
            crowded = waits[len(idle) :]
        print(f"{options.jobs} jobs of as many tenants: {taken} taken, {options.jobs - taken} refused")
        print(f"ordinary client, ms: p50 {ms(statistics.median(idle))} p99 {ms(high(idle))} idle; ", end="")
        print(f"p50 {ms(statistics.median(crowded))} p99 {ms(high(crowded))} beside the flood")
        show("after", client, plane, ports, pid)
        names = [client.post(f"{plane}/breakers/made-up-{number}/force-open", json={}).status_code for number in range(300)]
        print(f"300 force-opens of made-up types: {names.count(200)} taken")
        show("held", client, plane, ports, pid)


@contextmanager
def started() -> Iterator[Running]:
    """`sickbay up` in memory, with quiet logs."""
    ports = [free_port() for _ in range(6)]
    options = [f"--{name}={port}" for name, port in zip(OPTIONS, ports, strict=True)]
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w") as log:
        command = [sys.executable, "-m", "sickbay_cli", "up", "--ephemeral", *options]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        urls = [f"http://127.0.0.1:{port}" for port in ports[:3]]
        try:
            for url in urls:
                await_health(url)
            yield urls[0], urls[2], [urls[1]], process.pid
        finally:
            process.terminate()
            process.wait(60)


OPTIONS = ("jobapi-port", "worker-port", "control-plane-port", "jobapi-grpc-port", "worker-grpc-port", "control-plane-grpc-port")


def await_health(url: str) -> None:
    """Until the service answers; at most half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not become ready")


@contextmanager
def ordinary(url: str) -> Iterator[list[float]]:
    """A client that submits one job each 50 ms; the seconds that each took."""
    waits: list[float] = []
    over = threading.Event()

    def submit() -> None:
        with httpx.Client(timeout=60) as client:
            while not over.wait(0.05):
                began = time.perf_counter()
                client.post(f"{url}/jobs", json={"jobType": "sms", "payload": {"to": "1"}})
                waits.append(time.perf_counter() - began)

    thread = threading.Thread(target=submit, daemon=True)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()


def measured(waits: list[float], seconds: float) -> list[float]:
    """What comes in within some seconds."""
    time.sleep(seconds)
    return list(waits)


def flood(client: httpx.Client, url: str, jobs: int) -> int:
    """How many of so many jobs, each of a tenant of its own, are taken."""
    taken = 0
    for begin in range(0, jobs, BATCH):
        some = [{"jobType": "sms", "tenant": f"t-{uuid.uuid4().hex}", "payload": {}} for _ in range(begin, min(begin + BATCH, jobs))]
        answer = client.post(f"{url}/jobs:batch", content=json.dumps({"jobs": some}), headers={"content-type": "application/json"})
        taken += sum("jobId" in result for result in answer.json().get("results", []))
    return taken


def show(when: str, client: httpx.Client, plane: str, ports: list[str], pid: int) -> None:
    """Memory, series, circuits and how long they take."""
    began = time.perf_counter()
    answer = client.get(f"{plane}/breakers")
    took = time.perf_counter() - began
    series = sum(sum(not line.startswith("#") for line in client.get(f"{url}/metrics").text.splitlines()) for url in ports if url)
    resident = f"{int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * 4096 / 2**20:.0f} MB" if pid else "unknown"
    print(f"{when}: {answer.json()['count']} circuits in {ms(took)} ms, {series} series, resident {resident}")


def ms(seconds: float) -> str:
    """As text."""
    return f"{seconds * 1000:.1f}"


def high(waits: list[float]) -> float:
    """The 99th percentile."""
    return sorted(waits)[int(len(waits) * 0.99)] if waits else 0.0


if __name__ == "__main__":
    main()

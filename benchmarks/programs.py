"""What a job costs that a connected program runs (docs/any-language.md), against one that a Python handler of the worker runs.

    python -m benchmarks.programs [JOBS]

Starts `sickbay up --ephemeral` twice and runs the same number of jobs that do nothing. CPU is that of the whole system in one process,
and of the program beside it.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from sickbay.client import Client, NewJob
from sickbay.jobs.v1 import work_pb2 as pb
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceStub

HERE: Final = Path(__file__).parent
JOBS: Final = 20_000
SLOTS: Final = 100
NAMES: Final = ("jobapi-port", "worker-port", "control-plane-port", "jobapi-grpc-port", "worker-grpc-port", "control-plane-grpc-port")
_PORTS: Final = re.compile(r"^ {2}(Job API|Worker) +http://localhost:(\d+) +gRPC localhost:(\d+) ")
_DONE: Final = re.compile(r'^sickbay_jobs_total\{job_type="noop",outcome="succeeded"\} (\S+)', re.MULTILINE)


class System:
    """`sickbay up` as a process of its own."""

    def __init__(self, *options: str) -> None:
        """Start it, and wait until it is up."""
        ports = [word for name in NAMES for word in (f"--{name}", "0")]
        words = [sys.executable, "-m", "sickbay_cli", "up", "--ephemeral", *ports, *options]
        self.process = subprocess.Popen(words, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.ports: dict[str, int] = {}
        for line in self.process.stdout or ():
            if found := _PORTS.match(line):
                self.ports[f"{found[1]} HTTP"], self.ports[found[1]] = int(found[2]), int(found[3])
            if line.startswith("Stop with"):
                break

    @property
    def cpu_s(self) -> float:
        """The CPU that it has used, in seconds."""
        return cpu_s(self.process.pid)

    def wait(self, count: int) -> None:
        """Wait until so many jobs have succeeded since the start."""
        url = f"http://localhost:{self.ports['Worker HTTP']}/metrics"
        while True:
            with urllib.request.urlopen(url) as answer:
                found = _DONE.search(answer.read().decode())
            if found and float(found[1]) >= count:
                return
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait()


def cpu_s(pid: int) -> float:
    """The CPU that a process has used, in seconds."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def program(port: int) -> None:
    """A program that answers each job at once."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream: Any = WorkerServiceStub(channel).Work()
        types = [pb.WorkRequest.HandledType(job_type="noop")]
        await stream.write(pb.WorkRequest(register=pb.WorkRequest.Register(name="noop", slots=SLOTS, types=types)))
        async for said in stream:
            if said.HasField("run"):
                await stream.write(pb.WorkRequest(succeeded=pb.WorkRequest.Succeeded(run_id=said.run.run_id)))
            elif said.HasField("registered"):
                print("registered", flush=True)


def measure(name: str, system: System, count: int, beside: Sequence[int] = ()) -> None:
    """Run so many jobs and print what they took."""
    with Client(f"localhost:{system.ports['Job API']}") as client:
        client.submit("noop", {})
        system.wait(1)
        before, theirs, began = system.cpu_s, [cpu_s(pid) for pid in beside], time.perf_counter()
        submitted = list(client.submit_many((NewJob("noop", {"number": number}) for number in range(count)), own_keys=False))
        system.wait(1 + len(submitted))
        took = time.perf_counter() - began
        mine = 1e6 * (system.cpu_s - before) / count
        other = "".join(f", {1e6 * (cpu_s(pid) - at) / count:.0f} us in the program" for pid, at in zip(beside, theirs, strict=True))
    print(f"{name}: {count / took:,.0f} jobs/s, CPU per job {mine:.0f} us in the system{other}")


def main(count: int) -> None:
    """Measure both."""
    system = System("--handlers", "noop_handlers")
    try:
        measure("handler of the worker", system, count)
    finally:
        system.stop()
    system = System("--programs")
    words = [sys.executable, "-m", "benchmarks.programs", "--program", str(system.ports["Worker"])]
    beside = subprocess.Popen(words, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
    try:
        if beside.stdout is not None:
            beside.stdout.readline()
        measure("connected program", system, count, [beside.pid])
    finally:
        beside.kill()
        beside.wait()
        system.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--program"]:
        asyncio.run(program(int(sys.argv[2])))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else JOBS)

"""A running product whose gRPC port is attacked, and a client beside that must not notice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import httpx
import psutil

from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from tests.support.hostile_env import Waits
from tests.support.plain_http import NO_TLS
from tests.support.system_under_test import Product
from tests.support.waiting import until


class Victim(Product):
    """The product, and what it costs."""

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def grpc_port(self) -> int:
        """Of the Job API."""
        return self.ports["Job API"][1]

    def refused(self, reason: str) -> float:
        """How often, by this bound."""
        text = httpx.get(f"http://127.0.0.1:{self.ports['Job API'][0]}/metrics", timeout=30, verify=NO_TLS).text
        found = [line for line in text.splitlines() if line.startswith("sickbay_grpc_refused_total{") and f'"{reason}"' in line]
        return float(found[0].split()[-1])


def submit(port: int) -> None:
    """A healthy client with a connection of its own."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        JobServiceStub(channel).SubmitJob(pb.SubmitJobRequest(job_type="email", payload_json='{"simulate":"ok"}'), timeout=20)


@contextmanager
def beside(victim: Victim) -> Iterator[Callable[[], int]]:
    """A client that submits all the time, and must always be answered; the block is told the most memory that was seen."""
    done, failures, most, waits = threading.Event(), [], [victim.memory], Waits()

    def work() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{victim.grpc_port}") as channel:
            stub = JobServiceStub(channel)
            while not done.wait(0.05):
                most[0] = max(most[0], victim.memory)
                began = time.monotonic()
                try:
                    stub.SubmitJob(pb.SubmitJobRequest(job_type="email", payload_json='{"simulate":"ok"}'), timeout=20)
                except grpc.RpcError as error:
                    failures.append(str(error))
                waits.add(time.monotonic() - began)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until(lambda: len(waits) >= 5)
        waits.begin()
        yield lambda: most[0]
        until(lambda: len(waits) >= 5)
    finally:
        done.set()
        thread.join()
    assert failures == []
    waits.check()

"""REST and gRPC clients of one running product, and the ways to wait for what happens in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Protocol, Self

import grpc
import httpx
from google.rpc import error_details_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_status import rpc_status

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import WatchBreakersRequest
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.job_service_pb2 import WatchJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub
from sickbay.jobs.v1.scheduled_job_service_pb2_grpc import ScheduledJobServiceStub
from tests.support.plain_http import NO_TLS

PATIENCE_S: Final = 60.0
NOT_FOUND: Final = 404
SETTLED: Final = ("SUCCEEDED", "PARKED", "QUARANTINED")


class HasPorts(Protocol):
    """What runs somewhere: `sickbay up`, or a fleet."""

    @property
    def ports(self) -> Mapping[str, tuple[int, int]]:
        """The HTTP and the gRPC port of `Job API`, `Worker` and `Control plane`."""


class Circuit:
    """The changes of one circuit as WatchBreakers tells them."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.seen: list[str] = []

    def until(self, state: str) -> Breaker:
        """Wait for this state."""
        try:
            for reply in self._call:
                self.seen.append(Breaker.State.Name(reply.breaker.state).removeprefix("STATE_"))
                if self.seen[-1] == state:
                    return reply.breaker
        except grpc.RpcError as error:
            raise AssertionError(f"the circuit never was {state}, only {self.seen}") from error
        raise AssertionError(f"the stream ended after {self.seen}")


class Clients:
    """`api`, `worker` and `plane` speak REST; `jobs`, `quarantine`, `scheduled`, `breakers` and `health` are stubs."""

    def __init__(self, product: HasPorts) -> None:
        self._stack = ExitStack()
        rest = {name: self._stack.enter_context(_http(ports[0])) for name, ports in product.ports.items()}
        self.grpc_ports = {name: ports[1] for name, ports in product.ports.items()}
        channels = {name: self._channel(port) for name, port in self.grpc_ports.items()}
        self.api, self.worker, self.plane = rest["Job API"], rest["Worker"], rest["Control plane"]
        self.jobs = JobServiceStub(channels["Job API"])
        self.quarantine = QuarantineServiceStub(channels["Control plane"])
        self.scheduled = ScheduledJobServiceStub(channels["Control plane"])
        self.breakers = BreakerServiceStub(channels["Control plane"])
        self.health = {name: HealthStub(channel) for name, channel in channels.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def submit(self, job_type: str, payload: Mapping[str, Any] | None = None, **more: Any) -> str:
        """Hand in one job over REST, with `more` fields of the request; its id."""
        answer = self.api.post("/jobs", json={"jobType": job_type, "payload": payload or {}, **more})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["jobId"])

    def submit_all(self, job_type: str, *payloads: Mapping[str, Any]) -> list[str]:
        """Hand in a batch over REST; the ids in order."""
        return self.submit_batch([(job_type, payload) for payload in payloads])

    def submit_batch(self, jobs: list[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Hand in jobs of several types in one call; the ids in order."""
        answer = self.api.post("/jobs:batch", json={"jobs": [{"jobType": kind, "payload": payload} for kind, payload in jobs]})
        assert answer.status_code == 202, answer.text
        return [str(result["jobId"]) for result in answer.json()["results"]]

    def job(self, job_id: str) -> dict[str, Any]:
        """`GET /jobs/{id}`."""
        answer = self.api.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def jobs_of(self, job_type: str, **query: Any) -> dict[str, Any]:
        """A page of `GET /jobs`."""
        answer = self.api.get("/jobs", params={"jobType": job_type, **query})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def states(self, job_id: str) -> list[str]:
        """The states the job went through, in order."""
        return [change["state"] for change in self.job(job_id)["history"]]

    def case(self, job_id: str) -> dict[str, Any]:
        """`GET /quarantine/{id}`."""
        answer = self.plane.get(f"/quarantine/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def breaker(self, job_type: str) -> dict[str, Any]:
        """`GET /breakers/{jobType}`."""
        answer = self.plane.get(f"/breakers/{job_type}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait(self, job_id: str, *states: str) -> str:
        """Follow the job until it is in one of `states`; which one."""
        call = self.jobs.WatchJob(WatchJobRequest(job_id=job_id), timeout=PATIENCE_S)
        seen: list[str] = []
        try:
            for reply in call:
                seen.append(Job.State.Name(reply.job.state).removeprefix("STATE_"))
                if seen[-1] in states:
                    return seen[-1]
        except grpc.RpcError as error:
            raise AssertionError(f"job {job_id} never was {' or '.join(states)}, only {seen}: {error.details()}") from error
        finally:
            call.cancel()
        raise AssertionError(f"job {job_id} ended after {seen}")

    def wait_all(self, job_ids: list[str], *states: str) -> None:
        """Follow all of them, each until it is in one of `states`."""
        for job_id in job_ids:
            self.wait(job_id, *states)

    def wait_until_known(self, *job_ids: str) -> None:
        """After a kill: the ledger learns of the jobs accepted last from its queue, in the first moments after the start.

        Nothing announces that moment, so this asks again and again.
        """
        deadline = time.monotonic() + PATIENCE_S
        for job_id in job_ids:
            while self.api.get(f"/jobs/{job_id}").status_code == NOT_FOUND:
                assert time.monotonic() < deadline, f"job {job_id} is lost"

    @contextmanager
    def watching(self, job_type: str) -> Iterator[Circuit]:
        """The circuit's changes from now on; the type must be known, so that its present state tells that we are subscribed."""
        call = self.breakers.WatchBreakers(WatchBreakersRequest(job_type=job_type), timeout=PATIENCE_S)
        breaker = Circuit(call)
        breaker.until("CLOSED")
        try:
            yield breaker
        finally:
            call.cancel()

    def _channel(self, port: int) -> grpc.Channel:
        return self._stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))


def refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, str]:
    """Status code, reason (`ErrorInfo` of our domain, else empty) and message of a failed call."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    reasons = [info.reason for detail in (status.details if status else ()) if detail.Unpack(info) and info.domain == "sickbay"]
    return error.code(), "".join(reasons), error.details() or ""


def _http(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False, verify=NO_TLS)

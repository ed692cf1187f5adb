"""Readings of all services for `sickbay top`: a service that is unavailable is part of the result, and is asked again the next time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Final, TypeVar, cast

import click
import grpc
from grpc_health.v1.health_pb2_grpc import HealthStub

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsRequest, ListBreakersRequest, WatchBreakersRequest
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.breakers.v1.incident_pb2 import Incident
from sickbay.breakers.v1.incident_service_pb2 import ListIncidentsRequest
from sickbay.breakers.v1.incident_service_pb2_grpc import IncidentServiceStub
from sickbay.domain.job import DEFAULT_TENANT
from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.quarantine_service_pb2 import ListQuarantinedJobsRequest, QuarantinedJob
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub
from sickbay.jobs.v1.worker_service_pb2 import ListWorkersRequest
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceStub
from sickbay_cli import client
from sickbay_cli.format import ms
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint
from sickbay_cli.status import ServiceHealth, check
from sickbay_cli.top.frame import BreakerName, Parked, PlaneReading, Reading, is_unusual, key_of, urgency

T = TypeVar("T")

PAGE: Final = 1_000
MAX_INCIDENTS: Final = 20
MAX_ASKED: Final = 16
"""So many breakers, the most urgent ones, are asked for their parked jobs."""
RECONNECT_MS: Final = 1_000
_THREADS: Final = 8
_PLANE: Final = "control-plane"


class Source:
    """Asks the services; made by `source`."""

    def __init__(
        self, endpoints: Mapping[str, Endpoint], channels: Mapping[str, grpc.Channel], pool: ThreadPoolExecutor, tenant: str
    ) -> None:
        self._endpoints = endpoints
        self._tenant = tenant
        self._health = {service: HealthStub(channel) for service, channel in channels.items()}
        self._breakers = BreakerServiceStub(channels[_PLANE])
        self._incidents = IncidentServiceStub(channels[_PLANE])
        self._quarantine = QuarantineServiceStub(channels[_PLANE])
        self._workers = WorkerServiceStub(channels[_PLANE])
        self._pool = pool
        self._parked: Mapping[BreakerName, Parked] = {}

    def read(self) -> Reading:
        """Ask all services at once; takes as long as the slowest."""
        health = [self._pool.submit(check, service, self._endpoints[service], self._health[service]) for service in self._endpoints]
        metrics = self._pool.submit(self._breakers.GetMetrics, GetMetricsRequest(), timeout=self._plane.timeout)
        slots = self._pool.submit(self._count_slots)
        problems: list[str] = []
        breakers = self._or_none(self._list_breakers, problems)
        numbers = self._or_none(metrics.result, problems)
        plane: PlaneReading | None = None
        if breakers is not None:
            if numbers is not None and not numbers.jobs_by_state.get("PARKED", 0):
                self._parked = {}
            else:
                self._parked = self._or_none(lambda: self._count_parked(breakers), problems) or {}
            incidents = self._or_none(self._list_incidents, problems) or ()
            plane = PlaneReading(now(), breakers, numbers, self._parked, incidents, slots.result())
        return Reading([one.result() for one in health], plane, problems[0] if problems else "")

    def _or_none(self, ask: Callable[[], T], problems: list[str]) -> T | None:
        """The answer of the control plane; None if the call fails, and then the message is in `problems`."""
        try:
            with client.translate_errors(self._plane):
                return ask()
        except click.ClickException as error:
            problems.append(error.message)
            return None

    def watch(self, tell: Callable[[Breaker], None], is_over: threading.Event) -> None:
        """Tell every change of a breaker until `is_over`, which ends with the channels; begins again when the stream ends."""
        token = ""
        while not is_over.is_set():
            try:
                for reply in self._breakers.WatchBreakers(WatchBreakersRequest(tenant=self._tenant, resume_token=token)):
                    token = reply.resume_token
                    tell(reply.breaker)
            except (grpc.RpcError, ValueError):  # ValueError: the channel is closed
                pass
            is_over.wait(RECONNECT_MS / 1000)

    @property
    def _plane(self) -> Endpoint:
        return self._endpoints[_PLANE]

    def _list_breakers(self) -> Sequence[Breaker]:
        breakers: list[Breaker] = []
        token = ""
        while True:
            request = ListBreakersRequest(tenant=self._tenant, page_size=PAGE, page_token=token)
            page = self._breakers.ListBreakers(request, timeout=self._plane.timeout)
            breakers.extend(page.breakers)
            token = page.next_page_token
            if not token:
                return breakers

    def _list_incidents(self) -> Sequence[Incident]:
        """The open ones and the latest; none if the control plane is older than incidents are."""
        found: list[Incident] = []
        try:
            for is_open in (True, None):
                query = ListIncidentsRequest(tenant=self._tenant, open=is_open, page_size=MAX_INCIDENTS)
                found.extend(self._incidents.ListIncidents(query, timeout=self._plane.timeout).incidents)
        except grpc.RpcError as error:
            if cast("grpc.Call", error).code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
        return found

    def _count_slots(self) -> Mapping[str, int]:
        """The slots that each tenant's jobs take; none if the registry of workers cannot be read, or the control plane is older than it."""
        slots: Counter[str] = Counter()
        query = ListWorkersRequest(tenant=self._tenant, page_size=PAGE)
        try:
            while True:
                page = self._workers.ListWorkers(query, timeout=self._plane.timeout)
                for one in (one for worker in page.workers for one in worker.tenants):
                    slots[one.tenant] += one.slots_in_use
                query.page_token = page.next_page_token
                if not query.page_token:
                    break
        except grpc.RpcError:
            return {}
        return {self._tenant: slots[self._tenant]} if self._tenant else slots

    def _count_parked(self, breakers: Sequence[Breaker]) -> Mapping[BreakerName, Parked]:
        """Of the breakers that may have parked jobs: the unusual ones, and those that had some."""
        has_tenants = any(breaker.tenant != DEFAULT_TENANT for breaker in breakers)
        asked = [one for one in breakers if is_unusual(one) or (key_of(one) in self._parked and self._parked[key_of(one)].count)]
        asked = sorted(asked, key=urgency)[:MAX_ASKED]
        futures = {
            key_of(breaker): [
                self._pool.submit(self._parked_of, job_type, self._tenant or (breaker.tenant if has_tenants else ""))
                for job_type in breaker.job_types or (breaker.job_type,)
            ]
            for breaker in asked
        }
        found = {name: [future.result() for future in some] for name, some in futures.items()}
        return {
            name: Parked(sum(one.count for one in some), min((one.oldest for one in some if one.oldest), default=0))
            for name, some in found.items()
        }

    def _parked_of(self, job_type: str, tenant: str) -> Parked:
        request = ListQuarantinedJobsRequest(
            job_type=job_type, tenant=tenant, state=Job.STATE_PARKED, reason=QuarantinedJob.REASON_CIRCUIT_OPEN, page_size=1
        )
        page = self._quarantine.ListQuarantinedJobs(request, timeout=self._plane.timeout)
        return Parked(page.total_size, min((ms(case, "quarantine_time") for case in page.jobs), default=0))


@contextmanager
def source(endpoints: Mapping[str, Endpoint], tenant: str = "") -> Iterator[Source]:
    """Open channels to the services, named `jobapi`, `worker` and `control-plane`; at the end calls in progress are cancelled.

    With a tenant, breakers, parked jobs and incidents are those of its jobs.
    """
    with ExitStack() as opened:
        pool = opened.enter_context(ThreadPoolExecutor(_THREADS, "top"))
        channels = {
            service: opened.enter_context(client.channel(endpoint, reconnect_ms=RECONNECT_MS)) for service, endpoint in endpoints.items()
        }
        yield Source(endpoints, channels, pool, tenant)


def unavailable(reading: Reading) -> Sequence[ServiceHealth]:
    """The services that do not serve."""
    return [service for service in reading.health if not service.up]

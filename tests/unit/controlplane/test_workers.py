"""WorkerService and the metrics of live workers."""

from contextlib import AsyncExitStack
from dataclasses import replace

import grpc
import pytest

from controlplane import worker_metrics
from controlplane.metrics import FleetMetrics
from controlplane.worker_metrics import WorkerMetrics
from controlplane.worker_service import WorkerApi
from sickbay.domain.errors import ErrorReason, InvalidArgument, Unavailable
from sickbay.domain.workers import MAX_TENANTS, Worker, busiest
from sickbay.fleet import FleetView
from sickbay.jobs.v1 import worker_service_pb2 as pb
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceStub, add_WorkerServiceServicer_to_server
from sickbay.ports import Queue
from sickbay.server.grpc.server import GrpcServer
from sickbay.server.service import Service
from sickbay.telemetry.metrics import MetricsRegistry
from tests.support.embedded_backends import open_backends
from tests.support.ledger_events import parked, queued, running
from tests.support.scraped_metrics import numbers

EMAIL = Worker("w1", "anna", ("email", "sms"), version="1.2", host="a", slots=4, slots_in_use=1, since=5_000)
FAX = Worker("w2", "berta", ("fax",))


async def test_workers_are_listed_with_all_they_say():
    async with open_backends() as backends:
        await backends.workers.announce(replace(EMAIL, draining=True))
        (worker,) = (await WorkerApi(backends.workers).ListWorkers(pb.ListWorkersRequest(), None)).workers
        assert (worker.worker_id, worker.name, worker.version, worker.host) == ("w1", "anna", "1.2", "a")
        assert (list(worker.job_types), worker.slots, worker.slots_in_use, worker.draining) == (["email", "sms"], 4, 1, True)
        assert worker.start_time.ToMilliseconds() == 5_000
        assert worker.last_seen_time.ToMilliseconds() == backends.clock.now


async def test_the_control_plane_says_where_programs_connect():
    service = Service("sickbay.jobs.v1.WorkerService", add_WorkerServiceServicer_to_server, WorkerApi(None))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(GrpcServer([service], host="127.0.0.1", port=0, hint=""))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}"))
        call = WorkerServiceStub(channel).Work()
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "call Work on a worker (gRPC port 50052)" in await call.details()


async def test_pages_return_every_worker_once_and_filters_hold():
    async with open_backends() as backends:
        for number in range(5):
            await backends.workers.announce(replace(EMAIL, worker_id=f"e{number}"))
        await backends.workers.announce(FAX)
        api, found, request = WorkerApi(backends.workers), [], pb.ListWorkersRequest(job_type="sms", page_size=2)
        while True:
            page = await api.ListWorkers(request, None)
            found += [worker.worker_id for worker in page.workers]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert found == ["e0", "e1", "e2", "e3", "e4"]
        request.page_token, request.job_type = (await api.ListWorkers(pb.ListWorkersRequest(page_size=1), None)).next_page_token, "fax"
        with pytest.raises(InvalidArgument) as caught:
            await api.ListWorkers(request, None)
        assert caught.value.reason is ErrorReason.INVALID_PAGE_TOKEN


async def test_workers_are_found_by_the_tenants_whose_jobs_run():
    async with open_backends() as backends:
        await backends.workers.announce(replace(EMAIL, tenants=(("acme", 2), ("beta", 1))))
        await backends.workers.announce(FAX)
        (worker,) = (await WorkerApi(backends.workers).ListWorkers(pb.ListWorkersRequest(tenant="beta"), None)).workers
        assert [(one.tenant, one.slots_in_use) for one in worker.tenants] == [("acme", 2), ("beta", 1)]
        assert not (await WorkerApi(backends.workers).ListWorkers(pb.ListWorkersRequest(tenant="gamma"), None)).workers


def test_a_worker_announces_the_tenants_with_most_slots():
    running = {f"t{number:03}": number for number in range(150)}
    announced = busiest(running)
    assert announced[:2] == (("t149", 149), ("t148", 148))
    assert len(announced) == MAX_TENANTS


async def test_an_unknown_fleet_is_no_empty_list():
    async with open_backends() as backends:
        backends.workers.fail("fleet")
        with pytest.raises(Unavailable):
            await WorkerApi(backends.workers).ListWorkers(pb.ListWorkersRequest(), None)


async def scrape(backends):
    told = MetricsRegistry("controlplane")
    fleet = FleetMetrics(
        told.registry,
        breakers=backends.breakers,
        broker=backends.broker,
        ledger=backends.writer,
        quarantine=backends.quarantine,
        lost=backends.lost,
        incidents=backends.incidents,
        clock=backends.clock,
    )
    live = WorkerMetrics(told.registry, fleet=FleetView(backends.workers, backends.broker), waiting=fleet.waiting_types)
    await fleet.refresh()
    await live.refresh()
    return told


async def test_types_that_jobs_wait_for_and_nobody_handles_have_0():
    async with open_backends() as backends:
        for worker in (EMAIL, replace(EMAIL, worker_id="w3"), FAX):
            await backends.workers.announce(worker)
        await backends.writer.apply([parked("j1"), queued("j2", job_type="answer"), running("j3", job_type="busy")])
        told = await scrape(backends)
        assert await numbers(told, "sickbay_live_workers") == {("answer",): 0, ("email",): 2, ("fax",): 1, ("sms",): 2}
        assert await numbers(told, "sickbay_unannounced_workers") == {(): 0}


async def test_nothing_is_said_of_a_fleet_that_is_unknown_or_incomplete():
    async with open_backends() as backends:
        await backends.writer.apply([parked("j1")])
        backends.workers.fail("fleet")
        told = await scrape(backends)
        assert (await numbers(told, "sickbay_live_workers"), await numbers(told, "sickbay_unannounced_workers")) == ({}, {})
        async with backends.broker.consume(Queue.MAIN, 1):
            told = await scrape(backends)
            assert await numbers(told, "sickbay_live_workers") == {}
            assert await numbers(told, "sickbay_unannounced_workers") == {(): 1}


async def test_series_are_bounded_and_those_at_0_come_first(monkeypatch):
    monkeypatch.setattr(worker_metrics, "MAX_TYPES", 2)
    async with open_backends() as backends:
        await backends.workers.announce(EMAIL)
        await backends.workers.announce(replace(EMAIL, worker_id="w3"))
        await backends.writer.apply([parked("j1", job_type="zebra"), parked("j2", job_type="yak")])
        assert await numbers(await scrape(backends), "sickbay_live_workers") == {("yak",): 0, ("zebra",): 0, ("other",): 2}

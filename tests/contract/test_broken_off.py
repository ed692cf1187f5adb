"""A client may leave at any moment: whatever an RPC was doing is done to its end or not at all, and nothing is held up by it.

Every RPC that changes something is broken off at each of its suspensions in turn, on the embedded back ends and on the servers.
"""

import asyncio
import contextlib
import json
import sqlite3
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from controlplane.breaker_service import BreakerApi
from controlplane.quarantine_service import QuarantineApi
from controlplane.release import Releaser
from jobapi.service import JobApi
from sickbay.breakers.v1 import breaker_service_pb2 as breakers_pb
from sickbay.domain.errors import Aborted
from sickbay.domain.job import JobState
from sickbay.jobs.v1 import job_service_pb2 as jobs_pb
from sickbay.jobs.v1 import quarantine_service_pb2 as quarantine_pb
from sickbay.messages.codec import decode_events, decode_job
from sickbay.ports import Queue
from sickbay.runtime.backends import open_control_plane, open_jobapi, open_up
from sickbay.runtime.settings import Settings
from sickbay.submission.recent import RecentJobs
from sickbay.submission.submit import JobSubmitter
from tests.support.isolated_servers import own_corner
from tests.support.ledger_events import parked, queued
from tests.support.stepping import broken_off_at

MOST = 300
"""No RPC suspends as often as that."""


@asynccontextmanager
async def open_embedded(folder):
    async with open_up(Settings.read(), folder) as backends:
        yield backends, backends


@asynccontextmanager
async def open_fleet(corner):
    settings = Settings.read(rabbitmq_url=corner.rabbitmq, redis_url=corner.redis, database_url=corner.postgres)
    async with open_control_plane(settings) as plane:
        await plane.ready()
        async with open_jobapi(settings) as api:
            await api.ready()
            yield api, plane


@pytest.fixture(params=["embedded", pytest.param("fleet", marks=pytest.mark.servers)])
def opened(request, tmp_path):
    """What opens the back ends of the Job API and of the control plane."""
    if request.param == "embedded":
        yield open_embedded(tmp_path)
    else:
        with own_corner() as corner:
            yield open_fleet(corner)


@pytest.fixture
async def system(opened):
    """The servicers of a whole system without workers, and what it runs on."""
    async with opened as (for_api, for_plane):
        recent = RecentJobs()
        intake = JobSubmitter(for_api.broker, for_api.keys, recent, for_api.clock)
        api = JobApi(
            submitter=intake, reader=for_api.reader, holds=for_api.holds, recent=recent, broker=for_api.broker, clock=for_api.clock
        )
        releaser = Releaser(for_plane.broker, for_plane.quarantine)
        quarantine = QuarantineApi(
            quarantine=for_plane.quarantine, releaser=releaser, requeuer=None, on_released=lambda: None, clock=for_plane.clock
        )
        breakers = BreakerApi(for_plane.breakers, for_plane.broker, for_plane.writer, for_plane.clock)
        yield SimpleNamespace(api=api, quarantine=quarantine, breakers=breakers, for_api=for_api, plane=for_plane)


async def at_every_suspension(attempt):
    """`attempt(n)` breaks something off at its n-th suspension, and says whether it has one."""
    for number in range(1, MOST):
        if not await attempt(number):
            return
    pytest.fail("it never came to an end")


async def is_well(system, number):
    """The ledger takes writes, and in the end nobody holds a connection."""
    async with asyncio.timeout(4):
        await system.plane.writer.apply([queued(f"well-{number}")])

        pools = {id(pool): pool for store in stores(system) for pool in (store._writer.pool, store._reader.pool)}
        while any(pool.checkedout() for pool in pools.values()):
            await asyncio.sleep(0.005)


def nobody_reads(system):
    """SQLite's log can be cut short: no statement, not even one that Python has forgotten, still stands on an old state of it."""
    place = system.plane.quarantine._store._location
    if not place.is_sqlite:
        return True
    with contextlib.closing(sqlite3.connect(place.url.database)) as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


async def first_of(stream):
    async with contextlib.aclosing(stream):
        return await anext(stream)


def stores(system):
    return [system.for_api.reader._store, system.plane.quarantine._store]


async def answered(call):
    """The answer to a repeat, once what was broken off has come to its end; it must not wait for a lease."""
    async with asyncio.timeout(4):
        while True:
            try:
                return await call()
            except Aborted:
                await asyncio.sleep(0.01)


async def taken(broker, queue, count, read):
    """So many messages of a queue, taken out of it."""
    found = []
    async with asyncio.timeout(4), broker.consume(queue, count) as consumer:
        while len(found) < count:
            for delivery in await consumer.get(count):
                found.append(read(delivery))
                delivery.ack()
    return found


def job_in(delivery):
    return decode_job(delivery.body, "", 0)


async def test_a_submission_is_whole_or_has_not_been(system):
    """Its key is not left in progress: a repeat is told at once which job it is, and there is just one."""

    async def attempt(number):
        request = jobs_pb.SubmitJobRequest(job_type="email", payload_json="{}", request_id=f"key-{number}")
        reached = await broken_off_at(number, system.api.SubmitJob(request, None))
        again = await answered(lambda: system.api.SubmitJob(request, None))
        (job,) = await taken(system.for_api.broker, Queue.MAIN, 1, job_in)
        assert (job.job_id, job.maybe_duplicate) == (again.job.job_id, False)
        assert await system.for_api.broker.depth(Queue.MAIN) == 0
        await is_well(system, number)
        return reached

    await at_every_suspension(attempt)


@pytest.mark.no_cover  # many examples; shorter tests cover the same
async def test_a_batch_is_whole_or_has_not_been(system):
    """All of its jobs arrive, each once."""

    async def attempt(number):
        jobs = [jobs_pb.SubmitJobRequest(job_type="email", payload_json="{}", request_id=f"{number}-{name}") for name in "abc"]
        request = jobs_pb.BatchSubmitJobsRequest(requests=jobs)
        reached = await broken_off_at(number, system.api.BatchSubmitJobs(request, None))
        ids = [(await answered(lambda job=job: system.api.SubmitJob(job, None))).job.job_id for job in jobs]
        assert [job.job_id for job in await taken(system.for_api.broker, Queue.MAIN, 3, job_in)] == ids
        assert await system.for_api.broker.depth(Queue.MAIN) == 0
        await is_well(system, number)
        return reached

    await at_every_suspension(attempt)


async def test_a_resubmit_is_whole_or_has_not_been(system):
    """The job is back in the queue with its edit, or still set aside and can be resubmitted at once: no lease is left behind."""

    async def attempt(number):
        job_id = f"resubmit-{number}"
        await system.plane.writer.apply([parked(job_id)])
        request = quarantine_pb.ResubmitJobRequest(job_id=job_id, payload_json='{"to": "b"}', actor="ann")
        reached = await broken_off_at(number, system.quarantine.ResubmitJob(request, None))
        await finished(system)
        if await system.plane.quarantine.get_quarantined(job_id) is not None:
            await system.quarantine.ResubmitJob(request, None)
        (job,) = await taken(system.plane.broker, Queue.MAIN, 1, job_in)
        assert (job.job_id, job.generation, json.loads(job.payload_json), job.maybe_duplicate) == (job_id, 1, {"to": "b"}, False)
        record = await system.for_api.reader.get(job_id)
        assert (record.state, record.job.generation) == (JobState.QUEUED, 1)
        await is_well(system, number)
        return reached

    await at_every_suspension(attempt)


async def finished(system):
    """What clients have left behind is over."""
    async with asyncio.timeout(4):
        while any(one.detached.left_behind for one in (system.api, system.quarantine, system.breakers)):
            await asyncio.sleep(0.005)


async def test_a_discard_is_whole_or_has_not_been(system):
    """The job is DISCARDED, or as it was."""

    async def attempt(number):
        job_id = f"discard-{number}"
        await system.plane.writer.apply([parked(job_id)])
        request = quarantine_pb.DiscardJobRequest(job_id=job_id, actor="ann")
        reached = await broken_off_at(number, system.quarantine.DiscardJob(request, None))
        await finished(system)
        record = await system.for_api.reader.get(job_id)
        assert record.state in {JobState.PARKED, JobState.DISCARDED}
        history = await system.for_api.reader.history(job_id)
        assert history[-1].state is record.state
        await is_well(system, number)
        return reached

    await at_every_suspension(attempt)


async def test_a_cancellation_is_told_whole(system):
    """Whatever the client hears of it, the ledger is told once or not at all."""
    keeping = asyncio.create_task(keep(system))

    async def attempt(number):
        job_id = f"cancel-{number}"
        await system.plane.writer.apply([queued(job_id)])
        request = jobs_pb.CancelJobRequest(job_id=job_id)
        reached = await broken_off_at(number, system.api.CancelJob(request, None))
        await finished(system)
        record = await system.for_api.reader.get(job_id)
        assert record.state in {JobState.QUEUED, JobState.CANCELLED}
        await is_well(system, number)
        return reached

    try:
        await at_every_suspension(attempt)
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def keep(system):
    """A keeper, as short as can be."""
    async with system.plane.broker.consume(Queue.LEDGER, 10) as consumer:
        while True:
            for delivery in await consumer.get(10):
                await system.plane.writer.apply(decode_events(delivery.body))
                delivery.ack()


@pytest.mark.parametrize("command", ["ResetBreaker", "ForceOpenBreaker", "DisableBreaker", "SetBreakerMetricsOnly", "SetBreakerAuto"])
async def test_a_command_to_a_breaker_is_whole_or_has_not_been(system, command):
    """And the next command is answered."""
    known = breakers_pb.DisableBreakerRequest(job_type="email")
    await system.breakers.DisableBreaker(known, None)

    async def attempt(number):
        request = getattr(breakers_pb, f"{command}Request")(job_type="email")
        reached = await broken_off_at(number, getattr(system.breakers, command)(request, None))
        async with asyncio.timeout(4):
            await system.breakers.SetBreakerAuto(breakers_pb.SetBreakerAutoRequest(job_type="email"), None)
        return reached

    await at_every_suspension(attempt)


READING = ["GetJob", "ListJobs", "ListQuarantinedJobs", "GetQuarantinedJob", "ListFailureGroups", "GetMetrics", "ListBreakers", "WatchJob"]


@pytest.mark.parametrize("name", READING)
async def test_a_question_that_nobody_waits_for_holds_nothing(system, name):
    """Its connection goes back, whatever it was doing; on SQLite a forgotten one would keep the log from ever being cut short."""
    await system.plane.writer.apply([parked("case")])
    servicer = next(one for one in (system.api, system.quarantine, system.breakers) if hasattr(type(one), name) and name in vars(type(one)))
    module = {system.api: jobs_pb, system.quarantine: quarantine_pb, system.breakers: breakers_pb}[servicer]
    request = getattr(module, f"{name}Request")(**({"job_id": "case"} if name in {"GetJob", "GetQuarantinedJob", "WatchJob"} else {}))

    async def attempt(number):
        answer = getattr(servicer, name)(request, None)
        reached = await broken_off_at(number, first_of(answer) if name == "WatchJob" else answer)
        await is_well(system, number)
        assert nobody_reads(system)
        return reached

    await at_every_suspension(attempt)

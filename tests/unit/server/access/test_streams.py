"""Streams end within a second of their credential, whatever they are doing; others go on."""

import asyncio
import json

import grpc
import pytest

from sickbay.contract.faults import received
from sickbay.domain.errors import ErrorReason, Unauthenticated
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1 import work_pb2 as work_pb
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceStub
from sickbay.ports.access import Credentials
from sickbay.server.access.caller import Caller
from sickbay.server.access.control import Access
from sickbay.server.access.streams import OpenStreams
from tests.support.guarded_service import BANK, SHOP, bearer, doors, sent
from tests.support.known_callers import KnownCallers

CALLER = Caller(SHOP, Credentials("shop"))


@pytest.fixture
async def door():
    async with doors() as found:
        yield found


async def end_of(call):
    async def read_all():
        while await call.read() is not grpc.aio.EOF:
            pass

    async with asyncio.timeout(20):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_all()
    return received(caught.value)


@pytest.mark.parametrize("what", ["wait", "run"])
async def test_a_watch_ends_when_its_key_is_revoked_also_if_there_always_is_a_reply(door, what):
    call = door.stub.WatchJob(pb.WatchJobRequest(job_id=what), metadata=sent("shop"))
    other = door.stub.WatchJob(pb.WatchJobRequest(job_id="wait"), metadata=sent("bank"))
    await asyncio.gather(call.read(), other.read())
    door.callers.revoked.add("shop")
    fault = await end_of(call)
    assert (fault.code, fault.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_EXPIRED")
    await door.jobs.watched.wait()
    assert not other.done()
    other.cancel()


async def test_a_stream_of_events_ends_with_an_event(door):
    async with door.rest.stream("GET", "/jobs/wait/events", headers=bearer("shop")) as events:
        lines = events.aiter_lines()
        async with asyncio.timeout(20):
            async for line in lines:
                if line == "event: job":
                    door.callers.revoked.add("shop")
                if line == "event: error":
                    break
            told = json.loads((await anext(lines)).removeprefix("data: "))
    assert (told["statusCode"], told["reason"]) == (401, "CREDENTIAL_EXPIRED")


async def test_a_change_of_rights_ends_streams_too(door):
    call = door.stub.WatchJob(pb.WatchJobRequest(job_id="wait"), metadata=sent("shop"))
    await call.read()
    door.callers.principals["shop"] = BANK
    assert (await end_of(call)).reason == "CREDENTIAL_EXPIRED"


async def test_a_stream_of_requests_ends_with_its_credential(door):
    call = WorkerServiceStub(door.channel).Work(metadata=sent("fleet"))
    await call.write(work_pb.WorkRequest())
    await call.read()
    door.callers.revoked.add("fleet")
    assert (await end_of(call)).reason == "CREDENTIAL_EXPIRED"
    async with asyncio.timeout(20):
        await door.work.worked.wait()


async def test_a_stream_of_requests_ends_as_its_client_wants(door):
    half_closed = WorkerServiceStub(door.channel).Work(iter([work_pb.WorkRequest()]), metadata=sent("fleet"))
    assert len([reply async for reply in half_closed]) == 1
    door.work.worked.clear()
    cancelled = WorkerServiceStub(door.channel).Work(metadata=sent("fleet"))
    await cancelled.write(work_pb.WorkRequest())
    await cancelled.read()
    cancelled.cancel()
    async with asyncio.timeout(20):
        await door.work.worked.wait()


async def test_a_servicer_that_fails_or_ends_and_a_client_that_goes(door):
    fault = await end_of(door.stub.WatchJob(pb.WatchJobRequest(job_id="fail"), metadata=sent("shop")))
    assert (fault.code, "secret" in fault.message) == (grpc.StatusCode.INTERNAL, False)
    assert len([1 async for _ in door.stub.WatchJob(pb.WatchJobRequest(job_id="end"), metadata=sent("shop"))]) == 1
    door.jobs.watched.clear()
    call = door.stub.WatchJob(pb.WatchJobRequest(job_id="wait"), metadata=sent("shop"))
    await call.read()
    call.cancel()
    async with asyncio.timeout(20):
        await door.jobs.watched.wait()


class Counting(KnownCallers):
    """Counts the looks at each token; those of `slow` never end."""

    def __init__(self, **principals):
        super().__init__(**principals)
        self.looks = []
        self.error = None
        self.looked = asyncio.Event()

    async def authenticate(self, credentials):
        self.looks.append(credentials.bearer)
        self.looked.set()
        if credentials.bearer == "slow":
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return await super().authenticate(credentials)


async def test_thousands_of_streams_of_one_caller_cost_one_look():
    callers = Counting(shop=SHOP)
    streams = OpenStreams(Access([callers]), look_s=0.01)

    async def hold():
        async with streams.hold(CALLER) as ended:
            await ended

    holding = [asyncio.ensure_future(hold()) for _ in range(3000)]
    await callers.looked.wait()
    assert callers.looks == ["shop"]
    assert len(streams) == 3000
    callers.revoked.add("shop")
    ended = await asyncio.gather(*holding, return_exceptions=True)
    assert {error.reason for error in ended} == {ErrorReason.CREDENTIAL_EXPIRED}
    assert len(streams) == 0


async def test_a_look_that_hangs_or_fails_keeps_no_other():
    callers = Counting(shop=SHOP)
    streams = OpenStreams(Access([callers]), look_s=0.01)
    async with streams.hold(Caller(BANK, Credentials("slow"))) as slow, streams.hold(CALLER) as ended:
        await callers.looked.wait()
        callers.revoked.add("shop")
        async with asyncio.timeout(20):
            with pytest.raises(Unauthenticated):
                await ended
        assert not slow.done()


async def test_a_fault_of_the_authenticator_ends_nothing():
    callers = Counting(shop=SHOP)
    callers.error = RuntimeError("s3cret")
    streams = OpenStreams(Access([callers]), look_s=0.01)
    async with streams.hold(CALLER) as ended, asyncio.timeout(20):
        while len(callers.looks) < 3:
            callers.looked.clear()
            await callers.looked.wait()
        assert not ended.done()
        callers.error = None
        callers.revoked.add("shop")
        with pytest.raises(Unauthenticated):
            await ended


async def test_a_stream_that_begins_as_the_last_one_ends_is_looked_at():
    """The work in the background ends with the last stream: it must begin anew for one in the same step of the loop."""
    callers = Counting(shop=SHOP)
    streams = OpenStreams(Access([callers]), look_s=0.01)
    async with streams.hold(CALLER):
        await asyncio.sleep(0)
    async with streams.hold(CALLER) as ended, asyncio.timeout(20):
        callers.revoked.add("shop")
        with pytest.raises(Unauthenticated):
            await ended

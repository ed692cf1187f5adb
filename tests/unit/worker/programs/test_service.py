"""The stream over a real gRPC port: who may connect, what ends it and with which error, and programs that die, hang or flood."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress

import grpc
import pytest

from sickbay.domain.access import Principal, Role
from sickbay.domain.limits import Limits
from sickbay.domain.program import WorkStream
from sickbay.jobs.v1 import work_pb2 as pb
from sickbay.jobs.v1.worker_service_pb2 import ListWorkersRequest
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceStub, add_WorkerServiceServicer_to_server
from sickbay.server.access.control import Access
from sickbay.server.access.interceptor import AccessInterceptor
from sickbay.server.grpc.server import GrpcServer
from sickbay.server.service import Service
from tests.support import hanging_program
from tests.support.engine_bench import does, fine
from tests.support.known_callers import KnownCallers
from tests.support.program_bench import DRAIN, HEARTBEAT, LONG_S, a_job, open_programs, progress, register, succeeded
from worker.programs.service import MAX_MESSAGE_BYTES, WorkApi, _is_loopback

Code = grpc.StatusCode
WORK = "/sickbay.jobs.v1.WorkerService/Work"


class Client:
    """A program over a socket."""

    def __init__(self, channel, token=""):
        self.call = WorkerServiceStub(channel).Work(metadata=(("authorization", f"Bearer {token}"),) if token else None)

    async def say(self, *messages):
        for one in messages:
            await self.call.write(one)

    async def next(self, kind="run"):
        async with asyncio.timeout(LONG_S):
            async for said in self.call:
                if said.WhichOneof("message") == kind:
                    return getattr(said, kind)
        raise AssertionError(f"the stream has ended: {await self.call.code()} {await self.call.details()}")

    async def end(self):
        """The status and the words of the end of the stream."""
        async with asyncio.timeout(LONG_S):
            try:
                async for _ in self.call:
                    pass
            except grpc.aio.AioRpcError:
                pass
            return await self.call.code(), await self.call.details()


class Door:
    def __init__(self, bench, port, channel):
        self.bench, self.port, self.channel = bench, port, channel

    def client(self):
        return Client(self.channel)

    async def registration(self):
        """Wait until a program has registered."""
        registered = asyncio.Event()
        self.bench.handlers.on_change(registered.set)
        if not self.bench.handlers:
            async with asyncio.timeout(LONG_S):
                await registered.wait()

    async def registered(self, *types, **options):
        client = self.client()
        await client.say(register(*types, **options))
        await client.next("registered")
        return client


@asynccontextmanager
async def open_door(*specs, access=WorkStream.LOCAL, limits=Limits(), control=None, **options):  # noqa: B008 - frozen
    async with open_programs(*specs, **options) as bench:
        service = Service("sickbay.jobs.v1.WorkerService", add_WorkerServiceServicer_to_server, WorkApi(bench.connected, access))
        guards = [] if control is None else [AccessInterceptor(control)]
        async with GrpcServer([service], host="127.0.0.1", port=0, hint="", limits=limits, interceptors=guards) as server:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                yield Door(bench, server.port, channel)
            bench.connected.close()


async def test_a_job_goes_out_and_its_answer_comes_back():
    async with open_door() as door:
        client = await door.registered("email")
        delivery = door.bench.deliver(a_job())
        run = await client.next()
        await client.say(progress(run.run_id, 0.5), succeeded(run.run_id, "7"))
        assert await door.bench.verdict(delivery) == "ack"
        await client.say(HEARTBEAT)
        await client.next("heartbeat")
        await client.say(DRAIN)
        await client.call.done_writing()
        assert (await client.end())[0] is Code.OK
        assert not door.bench.handlers


async def test_the_jobs_of_a_program_whose_key_is_revoked_run_elsewhere_uncharged():
    known = KnownCallers(good=Principal("billing", frozenset({Role.WORK})), other=Principal("shop", frozenset({Role.SUBMIT})))
    async with open_door(control=Access([known])) as door:
        for token, code in (("", Code.UNAUTHENTICATED), ("other", Code.PERMISSION_DENIED)):
            stranger = WorkerServiceStub(door.channel).Work(metadata=(("authorization", f"Bearer {token}"),) if token else None)
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await stranger.write(register("email"))
                await stranger.read()
            assert await stranger.code() is code
        client = Client(door.channel, "good")
        await client.say(register("email"))
        await client.next("registered")
        delivery = door.bench.deliver(a_job())
        await client.next()
        known.revoked.add("good")
        assert (await client.end())[0] is Code.UNAUTHENTICATED
        assert await door.bench.verdict(delivery) == "ack"
        (copy,) = door.bench.broker.copies()
        assert (copy.job_id, copy.attempt) == (a_job().job_id, 0)
        assert not door.bench.handlers


@pytest.mark.parametrize(
    ("access", "host", "words"),
    [
        (WorkStream.OFF, "127.0.0.1", "start it with WORK_STREAM=local"),
        (WorkStream.OFF, "10.0.0.9", "start it with WORK_STREAM=local"),
        (WorkStream.LOCAL, "10.0.0.9", "connect from the same machine"),
        (WorkStream.LOCAL, "127.0.0.1", ""),
        (WorkStream.ANY, "10.0.0.9", ""),
    ],
)
async def test_who_may_connect(monkeypatch, access, host, words):
    monkeypatch.setattr("worker.programs.service.endpoint_of", lambda _: (host, 5))
    async with open_door(access=access) as door:
        client = door.client()
        try:
            await client.say(register("email"))
            await client.next("registered")
            assert not words
        except (AssertionError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            code, details = await client.end()
            assert code is Code.FAILED_PRECONDITION
            assert words
            assert words in details


@pytest.mark.parametrize(("host", "is_one"), [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("10.0.0.1", False), ("", False)])
def test_loopback(host, is_one):
    assert _is_loopback(host) is is_one


async def test_a_worker_says_where_workers_are_listed():
    async with open_door() as door:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await WorkerServiceStub(door.channel).ListWorkers(ListWorkersRequest())
        assert caught.value.code() is Code.UNIMPLEMENTED
        assert "on the control plane (gRPC port 50053)" in caught.value.details()


ENDS = {
    "no registration": ([HEARTBEAT], Code.INVALID_ARGUMENT, "the first message of a stream must be register"),
    "nothing at all": ([pb.WorkRequest()], Code.INVALID_ARGUMENT, "the first message of a stream must be register"),
    "no type": ([register()], Code.INVALID_ARGUMENT, "registers 1 to 100 job types"),
    "a bad update": ([register("email"), register("E Mail")], Code.INVALID_ARGUMENT, "the job type 'E Mail' is invalid"),
    "a type of the worker": ([register("own")], Code.FAILED_PRECONDITION, "handles 'own' by itself"),
    "too large": (
        [register("email"), progress("1", 0.5, "x" * MAX_MESSAGE_BYTES)],
        Code.RESOURCE_EXHAUSTED,
        "a message of a program may have 1,048,576 bytes",
    ),
}


@pytest.mark.parametrize("case", ENDS)
async def test_what_ends_a_stream_says_why(case):
    said, code, words = ENDS[case]
    async with open_door(type(does(fine))("own", fine)) as door:
        client, other = door.client(), await door.registered("sms")
        await client.say(*said)
        found, details = await client.end()
        assert (found, words in details) == (code, True), details
        assert "email" not in door.bench.handlers
        delivery = door.bench.deliver(a_job("sms"))
        await other.say(succeeded((await other.next()).run_id))
        assert await door.bench.verdict(delivery) == "ack"


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\x03\x0a\x01\xff"], ids=["no message", "no text"])
async def test_garbage_ends_the_stream_and_its_jobs_run_elsewhere(garbage):
    async with open_door() as door:
        call = door.channel.stream_stream(WORK, response_deserializer=pb.WorkResponse.FromString)()
        await call.write(register("email").SerializeToString())
        assert (await call.read()).HasField("registered")
        delivery = door.bench.deliver(a_job())
        assert (await call.read()).HasField("run")
        await call.write(garbage)
        assert await call.code() is Code.INVALID_ARGUMENT
        assert await door.bench.verdict(delivery) == "ack"
        assert door.bench.broker.copies()[-1].attempt == 0


async def test_too_many_invalid_messages_end_the_stream_and_fields_of_a_newer_contract_do_not():
    async with open_door() as door:
        client = await door.registered("email")
        door.bench.deliver(a_job())
        run = await client.next()
        for _ in range(200):
            await client.say(pb.WorkRequest())
        await client.say(HEARTBEAT)
        await client.next("heartbeat")
        assert door.bench.connected.ignored["unknown"] == 200
        for _ in range(101):
            await client.say(progress(run.run_id, 2))
        code, details = await client.end()
        assert code is Code.INVALID_ARGUMENT
        assert "too many invalid messages; the last one: progress: the fraction must be a number from 0 to 1" in details


async def test_a_half_closed_stream_gives_its_jobs_back():
    async with open_door() as door:
        client = await door.registered("email")
        delivery = door.bench.deliver(a_job())
        await client.next()
        await client.call.done_writing()
        assert await door.bench.verdict(delivery) == "ack"
        assert (await client.end())[0] is Code.OK


async def test_a_cancelled_stream_gives_its_jobs_back():
    async with open_door() as door:
        client = await door.registered("email")
        delivery = door.bench.deliver(a_job())
        await client.next()
        client.call.cancel()
        assert await door.bench.verdict(delivery) == "ack"
        assert not door.bench.connected.programs


async def test_the_end_of_the_worker_is_unavailable():
    async with open_door() as door:
        client = await door.registered("email")
        door.bench.connected.close()
        code, details = await client.end()
        assert (code, details) == (Code.UNAVAILABLE, "the worker is stopping; connect to another one, or again in a moment")


async def test_a_flood_of_messages_slows_down_its_sender_and_nobody_else():
    """It sends as fast as it can until the end; jobs of another program and of a handler of the worker run meanwhile, as soon as ever."""
    async with open_door(type(does(fine))("own", fine)) as door:
        flooding, other = await door.registered("email"), await door.registered("sms")
        hit = door.bench.deliver(a_job())
        run = await flooding.next()
        sent = 0

        async def flood():
            nonlocal sent
            while True:
                await flooding.say(progress(run.run_id, 0.5, "x" * 200))
                sent += 1

        task = asyncio.create_task(flood())
        while sent < 2_000:
            await asyncio.sleep(0)
        for number in range(100):
            mine, own = door.bench.deliver(a_job("sms", f"s{number}")), door.bench.deliver(a_job("own", f"o{number}"))
            await other.say(succeeded((await other.next()).run_id))
            assert await door.bench.verdict(mine) == "ack"
            assert await door.bench.verdict(own) == "ack"
        assert not task.done()
        task.cancel()
        flooding.call.cancel()
        assert await door.bench.verdict(hit) == "ack"


async def test_a_program_that_does_not_read_is_cut_off_and_its_jobs_go_back():
    """Its jobs are large, so that the windows of the connection are full; it says that it is alive, but reads nothing."""
    async with open_door(limits=Limits(write_s=0.5)) as door, grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        call = channel.stream_stream(WORK, request_serializer=pb.WorkRequest.SerializeToString)()
        await call.write(register("email", slots=50))
        text = b'{"a": "' + b"x" * 900_000 + b'"}'
        await door.registration()
        deliveries = [door.bench.deliver(a_job(job_id=f"j{number}", payload=text)) for number in range(10)]
        for delivery in deliveries:
            assert await door.bench.verdict(delivery) in {"ack", "nack"}
        while door.bench.connected.programs:
            await asyncio.sleep(0)
        assert all(copy.attempt == 0 for copy in door.bench.broker.copies())


@pytest.mark.parametrize("deed", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
async def test_the_jobs_of_a_program_that_is_killed_or_hangs_run_in_another_one_and_no_attempt_is_counted(deed):
    async with open_door(heartbeat_s=0.15) as door:
        process = await asyncio.create_subprocess_exec(
            sys.executable, hanging_program.__file__, str(door.port), stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
        )
        try:
            await door.registration()
            deliveries = [door.bench.deliver(a_job(job_id="j1")), door.bench.deliver(a_job(job_id="j2"))]
            async with asyncio.timeout(LONG_S):
                lines = {await process.stdout.readline(), await process.stdout.readline()}
            assert lines == {b"j1\n", b"j2\n"}
            process.send_signal(deed)
            assert [await door.bench.verdict(one) for one in deliveries] == ["ack", "ack"]
            assert sorted((copy.job_id, copy.attempt) for copy in door.bench.broker.copies()) == [("j1", 0), ("j2", 0)]
            assert door.bench.connected.lost == 2
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

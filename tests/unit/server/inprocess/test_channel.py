"""The same calls over a socket and in process end in the same way, for clients and for servicers."""

# ruff: noqa: N802 - servicers' methods are named by the contract

import asyncio
import gc
import logging
from contextlib import asynccontextmanager
from types import SimpleNamespace

import grpc
import pytest

from sickbay.contract.faults import received
from sickbay.domain import errors
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceServicer, JobServiceStub, add_JobServiceServicer_to_server
from sickbay.server.grpc.server import GrpcServer
from sickbay.server.inprocess.channel import InProcessChannel
from sickbay.server.interceptors.errors import ErrorInterceptor
from sickbay.server.service import Service

NAME = "sickbay.jobs.v1.JobService"


async def _act(what: str, context) -> None:
    """Do what a call's `job_id` names."""
    match what:
        case "not-found":
            raise errors.NotFound("no such job: é")
        case "unavailable":
            raise errors.Unavailable("the broker does not answer", retry_after=2)
        case "base":
            raise errors.SickbayError("secret")
        case "bug":
            raise ValueError("secret")
        case "own-cancel":
            raise asyncio.CancelledError
        case "abort":
            await context.abort(grpc.StatusCode.DATA_LOSS, "gone", (("x-a", "b"), ("x-bin", b"\x00")))
        case "code":
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details("slow down")
            context.set_trailing_metadata((("x-c", "d"),))
        case "hang":
            await asyncio.Event().wait()


class Fake(JobServiceServicer):
    """CancelJob stays as generated: not implemented."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self.seen = {}

    async def GetJob(self, request, context):
        self.entered.set()
        self.seen = {"metadata": {key: value for key, value in context.invocation_metadata() if key.startswith("x-")}}
        self.seen["remaining"] = context.time_remaining()
        context.set_trailing_metadata((("x-ok", "1"),))
        try:
            await _act(request.job_id, context)
        finally:
            self.left.set()
        reply = pb.GetJobResponse()
        reply.job.job_id = request.job_id
        return reply

    async def WatchJob(self, request, context):
        count, _, then = request.job_id.partition(":")
        try:
            for number in range(int(count)):
                yield pb.WatchJobResponse(job={"job_id": str(number)})
            self.entered.set()
            await _act(then, context)
        finally:
            self.left.set()


class Tag(grpc.aio.ServerInterceptor):
    """Remembers the methods it saw and the order it saw them in."""

    def __init__(self, name, seen):
        self.name, self.seen = name, seen

    async def intercept_service(self, continuation, handler_call_details):
        self.seen.append((self.name, handler_call_details.method))
        return await continuation(handler_call_details)


@asynccontextmanager
async def _wire(fake, interceptors):
    services = [Service(NAME, add_JobServiceServicer_to_server, fake)]
    async with GrpcServer(services, host="127.0.0.1", port=0, hint="-", interceptors=interceptors) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel
        await server.stop(0)


@asynccontextmanager
async def _in_process(fake, interceptors):
    async with InProcessChannel([Service(NAME, add_JobServiceServicer_to_server, fake)], interceptors) as channel:
        yield channel


TRANSPORTS = pytest.mark.parametrize("transport", [_wire, _in_process])


async def _outcome(awaitable):
    """Everything a client can see of how a call went."""
    try:
        return await awaitable
    except grpc.aio.AioRpcError as error:
        trailing = dict(error.trailing_metadata())
        return error.code(), error.details(), trailing, received(error)


async def _drain(call):
    replies = []

    async def all_of_them():
        async for reply in call:
            replies.append(reply.job.job_id)  # noqa: PERF401 - what came before an error counts
        return "end"

    return replies, await _outcome(all_of_them())


CASES = ["fine", "not-found", "unavailable", "base", "bug", "own-cancel", "abort", "code"]


@pytest.mark.parametrize("case", CASES)
async def test_parity_of_unary_calls(case):
    found = []
    for transport in (_wire, _in_process):
        fake = Fake()
        async with transport(fake, ()) as channel:
            call = JobServiceStub(channel).GetJob(pb.GetJobRequest(job_id=case), metadata=(("x-k", "v"),), timeout=30)
            outcome = await _outcome(call)
            ended = (
                await call.code(),
                await call.details(),
                tuple(await call.trailing_metadata()),
                call.done(),
                call.cancelled(),
                call.cancel(),
            )
            assert 29 < fake.seen.pop("remaining") < 31
            found.append((outcome, ended, fake.seen))
    assert found[0] == found[1]
    assert "secret" not in str(found)
    assert found[1][2] == {"metadata": {"x-k": "v"}}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [0, 1, 50])
async def test_parity_of_streams(case, count):
    found = []
    for transport in (_wire, _in_process):
        async with transport(Fake(), ()) as channel:
            call = JobServiceStub(channel).WatchJob(pb.WatchJobRequest(job_id=f"{count}:{case}"))
            found.append((await _drain(call), await call.code(), await call.details(), call.done(), call.cancelled()))
    assert found[0] == found[1]
    assert len(found[1][0][0]) == count
    assert "secret" not in str(found)


@TRANSPORTS
async def test_methods_that_nobody_wrote_or_knows(transport):
    async with transport(Fake(), ()) as channel:
        unwritten = await _outcome(JobServiceStub(channel).CancelJob(pb.CancelJobRequest()))
        assert unwritten[:2] == (grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")
        unknown = channel.unary_unary("/a.B/C", request_serializer=pb.GetJobRequest.SerializeToString)
        assert (await _outcome(unknown(pb.GetJobRequest())))[:2] == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


@TRANSPORTS
async def test_interceptors_run_in_the_order_given(transport):
    seen = []
    async with transport(Fake(), (Tag("outer", seen), Tag("inner", seen))) as channel:
        await JobServiceStub(channel).GetJob(pb.GetJobRequest(job_id="fine"))
    assert seen == [("outer", f"/{NAME}/GetJob"), ("inner", f"/{NAME}/GetJob")]


@TRANSPORTS
async def test_cancelling_whoever_awaits_cancels_the_servicer(transport, caplog):
    fake = Fake()
    with caplog.at_level(logging.WARNING):
        async with transport(fake, ()) as channel:
            task = asyncio.ensure_future(_outcome(JobServiceStub(channel).GetJob(pb.GetJobRequest(job_id="hang"))))
            await fake.entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await fake.left.wait()
    assert not caplog.records


@TRANSPORTS
async def test_cancelling_a_call_cancels_the_servicer(transport):
    fake = Fake()
    async with transport(fake, ()) as channel:
        call = JobServiceStub(channel).GetJob(pb.GetJobRequest(job_id="hang"))
        await fake.entered.wait()
        assert call.cancel()
        assert not call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert call.done()
        assert await call.code() is grpc.StatusCode.CANCELLED
        await fake.left.wait()


@TRANSPORTS
async def test_a_deadline_ends_the_call_and_the_servicer(transport):
    fake = Fake()
    async with transport(fake, ()) as channel:
        outcome = await _outcome(JobServiceStub(channel).GetJob(pb.GetJobRequest(job_id="hang"), timeout=0.2))
        assert outcome[:2] == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        await fake.left.wait()


@TRANSPORTS
async def test_cancelling_a_stream_closes_the_servicers_generator(transport):
    fake = Fake()
    async with transport(fake, ()) as channel:
        call = JobServiceStub(channel).WatchJob(pb.WatchJobRequest(job_id="3:hang"))
        async for reply in call:
            if reply.job.job_id == "2":
                break
        await fake.entered.wait()
        assert call.cancel()
        await fake.left.wait()
        with pytest.raises(asyncio.CancelledError):
            await call.read() if transport is _in_process else await _drain(call)
        assert await call.code() is grpc.StatusCode.CANCELLED


@TRANSPORTS
async def test_cancelling_whoever_iterates_closes_the_servicers_generator(transport):
    """Once a reply has come: until then grpc.aio itself may lose the cancellation (its call goes on until it is collected)."""
    fake = Fake()
    got = asyncio.Event()

    async def iterate(call):
        async for _ in call:
            got.set()

    async with transport(fake, ()) as channel:
        task = asyncio.ensure_future(iterate(JobServiceStub(channel).WatchJob(pb.WatchJobRequest(job_id="1:hang"))))
        await got.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await fake.left.wait()


async def test_a_stream_that_nobody_holds_is_cancelled():
    fake = Fake()
    async with _in_process(fake, ()) as channel:
        call = JobServiceStub(channel).WatchJob(pb.WatchJobRequest(job_id="1:hang"))
        await fake.entered.wait()
        del call
        gc.collect()
        await fake.left.wait()


async def test_a_servicer_waits_for_a_slow_reader():
    """The stream in process has a bound, so a watcher that does not read costs no memory."""
    fake = Fake()
    async with _in_process(fake, ()) as channel:
        call = JobServiceStub(channel).WatchJob(pb.WatchJobRequest(job_id="1000:fine"))
        assert (await call.read()).job.job_id == "0"
        assert call._replies._queue.qsize() <= 8
        replies, _ = await _drain(call)
        assert len(replies) == 999
        assert await call.read() is grpc.aio.EOF


async def test_a_servicer_that_waits_for_its_reader_is_closed_at_once():
    """Not when the garbage collector comes by: what the generator holds (a watch of the ledger) must be free when the call is."""
    fake = Fake()
    async with _in_process(fake, ()) as channel:
        call = JobServiceStub(channel).WatchJob(pb.WatchJobRequest(job_id="1000:fine"))
        assert (await call.read()).job.job_id == "0"
        serving = call._serving
        call.cancel()
        await asyncio.wait({serving})
        assert fake.left.is_set()


async def test_closing_an_intercepted_stream_closes_the_servicers_generator():
    fake = Fake()

    async def find(_):
        return grpc.unary_stream_rpc_method_handler(fake.WatchJob)

    handler = await ErrorInterceptor().intercept_service(find, SimpleNamespace(method="/a/B"))
    stream = handler.unary_stream(pb.WatchJobRequest(job_id="5:fine"), None)
    await anext(stream)
    await stream.aclose()
    assert fake.left.is_set()


async def test_closing_the_channel_ends_calls_and_refuses_new_ones():
    fake = Fake()
    channel = InProcessChannel([Service(NAME, add_JobServiceServicer_to_server, fake)])
    stub = JobServiceStub(channel)
    call = stub.GetJob(pb.GetJobRequest(job_id="hang"))
    await fake.entered.wait()
    await channel.close()
    assert fake.left.is_set()
    assert call.done()
    assert await call.code() is grpc.StatusCode.CANCELLED
    with pytest.raises(grpc.aio.UsageError):
        stub.GetJob(pb.GetJobRequest())
    await channel.close()


async def test_a_servicer_that_ignores_its_cancellation_does_not_swallow_the_callers():
    class Stubborn(Fake):
        async def GetJob(self, request, context):
            self.entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return pb.GetJobResponse()

    fake = Stubborn()
    async with _in_process(fake, ()) as channel:
        task = asyncio.ensure_future(_outcome(JobServiceStub(channel).GetJob(pb.GetJobRequest())))
        await fake.entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_unexpected_error_is_logged_with_its_traceback(caplog):
    async with _in_process(Fake(), ()) as channel:
        await _outcome(JobServiceStub(channel).GetJob(pb.GetJobRequest(job_id="bug")))
        await _outcome(JobServiceStub(channel).GetJob(pb.GetJobRequest(job_id="not-found")))
    (record,) = caplog.records
    assert record.name == "sickbay.server.interceptors.errors"
    assert record.exc_info
    assert record.getMessage() == f"/{NAME}/GetJob failed"


async def test_a_broken_interceptor_tells_nothing(caplog):
    class Broken(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, handler_call_details):
            raise ValueError("secret")

    async with _in_process(Fake(), (Broken(),)) as channel:
        outcome = await _outcome(JobServiceStub(channel).GetJob(pb.GetJobRequest()))
    assert outcome[0] is grpc.StatusCode.UNKNOWN
    assert "secret" not in outcome[1]

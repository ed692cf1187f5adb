"""A gRPC port beside clients that keep it waiting, or want too much: they are ended, and others do not notice."""

# ruff: noqa: N802 - servicers' methods are named by the contract

import asyncio
import socket
import struct

import grpc
import pytest
from prometheus_client import CollectorRegistry

from benchmarks.raw_http2 import HEADERS, RST_STREAM, RawHttp2, frame
from sickbay.contract.faults import received
from sickbay.domain.limits import Limits
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceServicer, JobServiceStub, add_JobServiceServicer_to_server
from sickbay.server.grpc.meter import GrpcMeter
from sickbay.server.grpc.server import GrpcServer
from sickbay.server.service import Service
from tests.support.waiting import until

SERVICE = "sickbay.jobs.v1.JobService"
GET, WATCH = f"/{SERVICE}/GetJob", f"/{SERVICE}/WatchJob"


class Jobs(JobServiceServicer):
    def __init__(self):
        self.go = asyncio.Event()
        self.entered = asyncio.Event()
        self.told = 0

    async def GetJob(self, request, context):
        if request.job_id == "slow":
            self.entered.set()
            await self.go.wait()
        return pb.GetJobResponse()

    async def WatchJob(self, request, context):
        while True:
            self.told += 1
            yield pb.WatchJobResponse()
            if request.job_id != "endless":
                await self.go.wait()


class Port:
    """A server with these limits, its numbers, and a client that behaves."""

    def __init__(self, **limits):
        self.registry, self.jobs = CollectorRegistry(), Jobs()
        self._server = GrpcServer(
            [Service(SERVICE, add_JobServiceServicer_to_server, self.jobs)],
            host="127.0.0.1",
            port=0,
            hint="",
            limits=Limits(**limits),
            meter=GrpcMeter(self.registry),
        )

    async def __aenter__(self):
        await self._server.__aenter__()
        self.number = self._server.port
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.number}")
        self.stub = JobServiceStub(self._channel)
        await self.stub.GetJob(pb.GetJobRequest(), timeout=20)
        return self

    async def __aexit__(self, *_):
        self.jobs.go.set()
        await self._channel.close()
        await self._server.stop(0)

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    def refused(self, reason):
        return self.value("sickbay_grpc_refused_total", reason=reason)


async def test_a_message_that_does_not_come_ends_its_call_and_no_other():
    async with Port(body_s=0.5) as port:
        with RawHttp2(port.number) as client:
            stream = client.begin(GET, 1000)
            assert await asyncio.to_thread(client.until, lambda: client.ended(stream))
            assert not client.is_closed
            told = b"".join(one.body for one in client.frames if one.kind == HEADERS and one.stream == stream)
            assert b"GRPC_BODY_TIMEOUT" in told
            whole = client.call(GET, b"")
            assert await asyncio.to_thread(client.until, lambda: client.ended(whole))
        assert port.refused("body_timeout") == 1
        await asyncio.to_thread(until, lambda: port.value("sickbay_grpc_calls") == 0)


async def test_an_answer_that_is_not_read_costs_the_connection():
    async with Port(write_s=2) as port:
        with RawHttp2(port.number, window=0) as client:
            client.call(GET, b"")
            assert await asyncio.to_thread(client.until, lambda: client.is_closed)
        await port.stub.GetJob(pb.GetJobRequest(), timeout=20)
        assert port.refused("unread") >= 1


async def test_a_watch_that_is_not_read_costs_the_connection():
    """One that is read may wait for its next response for as long as it likes."""
    async with Port(write_s=1) as port:
        reading = port.stub.WatchJob(pb.WatchJobRequest())
        await reading.read()
        with RawHttp2(port.number, window=0) as client:
            client.call(WATCH, b"")
            assert await asyncio.to_thread(client.until, lambda: client.is_closed)
        assert port.refused("unread") >= 1
        port.jobs.go.set()
        assert await reading.read() == pb.WatchJobResponse()
        reading.cancel()


async def test_the_call_that_waits_for_longest_makes_room():
    async with Port(calls=5, body_s=60) as port:
        with RawHttp2(port.number) as client:
            streams = [client.begin(GET, 1000) for _ in range(5)]
            await asyncio.to_thread(until, lambda: port.value("sickbay_grpc_calls") == 5)
            assert await asyncio.to_thread(client.until, lambda: _answers(port, client))
            assert client.ended(streams[0])
            assert not client.ended(streams[4])
        assert port.refused("oldest") >= 1


def _answers(port, client):
    """A call comes through; those that wait are stalled only after a moment."""
    with grpc.insecure_channel(f"127.0.0.1:{port.number}") as channel:
        try:
            JobServiceStub(channel).GetJob(pb.GetJobRequest(), timeout=20)
        except grpc.RpcError:
            return False
    client.read(0.1)
    return True


async def test_calls_that_run_are_not_broken_off_for_others():
    async with Port(calls=1) as port:
        running = asyncio.ensure_future(port.stub.GetJob(pb.GetJobRequest(job_id="slow")))
        await port.jobs.entered.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await port.stub.GetJob(pb.GetJobRequest(), timeout=20)
        fault = received(caught.value)
        assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert fault.retry_after
        port.jobs.go.set()
        assert await running == pb.GetJobResponse()
        await port.stub.GetJob(pb.GetJobRequest(), timeout=20)
        assert port.refused("calls") == 1


async def test_watches_of_a_peer_are_counted_and_given_back():
    async with Port(watches=10, watches_per_peer=2) as port:
        watches = [port.stub.WatchJob(pb.WatchJobRequest()) for _ in range(2)]
        for watch in watches:
            await watch.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await port.stub.WatchJob(pb.WatchJobRequest()).read()
        assert received(caught.value).reason == "TOO_MANY_WATCHES"
        assert "MAX_WATCHES_PER_PEER" in (caught.value.details() or "")
        watches[0].cancel()
        await asyncio.to_thread(until, lambda: port.value("sickbay_watches") == 1)
        assert await port.stub.WatchJob(pb.WatchJobRequest()).read() == pb.WatchJobResponse()


async def test_a_watch_that_nobody_reads_waits_for_its_reader():
    """The servicer is asked for the next reply when the last one was sent, so nothing gathers."""
    async with Port() as port:
        with RawHttp2(port.number, window=0) as client:
            client.call(WATCH, pb.WatchJobRequest(job_id="endless").SerializeToString())
            await asyncio.to_thread(until, lambda: port.value("sickbay_watches") == 1)
            for _ in range(200):  # the loop has turned as often at least
                await port.stub.GetJob(pb.GetJobRequest(), timeout=20)
            assert port.jobs.told < 100
        await asyncio.to_thread(until, lambda: port.value("sickbay_watches") == 0)


async def test_silent_connections_are_closed():
    async with Port(handshake_s=0.5) as port:
        with socket.create_connection(("127.0.0.1", port.number), timeout=30) as silent:
            assert await asyncio.to_thread(_end_of, silent)


def _end_of(connection):
    while connection.recv(4096):
        pass
    return True


async def test_a_peer_has_its_number_of_connections_and_another_still_comes_in():
    async with Port(connections=100, connections_per_peer=3, handshake_s=60) as port:
        others = [RawHttp2(port.number, source="127.0.0.2") for _ in range(8)]
        await asyncio.to_thread(until, lambda: port.refused("peer_connections") >= 5)
        for other in others:
            other.read(0.2)
        await asyncio.to_thread(until, lambda: _open(others) == 3)
        await port.stub.GetJob(pb.GetJobRequest(), timeout=20)
        with grpc.insecure_channel(f"127.0.0.1:{port.number}") as channel:
            await asyncio.to_thread(JobServiceStub(channel).GetJob, pb.GetJobRequest(), timeout=20)
        for other in others:
            other.__exit__()


async def test_metadata_over_the_limit_are_rejected_without_the_message():
    async with Port(metadata_bytes=4_096) as port:
        fits = await port.stub.GetJob(pb.GetJobRequest(), metadata=(("a", "x" * 3_900),), timeout=20)
        assert fits == pb.GetJobResponse()
        with pytest.raises(grpc.aio.AioRpcError, match="GRPC_MAX_METADATA_BYTES") as caught:
            await port.stub.GetJob(pb.GetJobRequest(), metadata=(("a", "x" * 4_096),), timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert port.refused("metadata") == 1
        assert port.refused("oversize") == 0


@pytest.mark.parametrize("method", ["GetJob", "WatchJob"])
async def test_a_message_over_the_limit_is_rejected_with_its_size(method):
    async with Port(message_bytes=1_000) as port:
        call = getattr(port.stub, method)(getattr(pb, f"{method}Request")(job_id="x" * 1_500), timeout=20)
        with pytest.raises(grpc.aio.AioRpcError, match="1,503 bytes, and 1,000 are allowed") as caught:
            await (call if method == "GetJob" else call.read())
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert port.refused("message") == 1


async def test_what_core_rejects_for_its_size_is_counted():
    """And what a client cancels, or whose time is over, is not."""
    async with Port(message_bytes=1_000) as port:
        with RawHttp2(port.number) as client:
            client.begin(GET, 500)
            client.send(frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))
            ended = client.open(GET, ("grpc-timeout", "10m"))
            assert await asyncio.to_thread(client.until, lambda: client.ended(ended))
        with RawHttp2(port.number) as client:
            stream = client.begin(GET, 2_001)
            assert await asyncio.to_thread(client.until, lambda: client.ended(stream))
            await asyncio.to_thread(until, lambda: port.refused("oversize"))
        assert port.refused("oversize") == 1
        assert port.refused("message") == 0


async def test_a_connection_with_as_many_calls_as_it_may_have():
    async with Port(streams=2) as port:
        first = asyncio.ensure_future(port.stub.GetJob(pb.GetJobRequest(job_id="slow")))
        await port.jobs.entered.wait()
        assert port.refused("streams") == 0
        await port.stub.WatchJob(pb.WatchJobRequest()).read()
        assert port.refused("streams") == 1
        port.jobs.go.set()
        await first


def _open(connections):
    for one in connections:
        one.read(0.05)
    return len([one for one in connections if not one.is_closed])

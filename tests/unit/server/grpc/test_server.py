"""The gRPC server: health, reflection, ports, sizes and stopping."""

# ruff: noqa: N802 - servicers' methods are named by the contract

import asyncio
import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sickbay.contract.faults import received
from sickbay.domain.errors import SettingsError
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceServicer, JobServiceStub, add_JobServiceServicer_to_server
from sickbay.server.grpc.server import GrpcServer
from sickbay.server.service import Service

NAME = "sickbay.jobs.v1.JobService"
STATUSES = health_pb2.HealthCheckResponse


class Slow(JobServiceServicer):
    def __init__(self):
        self.entered, self.go = asyncio.Event(), asyncio.Event()

    async def BatchSubmitJobs(self, request, context):
        return pb.BatchSubmitJobsResponse(results=[pb.BatchSubmitResult(job_id=str(len(one.payload_json))) for one in request.requests])

    async def WatchJob(self, request, context):
        self.closed = asyncio.Event()
        try:
            yield pb.WatchJobResponse()
            await self.go.wait()
            yield pb.WatchJobResponse()
        finally:
            self.closed.set()

    async def GetJob(self, request, context):
        self.entered.set()
        await self.go.wait()
        return pb.GetJobResponse()


def _server(servicer=None, port=0, **more):
    return GrpcServer(
        [Service(NAME, add_JobServiceServicer_to_server, servicer or JobServiceServicer())],
        host="127.0.0.1",
        port=port,
        hint="choose another with GRPC_PORT or --jobapi-grpc-port",
        **more,
    )


def _channel(server):
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")


async def _health(channel, name):
    return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))).status


async def test_health_by_service_and_overall():
    async with _server() as server, _channel(server) as channel:
        for name in ("", NAME):
            assert await _health(channel, name) == STATUSES.SERVING
        await server.set_serving(False)
        for name in ("", NAME):
            assert await _health(channel, name) == STATUSES.NOT_SERVING
        await server.set_serving(True)
        assert await _health(channel, "") == STATUSES.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _health(channel, "other")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_server_can_start_not_serving():
    async with _server(serving=False) as server, _channel(server) as channel:
        assert await _health(channel, "") == STATUSES.NOT_SERVING


async def test_a_process_that_waits_or_drains_is_alive_all_the_same():
    """Kubernetes restarts what is not alive; who waits for RabbitMQ or finishes its jobs must be left alone."""
    async with _server(serving=False) as server, _channel(server) as channel:
        assert await _health(channel, "liveness") == STATUSES.SERVING
        await server.set_serving(True)
        await server.set_serving(False)
        assert await _health(channel, "liveness") == STATUSES.SERVING


async def test_reflection_lists_the_services():
    async def ask():
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=NAME)

    async with _server() as server, _channel(server) as channel:
        answers = [answer async for answer in reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(ask())]
    names = {service.name for service in answers[0].list_services_response.service}
    assert names == {NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert answers[1].file_descriptor_response.file_descriptor_proto


async def test_a_taken_port_stops_the_start_with_one_sentence(capfd):
    async with _server() as first:
        with pytest.raises(SettingsError) as caught:
            await _server(port=first.port).__aenter__()
    assert str(caught.value) == f"port {first.port} is already in use on 127.0.0.1; choose another with GRPC_PORT or --jobapi-grpc-port"
    assert capfd.readouterr().err == ""


async def test_a_port_is_taken_by_a_plain_socket_as_well():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="is already in use"):
        await _server(port=taken.getsockname()[1]).__aenter__()


async def test_a_port_can_be_used_again_at_once():
    async with _server() as first, _channel(first) as channel:
        await _health(channel, "")
    async with _server(port=first.port) as second, _channel(second) as channel:
        assert await _health(channel, "") == STATUSES.SERVING


async def test_a_batch_of_several_mebibytes_fits():
    one = pb.SubmitJobRequest(payload_json='{"a":"' + "x" * 1_000_000 + '"}')
    async with _server(Slow()) as server, _channel(server) as channel:
        reply = await JobServiceStub(channel).BatchSubmitJobs(pb.BatchSubmitJobsRequest(requests=[one] * 10))
    assert len(reply.results) == 10


async def test_stopping_lets_running_calls_finish_and_happens_once():
    slow = Slow()
    async with _server(slow) as server, _channel(server) as channel:
        call = JobServiceStub(channel).GetJob(pb.GetJobRequest())
        await slow.entered.wait()
        stopping = asyncio.ensure_future(server.stop(30))
        slow.go.set()
        assert await call == pb.GetJobResponse()
        await stopping
        await server.stop()


async def test_a_stop_ends_watches_at_once_and_tells_clients_to_come_back():
    servicer = Slow()
    async with _server(servicer) as server, _channel(server) as channel:
        watch = JobServiceStub(channel).WatchJob(pb.WatchJobRequest())
        assert await watch.read() == pb.WatchJobResponse()
        async with asyncio.timeout(5):
            stopping = asyncio.create_task(server.stop(grace=60))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await watch.read()
            await stopping
            await servicer.closed.wait()
        assert received(caught.value).reason == "SHUTTING_DOWN"
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_watch_goes_on_and_ends_by_itself_while_the_server_lives():
    servicer = Slow()
    async with _server(servicer) as server, _channel(server) as channel:
        servicer.go.set()
        assert len([reply async for reply in JobServiceStub(channel).WatchJob(pb.WatchJobRequest())]) == 2
        await servicer.closed.wait()


async def test_a_client_that_goes_ends_its_watch():
    servicer = Slow()
    async with _server(servicer) as server, _channel(server) as channel:
        watch = JobServiceStub(channel).WatchJob(pb.WatchJobRequest())
        await anext(aiter(watch))
        watch.cancel()
        await servicer.closed.wait()

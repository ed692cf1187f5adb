"""What a worker tells of its programs, and of the calls of their streams."""

import asyncio
from contextlib import AsyncExitStack

import grpc
from prometheus_client import CollectorRegistry

from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceStub, add_WorkerServiceServicer_to_server
from sickbay.server.grpc.server import GrpcServer
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.server.interceptors.observe import ObserveInterceptor
from sickbay.server.service import Service
from tests.support.program_bench import HEARTBEAT, a_job, open_programs, register, succeeded
from worker.programs.metrics import ProgramMetrics
from worker.programs.service import WorkApi


async def test_programs_slots_and_what_went_wrong():
    async with open_programs(timeout_s=0.02) as bench:
        registry = CollectorRegistry()
        ProgramMetrics(registry, bench.connected)

        def value(name, **labels):
            return registry.get_sample_value(f"sickbay_program{name}", labels)

        program, _ = bench.program("email", slots=3), bench.program()
        bench.deliver(a_job())
        await program.next("cancel")
        program.say(succeeded("none"))
        assert (value("s"), value("_slots", state="all"), value("_slots", state="taken"), value("_slots", state="overdue")) == (1, 3, 1, 1)
        assert (value("_messages_ignored_total", reason="late"), value("_messages_ignored_total", reason="invalid")) == (1, 0)
        assert (value("_runs_lost_total"), value("_messages_delayed_total")) == (0, 0)


async def test_streams_are_counted_with_their_status_and_their_errors_have_a_reason():
    registry = CollectorRegistry()
    async with open_programs() as bench, AsyncExitStack() as stack:
        service = Service("sickbay.jobs.v1.WorkerService", add_WorkerServiceServicer_to_server, WorkApi(bench.connected, "local"))
        interceptors = [ObserveInterceptor(CallMeter(registry))]
        server = GrpcServer([service], host="127.0.0.1", port=0, hint="", interceptors=interceptors)
        await stack.enter_async_context(server)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}"))
        good, bad = WorkerServiceStub(channel).Work(), WorkerServiceStub(channel).Work()
        await good.write(register("email"))
        await good.read()
        await good.done_writing()
        assert await good.code() is grpc.StatusCode.OK
        await bad.write(HEARTBEAT)
        assert await bad.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert b"INVALID_FIELD" in dict(await bad.trailing_metadata())["grpc-status-details-bin"]
    names = {"grpc_service": "sickbay.jobs.v1.WorkerService", "grpc_method": "Work"}
    while registry.get_sample_value("grpc_server_handled_total", names | {"grpc_code": "INVALID_ARGUMENT"}) != 1:
        await asyncio.sleep(0)
    assert registry.get_sample_value("grpc_server_handled_total", names | {"grpc_code": "OK"}) == 1

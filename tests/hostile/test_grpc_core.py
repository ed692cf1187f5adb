"""Limits that grpc's core applies by itself, on a running `sickbay up`: each is counted and logged, and a client beside does not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.raw_http2 import PING, RawHttp2, frame
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from tests.support.grpc_victim import Victim, beside
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(180)
SERVICE: Final = "/sickbay.jobs.v1.JobService"
ELSEWHERE: Final = "127.0.0.2"
MIB: Final = 1024 * 1024

Start = Callable[..., Victim]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a product with these settings."""
    started: list[Victim] = []

    def begin(**settings: str) -> Victim:
        started.append(Victim(tmp_path, {"LOG_FORMAT": "json"} | settings, ["--ephemeral"]).ready())
        return started[-1]

    yield begin
    for victim in started:
        victim.stop()


def counted(victim: Victim, reason: str, setting: str) -> None:
    """Wait until that is counted; the log names the setting."""
    until(lambda: victim.refused(reason) > 0)
    assert victim.logged(setting)


def own_channel(victim: Victim) -> grpc.Channel:
    """A client with a connection of its own; others of a process share theirs."""
    return grpc.insecure_channel(f"127.0.0.1:{victim.grpc_port}", [("grpc.use_local_subchannel_pool", 1)])


def call(channel: grpc.Channel, size: int = 10, **metadata: str) -> grpc.StatusCode:
    """Submit a job with a payload of this size, and with this metadata; the status."""
    request = pb.SubmitJobRequest(job_type="email", payload_json='{"a":"' + "x" * size + '"}')
    try:
        JobServiceStub(channel).SubmitJob(request, timeout=20, metadata=tuple(metadata.items()))
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_connection_without_calls(start: Start):
    """One that its client closes in time is not counted."""
    victim = start(GRPC_IDLE_TIMEOUT="3")
    with beside(victim), own_channel(victim) as channel:
        assert call(channel) is grpc.StatusCode.OK
        with RawHttp2(victim.grpc_port, source=ELSEWHERE) as leaving:
            leaving.call(f"{SERVICE}/GetJob", b"")
            leaving.read(1.5)
        counted(victim, "idle", "GRPC_IDLE_TIMEOUT")
    assert victim.refused("idle") == 1


def test_a_client_that_answers_no_ping(start: Start):
    victim = start(GRPC_KEEPALIVE_TIME="2", GRPC_KEEPALIVE_TIMEOUT="2")
    with beside(victim), RawHttp2(victim.grpc_port, source=ELSEWHERE) as hanging:
        hanging.call(f"{SERVICE}/GetJob", b"")
        counted(victim, "keepalive", "GRPC_KEEPALIVE_TIMEOUT")
        assert hanging.until(lambda: hanging.is_closed)
    assert victim.refused("keepalive") == 1


@pytest.mark.parametrize("at_once", [1, 1_000])
def test_a_client_that_pings_too_often(start: Start, at_once: int):
    victim = start(GRPC_PING_INTERVAL="5")
    with beside(victim), RawHttp2(victim.grpc_port, source=ELSEWHERE) as hasty:
        assert not hasty.until(lambda: hasty.is_closed, 3)
        while not hasty.is_closed:
            hasty.send(frame(PING, 0, 0, bytes(8)) * at_once)
            hasty.until(lambda: hasty.is_closed, 1)
        assert b"too_many_pings" in hasty.frames[-1].body
        counted(victim, "pings", "GRPC_PING_INTERVAL")
    assert victim.refused("pings") == 1


def test_a_client_that_pings_as_often_as_it_may(start: Start):
    """It is closed neither for its pings nor for its silence."""
    victim = start(GRPC_PING_INTERVAL="1", GRPC_KEEPALIVE_TIME="2", GRPC_KEEPALIVE_TIMEOUT="2")
    with beside(victim), RawHttp2(victim.grpc_port, source=ELSEWHERE) as client:
        for _ in range(8):
            client.send(frame(PING, 0, 0, bytes(8)))
            assert not client.until(lambda: client.is_closed, 1.1)
    assert victim.refused("pings") == victim.refused("keepalive") == 0


def test_too_large_metadata(start: Start):
    """What exceeds the limit is rejected here, what exceeds twice the limit by core."""
    victim = start()
    with beside(victim), own_channel(victim) as channel:
        assert call(channel, large="x" * 15_000) is grpc.StatusCode.OK
        assert call(channel, large="x" * 17_000) is grpc.StatusCode.RESOURCE_EXHAUSTED
        counted(victim, "metadata", "GRPC_MAX_METADATA_BYTES")
        assert victim.refused("oversize") == 0
        with RawHttp2(victim.grpc_port, source=ELSEWHERE) as client:
            client.read(20)  # the server's settings: only then may a frame be as large
            stream = client.open(f"{SERVICE}/GetJob", ("large", "x" * 40_000))
            assert client.until(lambda: client.ended(stream))
            counted(victim, "oversize", "GRPC_MAX_METADATA_BYTES")
    assert victim.refused("metadata") == victim.refused("oversize") == 1


def test_too_large_messages(start: Start):
    """A client that cancels such a call is not counted."""
    victim = start(GRPC_MAX_MESSAGE_BYTES=f"{2 * MIB}")
    with beside(victim), own_channel(victim) as channel:
        assert call(channel, 2 * MIB - 1_000) is grpc.StatusCode.INVALID_ARGUMENT  # a payload has 1 MiB
        assert call(channel, 3 * MIB) is grpc.StatusCode.RESOURCE_EXHAUSTED
        counted(victim, "message", "GRPC_MAX_MESSAGE_BYTES")
        with RawHttp2(victim.grpc_port, source=ELSEWHERE) as client:
            client.begin(f"{SERVICE}/GetJob", MIB)
        with own_channel(victim) as another:
            assert call(another, 5 * MIB) is grpc.StatusCode.RESOURCE_EXHAUSTED
            counted(victim, "oversize", "GRPC_MAX_MESSAGE_BYTES")  # while the connection is still there to be looked at
    assert victim.refused("message") == victim.refused("oversize") == 1


def test_as_many_streams_as_a_connection_may_have(start: Start):
    victim = start(GRPC_MAX_STREAMS="5")
    with beside(victim), own_channel(victim) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        watches = [watch(health_pb2.HealthCheckRequest()) for _ in range(4)]
        for one in watches:
            next(one)
        assert victim.refused("streams") == 0
        next(watch(health_pb2.HealthCheckRequest()))
        counted(victim, "streams", "GRPC_MAX_STREAMS")

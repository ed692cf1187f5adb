"""Health at the doors: what HTTP and gRPC answer, when the log speaks, and that asking costs nothing."""

from __future__ import annotations

import asyncio
import json
import logging

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from sickbay.domain.health import Check, Finding, Health, HealthState, Mark, Status
from sickbay.server import health as health_module
from sickbay.server.endpoints import Address, serve_endpoints
from sickbay.server.health import HealthWatch
from sickbay.server.service import HEALTH_DETAILS
from sickbay.telemetry.metrics import MetricsRegistry
from worker.rest import create_gateway

STATUSES = health_pb2.HealthCheckResponse


class Ward:
    """A service with a broker that it needs and a ledger that it does not; `ask` counts how often the parts are asked."""

    def __init__(self) -> None:
        self.broker = self.ledger = ""
        self.asked = 0
        self.health = Health([Check("broker", self._ask_broker, needed=True), Check("ledger", lambda: self.ledger)], grace_s=0)

    def _ask_broker(self) -> str:
        self.asked += 1
        return self.broker

    def begin(self) -> Ward:
        self.health.begin()
        self.health.look(1_000)
        return self

    def fails(self, part: str, why: str, at: int = 2_000) -> None:
        setattr(self, part, why)
        self.health.look(at)


@pytest.fixture
def ward():
    return Ward()


async def ask(ward: Ward, path: str) -> httpx.Response:
    app = create_gateway(ward.health, MetricsRegistry("worker"), "1")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        return await client.get(path)


async def codes(ward: Ward) -> list[int]:
    return [(await ask(ward, path)).status_code for path in ("/health", "/health/ready", "/health/live")]


async def test_three_questions_have_three_answers(ward: Ward):
    assert await codes(ward) == [503, 503, 200]
    ward.begin()
    assert await codes(ward) == [200, 200, 200]
    ward.fails("ledger", "read-only")
    assert await codes(ward) == [200, 200, 200]
    ward.fails("broker", "gone")
    assert await codes(ward) == [503, 200, 200]
    ward.fails("broker", "")
    assert await codes(ward) == [200, 200, 200]
    ward.health.end()
    assert await codes(ward) == [503, 503, 200]


async def test_the_body_names_each_part_since_when_and_why(ward: Ward):
    ward.begin().fails("ledger", "PostgreSQL is read-only")
    answer = await ask(ward, "/health")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "status": "degraded",
        "info": {"api": {"status": "up"}},
        "checks": {
            "broker": {"status": "up", "needed": True},
            "ledger": {"status": "down", "needed": False, "since": "1970-01-01T00:00:02.000Z", "reason": "PostgreSQL is read-only"},
        },
    }


async def test_asking_asks_nobody(ward: Ward):
    ward.begin()
    before = ward.asked
    for _ in range(20):
        await ask(ward, "/health")
    assert ward.asked == before


async def test_the_log_has_one_line_for_each_change(ward: Ward, caplog: pytest.LogCaptureFixture):
    async def show(_state):
        pass

    caplog.set_level(logging.INFO)
    watch = HealthWatch(ward.begin().health, "Job API", show)
    for broker in ("", "gone", "gone", "gone", "", ""):
        ward.broker = broker
        await watch.look()
    first, second = [record.getMessage() for record in caplog.records if record.name == "sickbay.domain.health"]
    assert first.startswith("health of the Job API is error: broker is down since 20")
    assert first.endswith("Z: gone")
    assert second.startswith("health of the Job API is ok: broker has recovered; it was down since 20")


async def test_a_fault_in_a_part_ends_nothing(ward: Ward, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(health_module, "LOOK_EVERY_S", 0)
    shown = asyncio.Queue()
    ward.health.begin()
    watch = HealthWatch(ward.health, "worker", shown.put)
    with monkeypatch.context() as broken:
        broken.setattr(ward.health, "look", lambda _: 1 / 0)
        running = asyncio.create_task(watch.run())
        while "internal error in the health check" not in caplog.text:
            await asyncio.sleep(0)
    assert (await shown.get()).serving
    running.cancel()


async def test_a_server_that_was_waited_for_is_well_at_the_begin(ward: Ward):
    """Although nobody has looked since it answered: whoever sends traffic comes at once."""
    ward.health = Health([Check("broker", lambda: ward.broker, needed=True)], grace_s=600)
    ward.broker = "gone"
    address = Address("127.0.0.1", 0, 0)
    gateway = lambda _, health: create_gateway(health, MetricsRegistry("worker"), "1")  # noqa: E731 - as the services do it
    async with serve_endpoints([], gateway, address, health=ward.health, name="worker", registry=CollectorRegistry()) as doors:
        async with asyncio.timeout(30):
            while ward.health.state.findings[0].mark is not Mark.DOWN:
                await asyncio.sleep(0)
        ward.broker = ""
        await doors.serving()
        assert ward.health.state == HealthState(Status.OK, ready=True, findings=[Finding("broker", Mark.UP, needed=True)])


async def test_grpc_is_told_of_changes_and_tells_the_details(ward: Ward, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health_module, "LOOK_EVERY_S", 0.01)
    address = Address("127.0.0.1", 0, 0)
    async with (
        asyncio.timeout(30),
        serve_endpoints(
            [],
            lambda _channel, health: create_gateway(health, MetricsRegistry("worker"), "1"),
            address,
            health=ward.health,
            name="worker",
            registry=CollectorRegistry(),
        ) as doors,
        grpc.aio.insecure_channel(f"127.0.0.1:{doors.grpc_port}") as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == STATUSES.NOT_SERVING
        await doors.serving()
        assert (await watch.read()).status == STATUSES.SERVING
        ward.broker = "gone"
        assert (await watch.read()).status == STATUSES.NOT_SERVING
        call = stub.Check(health_pb2.HealthCheckRequest(service="readiness"))
        assert (await call).status == STATUSES.SERVING
        (details,) = [json.loads(value) for key, value in await call.trailing_metadata() if key == HEALTH_DETAILS]
        assert (details["status"], details["checks"]["broker"]["reason"]) == ("error", "gone")
        ward.broker = ""
        assert (await watch.read()).status == STATUSES.SERVING
        await doors.not_serving()
        assert (await watch.read()).status == STATUSES.NOT_SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest(service="readiness"))).status == STATUSES.NOT_SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest(service="liveness"))).status == STATUSES.SERVING

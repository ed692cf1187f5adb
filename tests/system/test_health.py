"""Health is true: servers go away, refuse and come back, and REST, gRPC, the command and the metrics say so, all the same."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from redis import Redis as Client

from scripts.servers import RabbitMQ, Redis
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.faults.proxied import proxied
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.postgres_server import FULL_DISK, POSTGRES, ROOM_AGAIN
from tests.support.process import Process
from tests.support.system_under_test import Product
from tests.support.waiting import until
from tests.system.conftest import QUICK

ROOT: Final = Path(__file__).parents[2]
GRACE: Final = {"HEALTH_GRACE": "1"}
IDLE_S: Final = 25.0
"""Within this an idle control plane knows that PostgreSQL accepts no writes: 15 s as documented, the grace, and a slow machine."""
NAMES: Final = {"Job API": "jobapi", "Worker": "worker", "Control plane": "control-plane"}
SERVING: Final = HealthCheckResponse.SERVING
NOT_SERVING: Final = HealthCheckResponse.NOT_SERVING


def doors(sickbay: Clients) -> Mapping[str, httpx.Client]:
    return {"Job API": sickbay.api, "Worker": sickbay.worker, "Control plane": sickbay.plane}


def told(sickbay: Clients) -> dict[str, str]:
    """`GET /health` of all three: its status, which the HTTP status must fit."""
    answers = {name: door.get("/health") for name, door in doors(sickbay).items()}
    for answer in answers.values():
        assert (answer.status_code == 503) == (answer.json()["status"] == "error"), answer.text
    return {name: answer.json()["status"] for name, answer in answers.items()}


def down(sickbay: Clients, name: str) -> dict[str, str]:
    """The parts that are down, and why."""
    checks = doors(sickbay)[name].get("/health").json()["checks"]
    return {part: check["reason"] for part, check in checks.items() if check["status"] == "down"}


def command(sickbay: Clients) -> tuple[int, Any]:
    """`sickbay health --json`: its exit code and what it prints."""
    words = [word for name, port in sickbay.grpc_ports.items() for word in (f"--{NAMES[name]}", f"127.0.0.1:{port}")]
    done = Process(["sickbay_cli", "health", "--json", *words], ROOT, {})
    return done.wait(), json.loads(done.out.text)


def assert_all_say(sickbay: Clients, wanted: Mapping[str, str]) -> None:
    """After `GET /health` has come to say `wanted`, so do gRPC, the metrics and the command; readiness and liveness stay."""
    until(lambda: told(sickbay) == wanted)
    for name, status in wanted.items():
        health = sickbay.health[name]
        until(lambda health=health, status=status: (health.Check(HealthCheckRequest()).status == SERVING) == (status != "error"))
        for fixed in ("readiness", "liveness"):
            assert health.Check(HealthCheckRequest(service=fixed)).status == SERVING
        assert doors(sickbay)[name].get("/health/ready").status_code == 200
        numbers = doors(sickbay)[name].get("/metrics", headers={"Accept": "text/plain"}).text
        assert f"\nsickbay_healthy {float(status != 'error')}\n" in numbers
        assert "\nsickbay_ready 1.0\n" in numbers
        for part in down(sickbay, name):
            assert f'sickbay_health_check{{check="{part}"}} 0.0' in numbers
    code, document = command(sickbay)
    assert code == (4 if "error" in wanted.values() else 0)
    words = {"ok": "up", "degraded": "degraded", "error": "down"}
    assert {name: document["info"][NAMES[name]]["status"] for name in wanted} == {name: words[status] for name, status in wanted.items()}


def states(api: str, worker: str, plane: str) -> dict[str, str]:
    return {"Job API": api, "Worker": worker, "Control plane": plane}


ALL_OK: Final = states("ok", "ok", "ok")


@contextmanager
def file_limit(product: Product, size: int) -> Iterator[None]:
    """No file of the process may grow beyond it, which is what a full disk or a quota does to whoever writes."""
    pid = product.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk_shows_and_so_does_its_end(own_clinic: Clinic, start: Callable[..., Product]):
    """Nobody is accepted, all three say why, and all is well again by itself as soon as there is room."""
    product = start(own_clinic.folder, QUICK | GRACE).ready()
    with Clients(product) as sickbay:
        assert_all_say(sickbay, ALL_OK)
        with file_limit(product, 0):
            assert sickbay.api.post("/jobs", json={"jobType": "ok", "payload": {}}).status_code == 503
            assert_all_say(sickbay, states("error", "error", "error"))
            assert all("broker" in down(sickbay, name) for name in NAMES)
            assert product.logged("health of the Job API is error: broker is down since")
        assert_all_say(sickbay, ALL_OK)
        assert product.logged("health of the Job API is ok: broker has recovered")
        sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
    lines = [line for line in product.err.text.splitlines() if "health of the Job API" in line and ": broker" in line]
    assert len(lines) == 2, "one line for each change"


def test_a_blink_is_nothing_to_be_told(own_clinic: Clinic, start: Callable[..., Product]):
    """With the usual grace a disk that is full for a moment makes nobody unhealthy; the check says that it fails."""
    product = start(own_clinic.folder, QUICK).ready()
    with Clients(product) as sickbay:
        with file_limit(product, 0):
            assert sickbay.api.post("/jobs", json={"jobType": "ok", "payload": {}}).status_code == 503
            failing = until(lambda: sickbay.api.get("/health").json()["checks"]["broker"]["status"] != "up" and sickbay.api.get("/health"))
        if failing.json()["checks"]["broker"]["status"] == "failing":  # a slow machine may have taken longer than the grace
            assert (failing.status_code, failing.json()["status"]) == (200, "ok")
        until(lambda: sickbay.api.get("/health").json()["checks"]["broker"] == {"status": "up", "needed": True})


@pytest.mark.long
@pytest.mark.servers
@pytest.mark.timeout(300)
def test_health_follows_postgresql(own_clinic: Clinic, corner: Corner):
    """Away, read-only, or full: the control plane cannot keep the ledger; jobs are still taken and run, degraded."""
    wanted = states("degraded", "degraded", "error")
    with (
        proxied(corner.postgres) as (url, call),
        Fleet(own_clinic.folder, QUICK | GRACE | dict(corner.env) | {"DATABASE_URL": url}) as fleet,
    ):
        fleet.launch_all(workers=1).ready()
        with Clients(fleet) as sickbay:
            assert_all_say(sickbay, ALL_OK)
            pushed = sickbay.health["Control plane"].Watch(HealthCheckRequest(service="sickbay.breakers.v1.BreakerService"), timeout=120)
            assert next(pushed).status == SERVING
            call("cut")
            assert_all_say(sickbay, wanted)
            assert next(pushed).status == NOT_SERVING
            assert "PostgreSQL is unavailable" in down(sickbay, "Job API")["ledger"]
            job_id = sickbay.submit("ok")
            until(lambda: own_clinic.runs(job_id=job_id, what="done"))
            call("accept")
            assert_all_say(sickbay, ALL_OK)
            assert next(pushed).status == SERVING
            pushed.cancel()
            sickbay.wait(job_id, "SUCCEEDED")
            read_only(corner, "SET default_transaction_read_only = on")
            assert_all_say(sickbay, wanted)
            assert down(sickbay, "Job API") == {"ledger": "PostgreSQL is read-only"}
            read_only(corner, "RESET default_transaction_read_only")
            assert_all_say(sickbay, ALL_OK)
            for statement in FULL_DISK:
                corner.sql(statement)
            until(lambda: "ledger" in down(sickbay, "Control plane"), IDLE_S)
            assert_all_say(sickbay, states("ok", "ok", "error"))
            assert down(sickbay, "Control plane") == {"ledger": "the ledger cannot be written: disk full"}, "nothing has happened"
            assert '\nsickbay_backend_up{backend="ledger"} 0.0\n' in sickbay.plane.get("/metrics", headers={"Accept": "text/plain"}).text
            corner.sql(ROOM_AGAIN)
            assert_all_say(sickbay, ALL_OK)
            for statement in FULL_DISK:
                corner.sql(statement)
            job_id = sickbay.submit("ok")
            until(lambda: "disk full at PostgreSQL" in down(sickbay, "Control plane").get("keeper", ""))
            assert_all_say(sickbay, states("ok", "ok", "error"))
            until(lambda: own_clinic.runs(job_id=job_id, what="done"))
            corner.sql(ROOM_AGAIN)
            assert_all_say(sickbay, ALL_OK)
            sickbay.wait(job_id, "SUCCEEDED")


def read_only(corner: Corner, setting: str) -> None:
    """What a failover to a replica and its promotion look like: every session ends, and new ones are like this."""
    name = urlsplit(corner.postgres).path[1:]
    whole = replace(corner, postgres=POSTGRES.replace("+asyncpg", ""))
    whole.sql(f"ALTER DATABASE {name} {setting}")
    whole.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)


@pytest.mark.long
@pytest.mark.servers
@pytest.mark.timeout(300)
def test_health_follows_redis_and_rabbitmq(own_clinic: Clinic, corner: Corner, tmp_path_factory: pytest.TempPathFactory):
    """Redis away or refusing writes degrades; RabbitMQ away or out of memory stops the work of all. An idle system knows it, too."""
    rabbitmq, redis = RabbitMQ(_folder(tmp_path_factory)), Redis(_folder(tmp_path_factory))
    env = QUICK | GRACE | {"RABBITMQ_URL": rabbitmq.url, "REDIS_URL": redis.url, "DATABASE_URL": corner.postgres}
    with rabbitmq, redis, Fleet(own_clinic.folder, env) as fleet:
        fleet.launch_all(workers=1).ready()
        with Clients(fleet) as sickbay:
            assert_all_say(sickbay, ALL_OK)
            with Client.from_url(redis.url) as client:
                client.config_set("maxmemory", 1)
                assert_all_say(sickbay, states("degraded", "degraded", "degraded"))
                assert down(sickbay, "Job API") == {"keys": "Redis rejects writes"}
                assert down(sickbay, "Control plane") == {"breakers": "Redis rejects writes"}
                assert down(sickbay, "Worker") == {"breakers": "Redis rejects writes"}
                assert '\nsickbay_backend_up{backend="breakers"} 0.0\n' in sickbay.worker.get("/metrics").text
                client.config_set("maxmemory", 0)
                assert_all_say(sickbay, ALL_OK)
            redis.stop()
            assert_all_say(sickbay, states("degraded", "degraded", "degraded"))
            assert down(sickbay, "Worker") == {"breakers": "Redis is unavailable"}
            redis.start()
            assert_all_say(sickbay, ALL_OK)

            rabbitmq.control("set_vm_memory_high_watermark", "0")
            assert_all_say(sickbay, states("error", "error", "error"))
            assert "blocks publishers" in down(sickbay, "Job API")["broker"]
            refused = sickbay.api.post("/jobs", json={"jobType": "ok", "payload": {}})
            assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
            rabbitmq.control("set_vm_memory_high_watermark", "0.8")
            assert_all_say(sickbay, ALL_OK)
            rabbitmq.kill()
            assert_all_say(sickbay, states("error", "error", "error"))
            assert down(sickbay, "Worker")["broker"] == "RabbitMQ is unavailable"
            rabbitmq.start()
            assert_all_say(sickbay, ALL_OK)
            sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
            fleet.stop()


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("server")

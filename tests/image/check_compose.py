"""docker-compose.yml on a real engine: the documented commands, the rights of the containers, scaling, and an end that loses nothing."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from scripts import engine
from tests.image.compose import Stack, shareable
from tests.support.clients import Clients

pytestmark = pytest.mark.timeout(600)
OURS = {"job-api", "worker", "control-plane"}
SERVERS = {"rabbitmq", "redis", "postgres"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything as the file says it, with the demo's handlers."""
    with Stack(shareable(tmp_path_factory.mktemp("compose")), {}) as made:
        yield made
        assert made.faults == []


def management(stack: Stack) -> httpx.Client:
    """RabbitMQ's management API as guest."""
    return httpx.Client(
        base_url=f"http://127.0.0.1:{stack.host_ports['RABBITMQ_MANAGEMENT_PORT']}/api", auth=("guest", "guest"), timeout=30
    )


def inspected(stack: Stack, service: str) -> dict[str, Any]:
    """What the engine says of the first container of a service."""
    name = next(container["Name"] for container in stack.containers() if container["Service"] == service)
    found: dict[str, Any] = json.loads(engine.run("inspect", name).stdout)[0]
    return found


def test_ps_shows_all_six(stack: Stack):
    assert {(container["Service"], container["State"]) for container in stack.containers()} == {
        (name, "running") for name in OURS | SERVERS
    }


def test_the_documented_job_runs(stack: Stack):
    """The product description's three requests, on the published ports."""
    body = {"jobType": "email", "payload": {"to": "user@example.com", "subject": "Hello", "body": "Test email"}}
    with Clients(stack) as sickbay:
        answer = sickbay.api.post("/jobs", json=body)
        assert answer.status_code == 202
        assert answer.json()["status"] == "accepted"
        sickbay.wait(answer.json()["jobId"], "SUCCEEDED")
        assert sickbay.breaker("email")["state"] == "CLOSED"
        assert sickbay.plane.get("/metrics").json()["circuitBreakers"]["total"] >= 1
        assert "degraded" not in sickbay.plane.get("/breakers").text
    assert "breaker:email" in stack.compose("exec", "-T", "redis", "redis-cli", "KEYS", "breaker:*")
    assert "ready: HTTP on port 3001" in stack.compose("logs", "worker")


def test_the_command_inside_finds_all_services(stack: Stack):
    table = stack.compose("exec", "-T", "job-api", "sickbay", "health")
    assert table.count(" up ") == 3


def test_nobody_has_more_rights_than_needed(stack: Stack):
    """Ours: no root, nothing to write, no capability; RabbitMQ's users may not configure anything."""
    for service in OURS:
        assert stack.compose("exec", "-T", service, "id", "-u").strip() == "10001"
        assert "NoNewPrivs:\t1" in stack.compose("exec", "-T", service, "grep", "-E", "NoNewPrivs|CapEff|CapBnd", "/proc/1/status")
        assert stack.compose("exec", "-T", service, "grep", "CapBnd", "/proc/1/status").split() == ["CapBnd:", "0" * 16]
        assert inspected(stack, service)["HostConfig"]["ReadonlyRootfs"]
        assert inspected(stack, service)["HostConfig"]["Memory"] == 512 * 1024 * 1024
    with management(stack) as rabbitmq:
        users = {entry["user"]: entry["configure"] for entry in rabbitmq.get("/permissions").json()}
        assert users == {"guest": ".*", "jobapi": "^$", "worker": "^$", "keeper": "^$"}
        connected = Counter(entry["user"] for entry in rabbitmq.get("/connections").json())
    assert connected == {"jobapi": 2, "worker": 2, "keeper": 2}, "one connection to publish and one to consume"


def test_four_workers_consume_and_can_be_restarted(stack: Stack):
    """`--scale worker=4`, `restart worker`: each takes jobs, and whatever was submitted before the restart is done."""
    stack.up("--scale", "worker=4", "--no-recreate")
    assert len([container for container in stack.containers() if container["Service"] == "worker"]) == 4
    await_consumers(stack, 4)
    with Clients(stack) as sickbay:
        ids = sickbay.submit_all("sms", *({"simulate": "sleep:0.2"} for _ in range(900)))
        stack.compose("restart", "worker")
        sickbay.wait_all(ids, "SUCCEEDED")
    await_consumers(stack, 4)
    stack.up("--scale", "worker=1", "--no-recreate")
    await_consumers(stack, 1)


def await_consumers(stack: Stack, count: int) -> None:
    """As many connections as this consume from `jobs.main`; RabbitMQ tells nobody when that changes."""
    deadline = time.monotonic() + 60
    while len(found := {entry["channel_details"]["connection_name"] for entry in consumers(stack)}) != count:
        assert time.monotonic() < deadline, found


def consumers(stack: Stack) -> list[dict[str, Any]]:
    """Those of `jobs.main`."""
    with management(stack) as rabbitmq:
        return [entry for entry in rabbitmq.get("/consumers").json() if entry["queue"]["name"] == "jobs.main"]


def test_prometheus_scrapes_every_container(stack: Stack):
    """Its targets are the three services by name, and each gives it numbers; it has the alert rules."""
    stack.compose("--profile", "monitoring", "up", "-d", "--no-build", "prometheus")
    url = f"http://127.0.0.1:{stack.host_ports['PROMETHEUS_PORT']}/api/v1"
    deadline = time.monotonic() + 60
    found: dict[str, str] = {}
    while found != dict.fromkeys(OURS, "up"):
        assert time.monotonic() < deadline, found
        with contextlib.suppress(httpx.TransportError, ValueError):  # it starts
            targets = httpx.get(f"{url}/targets").json()["data"]["activeTargets"]
            found = {target["labels"]["job"]: target["health"] for target in targets}
    names = httpx.get(f"{url}/label/__name__/values").json()["data"]
    assert [name for name in names if name.startswith("sickbay_")]
    assert {group["file"] for group in httpx.get(f"{url}/rules").json()["data"]["groups"]} == {"/etc/prometheus/alerts.yml"}
    stack.compose("--profile", "monitoring", "rm", "-sf", "prometheus")


def test_everything_ends_well_and_comes_back(stack: Stack):
    """`stop` ends ours with exit code 0; after `up` the ledger, the circuits and the queues are what they were."""
    with Clients(stack) as sickbay:
        job = sickbay.submit("webhook", {"simulate": "ok"})
        sickbay.wait(job, "SUCCEEDED")
    stack.compose("stop")
    assert {(container["Service"], container["ExitCode"]) for container in stack.containers() if container["Service"] in OURS} == {
        (name, 0) for name in OURS
    }
    stack.up()
    with Clients(stack) as sickbay:
        assert sickbay.job(job)["state"] == "SUCCEEDED"
        assert sickbay.breaker("webhook")["state"] == "CLOSED"
        sickbay.wait(sickbay.submit("webhook", {"simulate": "ok"}), "SUCCEEDED")

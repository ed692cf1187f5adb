"""The distributed form in parts: foreign messages, `sickbay up` on single servers, several of everything, few variables."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiormq
import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from scripts.servers import RabbitMQ, Redis, free_port
from tests.support import scenarios as stories
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.plain_http import NO_TLS
from tests.support.system_under_test import Product
from tests.support.waiting import until
from tests.system.conftest import QUICK

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
BROKEN: Final = {
    b"not JSON at all": "the message is not a job: JSON is malformed",
    b'{"payload": {"n": 1}}': "the message is not a job: Object missing required field `jobType`",
    b'{"jobType": "ok", "payload": [1]}': "payload must be a JSON object",
}
"""What other programs may publish, and how what is wrong with it begins to be told."""


def publish(url: str, *bodies: bytes, headers: dict[str, Any] | None = None) -> None:
    """As a program of somebody else does it: straight to the queue, no id, no properties, and mostly no headers."""
    properties = aiormq.spec.Basic.Properties(headers=headers) if headers else None

    async def send() -> None:
        async with aiormq.connect(url) as connection:
            channel = await connection.channel()
            for body in bodies:
                await channel.basic_publish(body, routing_key="jobs.main", properties=properties)

    asyncio.run(send())


def test_messages_of_foreign_programs(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """`jobType` and `payload` are enough for a job; what is no job waits in quarantine and says why."""
    fleet.launch_all(workers=1).ready()
    publish(corner.rabbitmq, b'{"jobType": "ok", "payload": {"do": ["NETWORK_ERROR", "ok"], "from": "elsewhere"}}', *BROKEN)
    with Clients(fleet) as sickbay:
        until(lambda: [job["state"] for job in sickbay.jobs_of("ok")["jobs"]] == ["SUCCEEDED"])
        (job,) = sickbay.jobs_of("ok")["jobs"]
        assert (job["attempt"], job["tenant"]) == (1, "default")
        until(lambda: sickbay.plane.get("/quarantine", params={"reason": "UNDECODABLE"}).json()["count"] == len(BROKEN))
        cases = [sickbay.case(one["jobId"]) for one in sickbay.plane.get("/quarantine").json()["jobs"]]
        told = {base64.b64decode(case["payload"]["contentBase64"]): case["payload"]["problem"] for case in cases}
        assert told.keys() == BROKEN.keys()
        assert all(told[body].startswith(problem) for body, problem in BROKEN.items())
        assert [[error["message"] for error in case["errors"]] for case in cases] == [[case["payload"]["problem"]] for case in cases]
        until(lambda: corner.list_queues()["jobs.quarantine"] == len(BROKEN), pause_s=1)  # RabbitMQ counts anew every 5 s
        discarded = sickbay.plane.post(f"/quarantine/{cases[0]['jobId']}/discard")
        assert discarded.status_code == 200
        until(lambda: corner.depths()["jobs.quarantine"] == len(BROKEN) - 1)
    assert len(own_clinic.runs(job_type="ok")) == 2


@pytest.mark.parametrize("named", [("RABBITMQ_URL",), ("REDIS_URL",), ("DATABASE_URL",), ("RABBITMQ_URL", "REDIS_URL", "DATABASE_URL")])
def test_up_uses_the_servers_that_are_named(corner: Corner, own_clinic: Clinic, start: Callable[..., Product], named: tuple[str, ...]):
    """A job of every scenario goes through, and what is kept is where the variable says."""
    env = QUICK | {name: corner.env[name] for name in named}
    with Clients(start(own_clinic.folder, env).ready()) as sickbay:
        stories.transient(sickbay, stories.CLINIC, "webhook", 300)
        bad = stories.bad_data(sickbay, stories.CLINIC, "bad")
        outage = stories.fall_ill(sickbay, own_clinic, "email", 12, others=("sms",))
        if "REDIS_URL" in named:
            assert json.loads(corner.redis_cli("GET", "breaker:email"))["state"] in {"OPEN", "HALF_OPEN"}
        if "RABBITMQ_URL" in named:
            until(lambda: corner.depths()["jobs.quarantine"] >= 1 + len(outage.parked))
        if "DATABASE_URL" in named:
            assert [row["state"] for row in corner.sql("SELECT state FROM jobs WHERE job_id = $1", bad)] == ["QUARANTINED"]
        stories.recover(sickbay, own_clinic, "email", outage)
        stories.cure(sickbay, stories.CLINIC, bad)
    embedded = {file.name for file in (own_clinic.folder / "data").glob("*.db")} if (own_clinic.folder / "data").exists() else set()
    assert bool(embedded) is (len(named) < 3 and not {"RABBITMQ_URL", "DATABASE_URL"} <= set(named))


def test_the_documented_variables_alone(fleet: Fleet, own_clinic: Clinic):
    """Without DATABASE_URL: everything works but looking at jobs over the Job API, which says what is missing."""
    del fleet.env["DATABASE_URL"]
    fleet.env["DATA_DIR"] = str(own_clinic.folder / "plane")
    fleet.launch_all(workers=2).ready()
    with Clients(fleet) as sickbay:
        job_id = sickbay.submit("bad", {"do": "VALIDATION_ERROR"})
        refused = sickbay.api.get(f"/jobs/{job_id}")
        assert (refused.status_code, refused.json()["reason"]) == (409, "NOT_CONFIGURED"), refused.text
        assert "DATABASE_URL" in refused.json()["message"]
        until(lambda: sickbay.plane.get("/quarantine").json()["count"] == 1)
        assert sickbay.case(job_id)["reason"] == "RETRIES_EXHAUSTED"
        assert sickbay.plane.post(f"/quarantine/{job_id}/resubmit", json={"payload": {"do": "ok"}}).status_code == 200
        until(lambda: own_clinic.runs(job_id=job_id, what="done"))
        keyed = [sickbay.api.post("/jobs", json={"jobType": "ok", "payload": {}}, headers={"Idempotency-Key": "once"}) for _ in range(2)]
        assert len({answer.json()["jobId"] for answer in keyed}) == 1
    assert (own_clinic.folder / "plane" / "ledger.db").exists()


def test_jobs_that_run_later_need_no_common_ledger(fleet: Fleet, own_clinic: Clinic):
    """Without DATABASE_URL: the control plane has them in a ledger of its own, where they are listed, changed, run and cancelled."""
    del fleet.env["DATABASE_URL"]
    fleet.env["DATA_DIR"] = str(own_clinic.folder / "plane")
    fleet.launch_all(workers=1).ready()
    with Clients(fleet) as sickbay:
        soon = sickbay.submit("ok", {}, delaySeconds=1)
        ids = [sickbay.submit("ok", {"n": number}, delaySeconds=3_600) for number in range(3)]
        for number, job_id in enumerate(ids):
            assert sickbay.plane.get(f"/scheduled-jobs/{job_id}").json()["payload"] == {"n": number}
        assert [job["jobId"] for job in sickbay.plane.get("/scheduled-jobs").json()["jobs"]][-3:] == ids
        assert sickbay.plane.patch(f"/scheduled-jobs/{ids[0]}", json={"delaySeconds": 0.2}).status_code == 200
        assert sickbay.plane.post(f"/scheduled-jobs/{ids[1]}/run", json={}).status_code == 200
        for _ in range(2):
            assert sickbay.plane.post(f"/scheduled-jobs/{ids[2]}/cancel", json={}).json()["state"] == "CANCELLED"
        for job_id in (soon, *ids[:2]):
            until(lambda job_id=job_id: own_clinic.runs(job_id=job_id, what="done"))  # type: ignore[misc]
        assert not own_clinic.runs(job_id=ids[2])
        assert sickbay.plane.get("/scheduled-jobs").json()["jobs"] == []


def test_two_job_apis(fleet: Fleet):
    """What one took the other knows, and an idempotency key holds across both."""
    fleet.launch_all(workers=1).ready()
    with Clients(fleet) as first:
        fleet.launch("jobapi")[0].ready()
        with Clients(fleet) as second:
            request = {"jobType": "ok", "payload": {"n": 1}}
            (one, other) = [each.api.post("/jobs", json=request, headers={"Idempotency-Key": "both"}).json() for each in (first, second)]
            assert other == one | {"duplicate": True}
            second.wait_until_known(one["jobId"])
            second.wait(one["jobId"], "SUCCEEDED")
            assert first.job(one["jobId"])["state"] == "SUCCEEDED"
            reused = second.api.post("/jobs", json=request | {"payload": {"n": 2}}, headers={"Idempotency-Key": "both"})
            assert (reused.status_code, reused.json()["reason"]) == (422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.long
def test_services_may_start_before_their_servers(own_clinic: Clinic, tmp_path_factory: pytest.TempPathFactory):
    """They wait, say so, and are not healthy until then; a worker does without Redis, and joins when it is there."""
    rabbitmq, redis = RabbitMQ(_folder(tmp_path_factory)), Redis(_folder(tmp_path_factory))
    env = QUICK | {"RABBITMQ_URL": rabbitmq.url, "REDIS_URL": redis.url, "DATA_DIR": str(own_clinic.folder / "plane")}
    with Fleet(own_clinic.folder, env) as fleet:
        worker, plane, api = (fleet.launch(module)[0] for module in ("worker", "controlplane", "jobapi"))
        for service in (worker, plane, api):
            assert service.logged("; retrying")
        with rabbitmq:
            fleet.ready()
            assert worker.logged("breakers are degraded until it recovers")
            with Clients(fleet) as sickbay:
                for health in sickbay.health.values():
                    assert health.Check(HealthCheckRequest()).status == HealthCheckResponse.SERVING
                job_id = sickbay.submit("ok")
                until(lambda: own_clinic.runs(job_id=job_id, what="done"))
                with redis:
                    for service in (worker, plane):
                        assert service.logged("is available; the shared breakers are used again")
                    job_id = sickbay.submit("ok")
                    until(lambda: own_clinic.runs(job_id=job_id, what="done"))
                    until(lambda: [one["jobType"] for one in sickbay.plane.get("/breakers").json()["breakers"]] == ["ok"])
                    fleet.stop()


def test_health_says_no_while_the_servers_are_away(own_clinic: Clinic):
    """HTTP answers at once with 503, gRPC with NOT_SERVING; SIGTERM ends the waiting with exit code 0."""
    fleet = Fleet(own_clinic.folder, QUICK | {"RABBITMQ_URL": "amqp://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"})
    for module in ("worker", "jobapi"):
        (service,) = fleet.launch(module, PORT=str(port := free_port()))
        assert service.logged("; retrying")

        def asked(port: int = port) -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, verify=NO_TLS).status_code == 503
            except httpx.TransportError:
                return False

        until(asked)
    fleet.stop()


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("server")

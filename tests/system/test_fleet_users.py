"""Each service with its own users of `deploy/`, on RabbitMQ and on PostgreSQL, who may do just what the service does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiormq
import pytest

from scripts.servers import RabbitMQ
from sickbay.ports import TO_MAIN
from tests.support import scenarios as stories
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.roles import USERS, guarded
from tests.support.waiting import until
from tests.system.conftest import QUICK

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
DEFINITIONS = Path(__file__).parents[2] / "deploy" / "rabbitmq" / "definitions.json"


async def _publish(url: str, *tenants: str) -> None:
    """A job of each tenant, as another program publishes it."""
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        for tenant in tenants:
            body = json.dumps({"jobId": f"foreign-{tenant}", "jobType": "webhook", "tenant": tenant, "payload": {}})
            await channel.basic_publish(body.encode(), exchange="jobs", routing_key=TO_MAIN)


@pytest.mark.long
def test_least_privilege_is_enough(corner: Corner, own_clinic: Clinic, tmp_path: Path):
    """Nobody may configure, the tables are the control plane's, and every scenario with its resubmit, release and requeue goes through.

    All that with foreign messages told apart: those of another user run for the tenant that takes them, and for no other.
    """
    own = tmp_path / "definitions.json"
    own.write_text(DEFINITIONS.read_text().replace("CHANGE_ME_", "own_"))
    with RabbitMQ(tmp_path / "rabbitmq") as server, guarded() as database:
        server.control("import_definitions", str(own))
        database.make_roles()
        server.control("add_user", "partner", "own_partner")
        server.control("set_permissions", "partner", "^$", "^jobs$", "^$")
        told = {"TRUSTED_USERS": ",".join(USERS.values()), "FOREIGN_TENANTS": "partner"}
        with Fleet(own_clinic.folder, QUICK | dict(corner.env) | told) as fleet:
            for module, user in USERS.items():
                rabbitmq = f"amqp://{user}:own_{user}@localhost:{server.port}"
                fleet.launch(module, RABBITMQ_URL=rabbitmq, DATABASE_URL=database.login(module))
            fleet.ready()
            with Clients(fleet) as sickbay:
                stories.transient(sickbay, stories.CLINIC, "webhook", 300)
                bad = stories.bad_data(sickbay, stories.CLINIC, "bad")
                outage = stories.fall_ill(sickbay, own_clinic, "email", 12)
                stories.recover(sickbay, own_clinic, "email", outage)
                stories.cure(sickbay, stories.CLINIC, bad)
                retrying = sickbay.submit("cancel", {"do": "API_TIMEOUT", "retryAfter": 60})
                sickbay.wait(retrying, "RETRYING")
                assert sickbay.api.post(f"/jobs/{retrying}/cancel").json()["state"] == "CANCELLED"
                keyed = {"jobType": "webhook", "payload": {}}
                first, second = (sickbay.api.post("/jobs", json=keyed, headers={"Idempotency-Key": "one"}) for _ in range(2))
                assert first.json()["jobId"] == second.json()["jobId"]
                assert sickbay.plane.post("/jobs:requeue", json={"validateOnly": True}).status_code == 200
                until(lambda: sickbay.plane.get("/metrics").json()["queues"]["jobs.quarantine"] == 0)
                asyncio.run(_publish(f"amqp://partner:own_partner@localhost:{server.port}", "partner", "acme"))
                until(lambda: sickbay.api.get("/jobs/foreign-partner").json().get("state") == "SUCCEEDED")
                (kept,) = until(lambda: sickbay.plane.get("/quarantine", params={"reason": "UNDECODABLE"}).json()["jobs"])
                assert "FOREIGN_TENANTS" in str(kept)
                assert sickbay.api.get("/jobs/foreign-acme").status_code == 404
        assert "access_refused" not in "".join(log.read_text() for log in (tmp_path / "rabbitmq" / "log").glob("*.log"))
        assert "permission denied" not in database.log

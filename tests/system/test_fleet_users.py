"""Each service with its own user of `deploy/rabbitmq/definitions.json`, who may do just what the service does."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.servers import RabbitMQ
from tests.system import stories
from tests.system.clients import Clients
from tests.system.clinic import Clinic
from tests.system.conftest import QUICK
from tests.system.corner import Corner
from tests.system.fleet import Fleet
from tests.system.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
DEFINITIONS = Path(__file__).parents[2] / "deploy" / "rabbitmq" / "definitions.json"
USERS = {"jobapi": "jobapi", "worker": "worker", "controlplane": "keeper"}


def test_least_privilege_is_enough(corner: Corner, own_clinic: Clinic, tmp_path: Path):
    """Queues from the file alone, nobody may configure, and every scenario with its resubmit and its release goes through."""
    with RabbitMQ(tmp_path / "rabbitmq") as server:
        server.control("import_definitions", str(DEFINITIONS))
        with Fleet(own_clinic.folder, QUICK | dict(corner.env)) as fleet:
            for module, user in USERS.items():
                fleet.launch(module, RABBITMQ_URL=f"amqp://{user}:CHANGE_ME_{user}@localhost:{server.port}")
            fleet.ready()
            with Clients(fleet) as sickbay:
                stories.transient(sickbay, stories.CLINIC, "webhook", 300)
                bad = stories.bad_data(sickbay, stories.CLINIC, "bad")
                outage = stories.fall_ill(sickbay, own_clinic, "email", 12)
                stories.recover(sickbay, own_clinic, "email", outage)
                stories.cure(sickbay, stories.CLINIC, bad)
                until(lambda: sickbay.plane.get("/metrics").json()["queues"]["jobs.quarantine"] == 0)
        assert "access_refused" not in "".join(log.read_text() for log in (tmp_path / "rabbitmq" / "log").glob("*.log"))

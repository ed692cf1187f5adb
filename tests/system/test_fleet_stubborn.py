"""A worker is asked to stop while RabbitMQ is away."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import pytest

from scripts.servers import RabbitMQ
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until
from tests.system.conftest import QUICK

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
PROMISED_S: Final = 20.0
"""docs/distributed.md: the longest timeout and 20 s more."""


def knows_its_queues(server: RabbitMQ) -> bool:
    """RabbitMQ before 4.0 writes down up to 3 s late which queues were declared (rabbitmq/ra#443); killed sooner, it has lost them."""
    return any(b"jobs.ledger" in names.read_bytes() for names in server.folder.glob("data/*/quorum/*/names.dets"))


@pytest.mark.long
def test_a_worker_stops_although_rabbitmq_is_away(corner: Corner, own_clinic: Clinic, tmp_path_factory: pytest.TempPathFactory):
    """Its job is done and cannot be settled: it does not wait for that for ever, and the job comes again when RabbitMQ does."""
    env = QUICK | dict(corner.env) | {"HANDLER_TIMEOUT": "60"}
    with (
        RabbitMQ(Path(tmp_path_factory.mktemp("rabbitmq"))) as server,
        Fleet(own_clinic.folder, env | {"RABBITMQ_URL": server.url}) as fleet,
    ):
        fleet.launch_all(workers=1).ready()
        (first,) = fleet.workers
        with Clients(fleet) as sickbay:
            held = sickbay.submit("held", {"do": own_clinic.make_gate("away")})
            sickbay.wait(held, "RUNNING")
            until(lambda: knows_its_queues(server))
            server.kill()
            assert first.logged("; retrying")
            own_clinic.open_gate("away")
            until(lambda: own_clinic.runs(job_id=held, what="done"))
            asked = time.monotonic()
            first.terminate()
            assert first.wait() == 0
            assert time.monotonic() - asked < PROMISED_S
            fleet.retire(first)
            server.start()
            fleet.launch("worker")[0].ready()
            sickbay.wait(held, "SUCCEEDED")
            assert len(own_clinic.runs(job_id=held)) == 2, "the promise is at least once"

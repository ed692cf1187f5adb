"""The registry of a fleet: who is live, what they handle, and who has gone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]


def workers(sickbay: Clients, **query: Any) -> dict[str, dict[str, Any]]:
    """`GET /workers`, by name."""
    answer = sickbay.plane.get("/workers", params=query)
    assert answer.status_code == 200, answer.text
    return {worker["name"]: worker for worker in answer.json()["workers"]}


def test_workers_come_drain_and_go(fleet: Fleet, own_clinic: Clinic):
    """One that stops says that it drains and leaves at once; one that is killed is listed until its time is over."""
    fleet.launch_all(workers=0)
    fleet.launch("worker", WORKER_NAME="anna", CONCURRENCY="3")
    fleet.launch("worker", WORKER_NAME="berta")
    anna, berta = fleet.workers
    with Clients(fleet.ready()) as sickbay:
        until(lambda: workers(sickbay).keys() == {"anna", "berta"})
        held = sickbay.submit_all("held", *({"do": own_clinic.make_gate(f"gate-{number}")} for number in range(2)))
        sickbay.wait_all(held, "RUNNING")
        until(lambda: sum(worker["slotsInUse"] for worker in workers(sickbay).values()) == 2)
        seen = workers(sickbay, jobType="held")["anna"]
        assert (seen["slots"], seen["draining"], "email" in seen["jobTypes"]) == (3, False, True)
        assert workers(sickbay, jobType="nobody") == {}

        anna.terminate()
        berta.terminate()
        until(lambda: [worker["draining"] for worker in workers(sickbay).values()] == [True, True])
        for number in range(2):
            own_clinic.open_gate(f"gate-{number}")
        assert [anna.wait(), berta.wait()] == [0, 0]
        assert workers(sickbay) == {}
        for gone in (anna, berta):
            fleet.retire(gone)

        (carla,) = fleet.launch("worker", WORKER_NAME="carla")
        carla.ready()
        assert "carla" in workers(sickbay)
        fleet.retire(carla)
        assert "carla" in workers(sickbay)
        until(lambda: workers(sickbay) == {})

"""No flood of one type or tenant holds up another: told by the order in which the jobs start, not by the time they take.

`test_lanes.py` has floods that hang.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.system.conftest import QUICK, Start

SLOTS = 8
FLOOD = 600


@pytest.fixture
def busy(start: Start, own_clinic: Clinic) -> Iterator[Clients]:
    """A product with few slots, to which jobs of two types and of two tenants have come."""
    with Clients(start(own_clinic.folder, QUICK | {"CONCURRENCY": str(SLOTS)}).ready()) as clients:
        clients.wait_all([clients.submit("sms"), submit(clients, "email", "quiet")[0]], "SUCCEEDED")
        yield clients


def submit(sickbay: Clients, job_type: str, tenant: str, count: int = 1, do: str = "ok") -> list[str]:
    """Jobs of a tenant; their ids."""
    request = {"jobType": job_type, "tenant": tenant, "payload": {"do": do}}
    answer = sickbay.api.post("/jobs:batch", json={"jobs": [request] * count})
    assert answer.status_code == 202, answer.text
    return [result["jobId"] for result in answer.json()["results"]]


def begun_before(clinic: Clinic, job_id: str, flood: list[str]) -> int:
    """How many jobs of the flood had started when this one did."""
    order = [run.job for run in clinic.runs()]
    return len(set(order[: order.index(job_id)]) & set(flood))


def test_a_type_does_not_wait_behind_a_flood_of_another(busy: Clients, own_clinic: Clinic):
    hold = own_clinic.make_gate("loud")
    flood = submit(busy, "email", "default", FLOOD, hold)
    busy.wait(flood[0], "RUNNING")
    sms = busy.submit("sms")
    busy.wait(sms, "SUCCEEDED")
    assert begun_before(own_clinic, sms, flood) < SLOTS
    own_clinic.open_gate("loud")
    busy.wait_all(flood, "SUCCEEDED")
    assert set(own_clinic.count("email").values()) == {1}, "nothing is lost or doubled by moving"


def test_a_tenant_does_not_wait_behind_a_flood_of_another(busy: Clients, own_clinic: Clinic):
    """Of the same type, whose breaker they share."""
    hold = own_clinic.make_gate("loud")
    flood = submit(busy, "email", "loud", FLOOD, hold)
    busy.wait(flood[0], "RUNNING")
    (quiet,) = submit(busy, "email", "quiet")
    busy.wait(quiet, "SUCCEEDED")
    assert begun_before(own_clinic, quiet, flood) < SLOTS
    own_clinic.open_gate("loud")
    busy.wait_all(flood, "SUCCEEDED")
    assert set(own_clinic.count("email").values()) == {1}

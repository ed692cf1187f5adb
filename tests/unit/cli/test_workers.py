"""sickbay workers, against a fake control plane."""

from __future__ import annotations

from typing import Any

import pytest

from sickbay.jobs.v1 import worker_service_pb2 as pb
from sickbay.jobs.v1.worker_pb2 import TenantSlots, Worker
from tests.support.cli_services import BUSY, Fleet

NOW = 1_700_000_000_000
TIME = "2023-11-14T22:13:20.000Z"


@pytest.fixture
def fleet():
    with Fleet() as started:
        yield started


def worker(**fields: Any) -> Worker:
    known = {"worker_id": "anna-1", "name": "anna", "version": "1.2", "host": "a", "job_types": ["email", "sms"], "slots": 4}
    made = Worker(**(known | fields))
    made.start_time.FromMilliseconds(NOW)
    made.last_seen_time.FromMilliseconds(NOW)
    return made


def test_a_table_and_the_same_as_json(fleet: Fleet):
    fleet.answers["ListWorkers"] = pb.ListWorkersResponse(workers=[worker(slots_in_use=3), worker(name="berta\x1b[2J", draining=True)])
    lines = fleet.run("workers", "--type", "email").stdout.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "SLOTS", "STARTED", "SEEN", "HOST", "VERSION", "JOB", "TYPES"]
    assert lines[1].split()[:3] == ["anna", "LIVE", "3/4"]
    assert lines[1].endswith("email, sms")
    assert "DRAINING" in lines[2]
    assert "\x1b" not in lines[2]
    first, second = fleet.json("workers")["workers"]
    assert (first["jobTypes"], first["slotsInUse"], first["since"], first["lastSeen"]) == (["email", "sms"], 3, TIME, TIME)
    assert (first["draining"], second["draining"]) == (False, True)
    assert fleet.requests[0].job_type == "email"


def test_tenants_are_shown_where_there_are_any_and_can_be_asked_for(fleet: Fleet):
    shares = [TenantSlots(tenant=f"t{number}", slots_in_use=9 - number) for number in range(4)]
    fleet.answers["ListWorkers"] = pb.ListWorkersResponse(workers=[worker(tenants=shares), worker(name="berta")])
    lines = fleet.run("workers", "--tenant", "t1").stdout.splitlines()
    assert "TENANTS" in lines[0]
    assert "t0 9, t1 8, t2 7, ..." in lines[1]
    assert fleet.requests[0].tenant == "t1"
    assert fleet.json("workers")["workers"][0]["tenants"][0] == {"tenant": "t0", "slotsInUse": 9}
    fleet.answers["ListWorkers"] = pb.ListWorkersResponse(workers=[worker(tenants=[TenantSlots(tenant="default", slots_in_use=1)])])
    assert "TENANTS" not in fleet.run("workers").stdout
    fleet.answers["ListWorkers"] = pb.ListWorkersResponse()
    assert "no live worker runs jobs of acme now" in fleet.run("workers", "--tenant", "acme").stderr


def test_none_is_no_error_but_an_unknown_fleet_is(fleet: Fleet):
    fleet.answers["ListWorkers"] = pb.ListWorkersResponse()
    assert "no worker is live" in fleet.run("workers").stderr
    assert "no live worker handles fax" in fleet.run("workers", "--type", "fax").stderr
    fleet.answers["ListWorkers"] = BUSY
    result = fleet.run("workers")
    assert result.exit_code != 0
    assert "the broker does not answer" in result.stderr

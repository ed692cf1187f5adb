"""The audit log on RabbitMQ, Redis and PostgreSQL: what was answered is in it, although control planes are killed or the ledger is away."""

from __future__ import annotations

from collections import Counter
from signal import SIGKILL
from typing import Any, Final

import pytest

from tests.support.clients import Clients
from tests.support.faults.proxied import proxied
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until

pytestmark = pytest.mark.servers

ACTIONS: Final = 30


def listed(sickbay: Clients, query: str) -> list[dict[str, Any]]:
    """The entries, None of them while the ledger is away."""
    answer = sickbay.plane.get(f"/audit?pageSize=1000&{query}")
    found: list[dict[str, Any]] = answer.json().get("entries", [])
    return found


def act(sickbay: Clients, name: str) -> None:
    """One action, which is answered."""
    assert sickbay.plane.post("/breakers/email/disable", json={"by": name}).status_code == 200


def test_every_answered_action_is_in_the_audit_log_although_the_control_plane_is_killed_while_it_writes(fleet: Fleet):
    fleet.launch("jobapi")
    fleet.launch("worker")
    for number in range(3):
        (plane,) = fleet.launch("controlplane")
        with Clients(fleet.ready()) as sickbay:
            for action in range(ACTIONS):
                act(sickbay, f"{number}-{action}")
        assert fleet.retire(plane) == -SIGKILL
    fleet.launch("controlplane")
    with Clients(fleet.ready()) as sickbay:
        until(lambda: len(listed(sickbay, "target=email&result=OK")) >= 3 * ACTIONS)
        found = listed(sickbay, "target=email")
    assert Counter(one["claimedActor"] for one in found) == Counter(f"{n}-{a}" for n in range(3) for a in range(ACTIONS)), "each once"
    assert {one["result"] for one in found} == {"OK"}


def test_a_ledger_that_is_away_loses_no_entry(fleet: Fleet, corner: Corner):
    with proxied(corner.postgres) as (url, call):
        fleet.launch("controlplane", DATABASE_URL=url)
        fleet.launch("jobapi")
        fleet.launch("worker")
        with Clients(fleet.ready()) as sickbay:
            act(sickbay, "before")
            until(lambda: len(listed(sickbay, "result=OK")) == 1)
            call("cut")
            for action in range(ACTIONS):
                act(sickbay, f"away-{action}")
            assert sickbay.plane.get("/audit").status_code == 503
            call("accept")
            until(lambda: len(listed(sickbay, "result=OK")) == 1 + ACTIONS)
            assert {one["result"] for one in listed(sickbay, "")} == {"OK"}

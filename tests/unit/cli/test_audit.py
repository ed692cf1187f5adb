"""audit list and export, against a fake control plane."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sickbay.audit.v1.audit_pb2 import AuditEntry
from sickbay.audit.v1.audit_service_pb2 import ListAuditEntriesResponse
from tests.support.cli_services import Fleet

NOW = 1_700_000_000_000


@pytest.fixture
def fleet():
    with Fleet() as started:
        yield started


def entry(**fields: Any) -> AuditEntry:
    known = {
        "entry_id": "e1",
        "principal": "olga",
        "action": "ResetBreaker",
        "target_kind": "breaker",
        "target": "email\x1b[2J",
        "result": "OK",
        "before": "OPEN",
        "after": "CLOSED",
        "claimed_actor": "ceo",
        "source": "10.0.0.1",
        "door": "grpc",
        "count": 1,
    }
    made = AuditEntry(**(known | fields))
    made.time.FromMilliseconds(NOW)
    return made


def test_a_list(fleet: Fleet):
    refused = entry(
        entry_id="e2", principal="", result="UNAUTHENTICATED", message="who are you", count=80, claimed_actor="", before="", after=""
    )
    fleet.answers["ListAuditEntries"] = ListAuditEntriesResponse(entries=[entry(), refused])
    lines = fleet.run("audit", "list").stdout.splitlines()
    assert lines[0].split() == ["TIME", "PRINCIPAL", "ACTION", "TARGET", "RESULT", "CHANGE", "FROM", "NOTE"]
    assert "OPEN -> CLOSED" in lines[1]
    assert "claims to be ceo" in lines[1]
    assert "\x1b" not in lines[1]
    assert "80 calls, who are you" in lines[2]
    view = fleet.json("audit", "list")["entries"]
    assert (view[0]["entryId"], view[0]["claimedActor"], view[0]["time"]) == ("e1", "ceo", "2023-11-14T22:13:20.000Z")
    assert "principal" not in view[1]


def test_filters(fleet: Fleet):
    fleet.answers["ListAuditEntries"] = ListAuditEntriesResponse()
    words = ("--principal", "olga", "--action", "ResetBreaker", "--target", "email", "--tenant", "acme", "--refused")
    run = fleet.run("audit", "list", "--since", "2026-01-31T08:00:00+01:00", "--until", "1h", *words)
    assert "no entries match" in run.stderr
    (asked,) = fleet.requests
    assert (asked.principal, asked.action, asked.target, asked.tenant, asked.refused) == ("olga", "ResetBreaker", "email", "acme", True)
    assert asked.start_time.ToJsonString() == "2026-01-31T07:00:00Z"
    assert asked.HasField("end_time")
    assert not asked.oldest_first


@pytest.mark.parametrize(("typed", "why"), [("2026-01-31T08:00:00", "has no time zone"), ("yesterday", "neither a time")])
def test_a_time_that_is_none_is_explained(fleet: Fleet, typed: str, why: str):
    run = fleet.run("audit", "export", "--since", typed)
    assert run.exit_code == 2
    assert why in run.stderr
    assert not fleet.requests


def test_an_export_has_all_pages_oldest_first_one_entry_per_line(fleet: Fleet):
    pages = {"": ("e1", "more"), "more": ("e2", "")}

    def answer(request: Any) -> ListAuditEntriesResponse:
        found, token = pages[request.page_token]
        return ListAuditEntriesResponse(entries=[entry(entry_id=found)], next_page_token=token)

    fleet.answers["ListAuditEntries"] = answer
    lines = [json.loads(line) for line in fleet.run("audit", "export").stdout.splitlines()]
    assert [line["entryId"] for line in lines] == ["e1", "e2"]
    assert all(request.oldest_first for request in fleet.requests)

"""incidents list, show and ack, against a fake control plane."""

from __future__ import annotations

from typing import Any

import pytest

from sickbay.breakers.v1 import incident_service_pb2 as pb
from sickbay.breakers.v1.incident_pb2 import FailedJob, Incident, IncidentAcknowledgement, IncidentCause, IncidentEntry
from tests.support.cli_services import NOT_FOUND, Fleet

NOW = 1_700_000_000_000


@pytest.fixture
def fleet():
    with Fleet() as started:
        yield started


def incident(**fields: Any) -> Incident:
    cause = IncidentCause(code="API_TIMEOUT", message="no answer\x1b[2J", count=5, jobs=[FailedJob(job_id="j-1", trace_id="af76")])
    known = {"incident_id": "12", "job_type": "email", "tenant": "default", "open": True, "cause": cause, "parked_jobs": 1234}
    made = Incident(**(known | fields))
    made.open_time.FromMilliseconds(NOW)
    if not made.open:
        made.close_time.FromMilliseconds(NOW + 90_000)
        made.recovery.FromMilliseconds(90_000)
    return made


def test_a_list(fleet: Fleet):
    closed = incident(incident_id="11", open=False, job_type="sms", tenant="acme")
    fleet.answers["ListIncidents"] = pb.ListIncidentsResponse(incidents=[incident(), closed])
    lines = fleet.run("incidents").stdout.splitlines()
    assert lines[0].split() == ["ID", "TYPE", "STATE", "OPENED", "LASTED", "PARKED", "CAUSE"]
    assert lines[1].split()[:3] == ["12", "email", "OPEN"]
    assert "1,234" in lines[1]
    assert "5 x API_TIMEOUT: no answer" in lines[1]
    assert "\x1b" not in lines[1]
    assert lines[2].split()[:4] == ["11", "sms", "(acme)", "CLOSED"]
    assert "1 m 30 s" in lines[2]
    view = fleet.json("incidents")["incidents"]
    assert [one["incidentId"] for one in view] == ["12", "11"]
    assert (view[1]["recoverySeconds"], view[1]["open"]) == (90, False)
    assert not fleet.requests[0].HasField("open")


def test_filters_work_with_and_without_the_command_s_name(fleet: Fleet):
    fleet.answers["ListIncidents"] = pb.ListIncidentsResponse()
    assert "no incidents match" in fleet.run("incidents", "--open", "--type", "email").stderr
    assert "no incidents match" in fleet.run("incidents", "list", "--closed", "--tenant", "acme").stderr
    assert "there have been no incidents" in fleet.run("incidents", "list").stderr
    first, second, _ = fleet.requests
    assert (first.open, first.job_type, second.open, second.tenant) == (True, "email", False, "acme")


def test_one_incident(fleet: Fleet):
    timeline = [
        IncidentEntry(kind=IncidentEntry.KIND_OPENED, code="API_TIMEOUT"),
        IncidentEntry(kind=IncidentEntry.KIND_PROBE_FAILED, code="API_TIMEOUT", job_id="j-2"),
        IncidentEntry(kind=IncidentEntry.KIND_FORCED_OPEN, actor="ada", message="they move"),
    ]
    noted = IncidentAcknowledgement(actor="bob", note="calling them")
    found = incident(timeline=timeline, omitted_entries=3, acknowledgement=noted, released_jobs=7, wasted_runs=2, reopenings=1)
    fleet.answers["GetIncident"] = pb.GetIncidentResponse(incident=found)
    shown = fleet.run("incidents", "show", "12").stdout
    for words in (
        "j-1  trace af76",
        "1,234, of which 7 are released",
        "probe failed",
        "job j-2",
        "by ada",
        "calling them",
        "1 x",
        "3 entries",
    ):
        assert words in shown
    assert fleet.json("incidents", "show", "12")["timeline"][1] == {"kind": "PROBE_FAILED", "code": "API_TIMEOUT", "jobId": "j-2"}
    assert fleet.requests[0].incident_id == "12"


def test_an_unknown_incident(fleet: Fleet):
    fleet.answers["GetIncident"] = NOT_FOUND
    assert fleet.run("incidents", "show", "99").exit_code == 3


def test_an_acknowledgement(fleet: Fleet):
    fleet.answers["AcknowledgeIncident"] = pb.AcknowledgeIncidentResponse(incident=incident())
    assert fleet.run("incidents", "ack", "12", "--note", "calling them", LOGNAME="ann").exit_code == 0
    assert fleet.json("incidents", "ack", "12", "--actor", "bob")["incidentId"] == "12"
    first, second = fleet.requests
    assert (first.incident_id, first.note, first.actor) == ("12", "calling them", "ann")
    assert (second.note, second.actor) == ("", "bob")

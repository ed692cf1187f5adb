"""sickbay types, against a fake Job API."""

from __future__ import annotations

from typing import Any

import pytest

from sickbay.jobs.v1 import job_type_service_pb2 as pb
from sickbay.jobs.v1.job_type_pb2 import JobType
from tests.support.cli_services import Fleet

NOW = 1_700_000_000_000
SCHEMA = '{"type":"object","required":["to"]}'


@pytest.fixture
def fleet():
    with Fleet() as started:
        yield started


def email(**fields: Any) -> JobType:
    made = JobType(job_type="email", schema_json=SCHEMA, description="Send it.", handler="mail.send", workers=2, schemas=1, **fields)
    made.announce_time.FromMilliseconds(NOW)
    return made


def test_a_table_says_how_payloads_are_checked(fleet: Fleet):
    fleet.answers["ListJobTypes"] = pb.ListJobTypesResponse(types=[email(), email(validated_on_submit=True), JobType(job_type="sms")])
    header, *lines = fleet.run("types").stdout.splitlines()
    assert header.split() == ["TYPE", "WORKERS", "PAYLOAD", "DESCRIPTION"]
    assert [line.split()[:3] for line in lines] == [["email", "2", "typed"], ["email", "2", "checked"], ["sms", "0", "any"]]
    first, *_, last = fleet.json("types")["types"]
    assert (first["schema"], last.get("schema")) == ({"type": "object", "required": ["to"]}, None)


def test_pools_are_shown_if_there_are_any(fleet: Fleet):
    fleet.answers["ListJobTypes"] = pb.ListJobTypesResponse(types=[email(pools=["a", "b"])])
    assert "a, b" in fleet.run("types").stdout


def test_one_with_its_schema(fleet: Fleet):
    fleet.answers["GetJobType"] = pb.GetJobTypeResponse(type=email(validated_on_submit=True))
    shown = fleet.run("types", "email").stdout
    assert "mail.send" in shown
    assert "checked when a job is submitted" in shown
    assert shown.endswith('{\n  "type": "object",\n  "required": [\n    "to"\n  ]\n}\n')
    assert fleet.json("types", "email")["validatedOnSubmit"] is True
    assert fleet.requests[0].job_type == "email"


def test_nothing_at_all(fleet: Fleet):
    fleet.answers["ListJobTypes"] = pb.ListJobTypesResponse()
    assert "no live worker takes any job type" in fleet.run("types").stderr

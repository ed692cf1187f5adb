"""A job keeps its priority wherever it goes, and only a resubmit changes it."""

from __future__ import annotations

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet


def walk(sickbay: Clients, clinic: Clinic) -> None:
    """One HIGH job fails, is retried, parked, released, quarantined and resubmitted as LOW."""
    sickbay.wait(sickbay.submit("urgent"), "SUCCEEDED")
    clinic.break_down("urgent")
    job_id = sickbay.submit("urgent", {"do": "VALIDATION_ERROR"}, priority="HIGH")
    sickbay.wait(job_id, "RETRYING")
    assert sickbay.job(job_id)["priority"] == "HIGH"
    sickbay.submit_all("urgent", *({"number": number} for number in range(4)))
    sickbay.wait(job_id, "PARKED")
    listed = sickbay.plane.get("/quarantine", params={"jobType": "urgent", "priority": "HIGH"}).json()
    assert [(job["jobId"], job["priority"]) for job in listed["jobs"]] == [(job_id, "HIGH")]

    clinic.repair("urgent")
    sickbay.wait(job_id, "QUARANTINED")
    assert sickbay.case(job_id)["priority"] == "HIGH"
    assert {run.priority for run in clinic.runs(job_id=job_id)} == {"HIGH"}
    assert {run.generation for run in clinic.runs(job_id=job_id)} >= {0, 1}, "it ran before it was parked and after its release"

    answer = sickbay.plane.post(f"/quarantine/{job_id}/resubmit", json={"payload": {}, "priority": "LOW", "by": "ann"})
    assert (answer.status_code, answer.json()["priority"]) == (200, "LOW"), answer.text
    sickbay.wait(job_id, "SUCCEEDED")
    assert clinic.runs(job_id=job_id)[-1].priority == "LOW"
    job = sickbay.job(job_id)
    changes = [
        (change["state"], change["actor"], change["message"]) for change in job["history"] if "message" in change and "actor" in change
    ]
    assert (job["priority"], ("QUEUED", "ann", "priority LOW, was HIGH") in changes) == ("LOW", True), job
    assert [found["jobId"] for found in sickbay.jobs_of("urgent", priority="LOW")["jobs"]] == [job_id]
    assert sickbay.jobs_of("urgent", priority="HIGH")["jobs"] == []


def test_a_job_keeps_its_priority_through_retry_parking_and_release(sickbay: Clients, clinic: Clinic):
    walk(sickbay, clinic)


@pytest.mark.servers
def test_a_job_keeps_its_priority_in_a_fleet(fleet: Fleet, own_clinic: Clinic):
    fleet.launch_all(workers=2)
    with Clients(fleet.ready()) as sickbay:
        walk(sickbay, own_clinic)


def test_another_priority_is_another_request_and_an_unknown_one_is_refused(sickbay: Clients):
    """The key was for a job that waits elsewhere; the first answer would hide that."""
    request = {"jobType": "ok", "payload": {"priority": "test"}, "priority": "HIGH"}
    key = {"Idempotency-Key": "urgent-1"}
    first = sickbay.api.post("/jobs", json=request, headers=key)
    assert sickbay.api.post("/jobs", json=request, headers=key).json()["jobId"] == first.json()["jobId"]
    assert sickbay.api.post("/jobs", json=request | {"priority": "LOW"}, headers=key).status_code == 422
    refused = sickbay.api.post("/jobs", json=request | {"priority": "URGENT"})
    assert (refused.status_code, refused.json()["message"]) == (400, "priority: there is no 'URGENT'; use one of HIGH, NORMAL, LOW")
    batch = sickbay.api.post("/jobs:batch", json={"jobs": [request, request | {"priority": "low"}]}).json()
    assert (batch["accepted"], batch["refused"]) == (1, 1)
    assert sickbay.job(batch["results"][0]["jobId"])["priority"] == "HIGH"

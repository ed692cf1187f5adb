"""Scenario 2: jobs that are bad themselves are retried, quarantined with everything a person needs, edited and brought back."""

from __future__ import annotations

import grpc
import pytest

from sickbay.jobs.v1.quarantine_service_pb2 import DiscardJobRequest, ResubmitJobRequest
from tests.support.clients import Clients, refusal
from tests.support.fake_dependency import Clinic

MAX_RETRIES = 3


def quarantined(sickbay: Clients, job_type: str, says: str = "no address") -> str:
    """A job in quarantine for bad data."""
    job_id = sickbay.submit(job_type, {"do": "VALIDATION_ERROR", "says": says})
    sickbay.wait(job_id, "QUARANTINED")
    return job_id


def test_bad_data_is_retried_then_quarantined_and_no_circuit_cares(sickbay: Clients, clinic: Clinic):
    """VALIDATION_ERROR runs 1 + MAX_RETRIES times."""
    job_id = quarantined(sickbay, "bad")
    assert clinic.count("bad")[job_id] == 1 + MAX_RETRIES
    case = sickbay.case(job_id)
    assert (case["state"], case["reason"], case["attempt"]) == ("QUARANTINED", "RETRIES_EXHAUSTED", MAX_RETRIES)
    assert case["payload"] == {"do": "VALIDATION_ERROR", "says": "no address"}
    assert [(error["code"], error["attempt"], error["message"]) for error in case["errors"]] == [
        ("VALIDATION_ERROR", attempt, "no address") for attempt in range(1 + MAX_RETRIES)
    ]
    assert [change["state"] for change in case["history"]] == ["QUEUED", *["RUNNING", "RETRYING"] * MAX_RETRIES, "RUNNING", "QUARANTINED"]
    assert case["etag"]
    assert sickbay.breaker("bad")["state"] == "CLOSED"
    listed = sickbay.plane.get("/quarantine", params={"jobType": "bad", "reason": "RETRIES_EXHAUSTED"}).json()
    assert job_id in {job["jobId"] for job in listed["jobs"]}
    assert all("payload" not in job for job in listed["jobs"])


def test_an_edited_job_comes_back_and_its_whole_way_is_kept(sickbay: Clients, clinic: Clinic):
    """Resubmit with the etag that was read; an old one is a conflict and changes nothing."""
    job_id = quarantined(sickbay, "edit")
    first = sickbay.case(job_id)
    edit = {"payload": {"do": "BAD_REQUEST"}, "etag": first["etag"], "by": "ada"}
    answer = sickbay.plane.post(f"/quarantine/{job_id}/resubmit", json=edit)
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["generation"], answer.json()["attempt"]) == ("QUEUED", 1, 0)
    sickbay.wait(job_id, "QUARANTINED")

    second = sickbay.case(job_id)
    assert second["etag"] != first["etag"]
    (revision,) = second["revisions"]
    assert (revision["actor"], revision["before"], revision["after"]) == ("ada", first["payload"], {"do": "BAD_REQUEST"})
    stale = sickbay.plane.post(f"/quarantine/{job_id}/resubmit", json={"payload": {"do": "ok"}, "etag": first["etag"]})
    assert (stale.status_code, stale.json()["statusCode"], stale.json()["reason"]) == (409, 409, "ETAG_MISMATCH")
    for call, request in ((sickbay.quarantine.ResubmitJob, ResubmitJobRequest), (sickbay.quarantine.DiscardJob, DiscardJobRequest)):
        with pytest.raises(grpc.RpcError) as caught:
            call(request(job_id=job_id, etag=first["etag"]))
        assert refusal(caught.value)[:2] == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert sickbay.case(job_id)["etag"] == second["etag"]

    good = sickbay.plane.post(f"/quarantine/{job_id}/resubmit", json={"payload": {"do": "ok"}, "etag": second["etag"], "by": "ada"})
    assert good.status_code == 200
    sickbay.wait(job_id, "SUCCEEDED")
    told = [(change["generation"], change["state"]) for change in sickbay.job(job_id)["history"]]
    tries = ["QUEUED", *["RUNNING", "RETRYING"] * MAX_RETRIES, "RUNNING", "QUARANTINED"]
    assert told == [(0, state) for state in tries] + [(1, state) for state in tries] + [(2, s) for s in ("QUEUED", "RUNNING", "SUCCEEDED")]
    assert [run.generation for run in clinic.runs(job_id=job_id)] == [0] * 4 + [1] * 4 + [2]
    assert sickbay.plane.get(f"/quarantine/{job_id}").status_code == 404


def test_jobs_with_one_cause_are_one_group(sickbay: Clients):
    """Numbers in the messages do not make another group; other words do."""
    for says in ("user 17 has no address", "user 4711 has no address", "the subject is empty"):
        quarantined(sickbay, "groups", says)
    groups = sickbay.plane.get("/quarantine/groups", params={"jobType": "groups"}).json()["groups"]
    assert [(group["count"], group["errorCode"]) for group in groups] == [(2, "VALIDATION_ERROR"), (1, "VALIDATION_ERROR")]
    members = sickbay.plane.get("/quarantine", params={"fingerprint": groups[0]["fingerprint"]}).json()
    assert members["count"] == 2
    assert groups[0]["sampleJobId"] in {job["jobId"] for job in members["jobs"]}


def test_a_job_of_an_unknown_type_waits_for_its_right_name(sickbay: Clients, clinic: Clinic):
    """UNKNOWN_TYPE is quarantined; a resubmit with the right type runs it."""
    job_id = sickbay.submit("rihgt", {"kept": [1, 2]})
    sickbay.wait(job_id, "QUARANTINED")
    case = sickbay.case(job_id)
    assert (case["reason"], case["payload"]) == ("UNKNOWN_TYPE", {"kept": [1, 2]})
    answer = sickbay.plane.post(f"/quarantine/{job_id}/resubmit", json={"jobType": "right", "etag": case["etag"]})
    assert answer.status_code == 200
    sickbay.wait(job_id, "SUCCEEDED")
    assert clinic.count("right") == {job_id: 1}
    assert sickbay.job(job_id)["jobType"] == "right"


def test_a_discarded_job_is_gone_for_good(sickbay: Clients):
    """DISCARDED ends a job; doing it twice is fine, bringing it back is not possible."""
    job_id = quarantined(sickbay, "bad")
    for _ in range(2):
        answer = sickbay.plane.post(f"/quarantine/{job_id}/discard", json={"by": "ada"})
        assert (answer.status_code, answer.json()["state"]) == (200, "DISCARDED")
    assert sickbay.states(job_id)[-1] == "DISCARDED"
    refused = sickbay.plane.post(f"/quarantine/{job_id}/resubmit")
    assert (refused.status_code, refused.json()["reason"]) == (409, "WRONG_STATE")

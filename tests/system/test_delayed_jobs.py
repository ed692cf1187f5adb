"""Jobs that run later, through REST and gRPC: accepted as SCHEDULED, seen, changed, run at their time or before it, and cancelled."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import grpc
import pytest

from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.job_service_pb2 import (
    BatchSubmitJobsRequest,
    CancelJobRequest,
    ExplainJobRequest,
    GetJobRequest,
    SubmitJobRequest,
    WatchJobRequest,
)
from sickbay.jobs.v1.scheduled_job_service_pb2 import GetScheduledJobRequest, RunScheduledJobRequest, UpdateScheduledJobRequest
from tests.support.clients import PATIENCE_S, Clients, refusal

HOUR_S: Final = 3_600


def scheduled(sickbay: Clients, job_id: str) -> dict[str, Any]:
    """`GET /scheduled-jobs/{id}`."""
    answer = sickbay.plane.get(f"/scheduled-jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ms(words: str) -> int:
    """A time of REST in milliseconds."""
    return round(datetime.fromisoformat(words).timestamp() * 1000)


def test_a_job_with_a_delay_runs_when_it_is_due(sickbay: Clients):
    """Its run begins at its time or up to a second later; until then it is SCHEDULED, with its time in every view."""
    answer = sickbay.api.post("/jobs", json={"jobType": "later", "payload": {"n": 1}, "delaySeconds": 1.5})
    told = answer.json()
    job_id, due = told["jobId"], ms(told["runAt"])
    assert (answer.status_code, told) == (
        202,
        {"status": "accepted", "message": "Job scheduled", "jobType": "later", "jobId": job_id, "runAt": told["runAt"]},
    )
    found = sickbay.job(job_id)
    assert (found["state"], found["runAt"], [step["state"] for step in found["history"]]) == ("SCHEDULED", told["runAt"], ["SCHEDULED"])
    assert due - ms(found["submittedAt"]) == 1500

    sickbay.wait(job_id, "SUCCEEDED")
    ended = sickbay.job(job_id)
    began = next(ms(step["at"] if "at" in step else step["time"]) for step in ended["history"] if step["state"] == "RUNNING")
    assert due <= began < due + 1500
    assert ended["runAt"] == told["runAt"]
    assert [step["state"] for step in ended["history"]] == ["SCHEDULED", "QUEUED", "RUNNING", "SUCCEEDED"]
    assert ended["attempt"] == 0


def test_a_job_with_a_time_of_another_zone_is_due_then(sickbay: Clients):
    due = datetime.now(timezone(timedelta(hours=5, minutes=45))).replace(microsecond=250_000) + timedelta(hours=1)
    told = sickbay.api.post("/jobs", json={"jobType": "later", "payload": {}, "runAt": due.isoformat()}).json()
    assert datetime.fromisoformat(told["runAt"]) == due
    assert scheduled(sickbay, told["jobId"])["runAt"] == told["runAt"]


@pytest.mark.parametrize("when", [{"runAt": "2001-01-01T00:00:00Z"}, {"delaySeconds": 0}, {"delaySeconds": None}])
def test_a_job_whose_time_has_passed_runs_at_once(sickbay: Clients, when: dict[str, Any]):
    answer = sickbay.api.post("/jobs", json={"jobType": "later", "payload": {}, **when})
    assert answer.json()["message"] == "Job queued for processing"
    sickbay.wait(answer.json()["jobId"], "SUCCEEDED")
    assert "SCHEDULED" not in sickbay.states(answer.json()["jobId"])


def test_a_batch_has_jobs_that_run_later(sickbay: Clients):
    line = {"jobType": "later", "payload": {"n": 1}}
    answer = sickbay.api.post("/jobs:batch", json={"jobs": [line | {"delaySeconds": HOUR_S}, line, line | {"delaySeconds": -1}]})
    first, second, third = answer.json()["results"]
    assert scheduled(sickbay, first["jobId"])["payload"] == {"n": 1}
    sickbay.wait(second["jobId"], "SUCCEEDED")
    assert "the delay must be 0 to 315619200 seconds, not -1" in third["error"]["message"]
    requests = [SubmitJobRequest(job_type="later", payload_json="{}") for _ in range(2)]
    requests[1].run_time.FromJsonString("2099-01-01T00:00:00Z")
    results = sickbay.jobs.BatchSubmitJobs(BatchSubmitJobsRequest(requests=requests)).results
    assert sickbay.jobs.GetJob(GetJobRequest(job_id=results[1].job_id)).job.state == Job.STATE_SCHEDULED


def test_jobs_are_listed_by_when_they_are_due(sickbay: Clients):
    """Those due first first, page by page, without payloads; filtered by type and time."""
    delays = [HOUR_S * hours for hours in (3, 1, 2, 5, 4)]
    ids = [sickbay.submit("listed-later", {"secret": 1}, delaySeconds=delay) for delay in delays]
    in_order = [ids[place] for place in (1, 2, 0, 4, 3)]
    for job_id in ids:
        scheduled(sickbay, job_id)
    found: list[str] = []
    query = {"jobType": "listed-later", "pageSize": 2}
    while True:
        page = sickbay.plane.get("/scheduled-jobs", params=query).json()
        assert not any("payload" in job for job in page["jobs"])
        found += [job["jobId"] for job in page["jobs"]]
        if not page.get("nextPageToken"):
            break
        query["pageToken"] = page["nextPageToken"]
    assert found == in_order
    before = scheduled(sickbay, ids[2])["runAt"]
    early = sickbay.plane.get("/scheduled-jobs", params={"jobType": "listed-later", "before": before}).json()
    assert [job["jobId"] for job in early["jobs"]] == [ids[1]]
    listed = sickbay.api.get("/jobs", params={"jobType": "listed-later", "state": "SCHEDULED"}).json()
    assert {job["jobId"] for job in listed["jobs"]} == set(ids)
    assert all("runAt" in job for job in listed["jobs"])
    assert sickbay.plane.get("/metrics").json()["jobs"]["byState"]["SCHEDULED"] >= len(ids)


def test_a_job_is_changed_before_it_is_due(sickbay: Clients):
    """Its time, payload and priority; each change has another etag, and a stale one is rejected. The old payload is kept."""
    job_id = sickbay.submit("later", {"n": 1}, delaySeconds=HOUR_S)
    first = scheduled(sickbay, job_id)
    later = "2099-05-06T07:08:09.123Z"
    answer = sickbay.plane.patch(f"/scheduled-jobs/{job_id}", json={"runAt": later, "etag": first["etag"], "priority": "HIGH"})
    assert answer.status_code == 200, answer.text
    second = scheduled(sickbay, job_id)
    assert (second["runAt"], second["priority"], second["payload"]) == (later, "HIGH", {"n": 1})
    assert answer.json()["etag"] == second["etag"] != first["etag"]
    stale = sickbay.plane.patch(f"/scheduled-jobs/{job_id}", json={"delaySeconds": 5, "etag": first["etag"]})
    assert (stale.status_code, stale.json()["reason"]) == (409, "ETAG_MISMATCH")
    changed = sickbay.plane.patch(f"/scheduled-jobs/{job_id}", content=b'{"payload":{"n": 2.0,  "m":1},"by":"olga"}', headers=JSON)
    assert changed.status_code == 200, changed.text
    text = sickbay.plane.get(f"/scheduled-jobs/{job_id}").text
    assert '"payload":{"n": 2.0,  "m":1}' in text
    (revision,) = json.loads(text)["revisions"]
    assert (revision["actor"], revision["before"], revision["after"]) == ("olga", {"n": 1}, {"n": 2.0, "m": 1})

    assert sickbay.plane.patch(f"/scheduled-jobs/{job_id}", json={"delaySeconds": 0}).status_code == 200
    sickbay.wait(job_id, "SUCCEEDED")
    assert sickbay.plane.get(f"/scheduled-jobs/{job_id}").status_code == 404


JSON: Final = {"content-type": "application/json"}


def test_an_earlier_time_holds_at_once(sickbay: Clients):
    """Nobody waits for the time that the job had before."""
    job_id = sickbay.submit("later", {}, delaySeconds=HOUR_S)
    changed = sickbay.plane.patch(f"/scheduled-jobs/{job_id}", json={"delaySeconds": 0.3}).json()
    sickbay.wait(job_id, "SUCCEEDED")
    began = next(ms(step["time"]) for step in sickbay.job(job_id)["history"] if step["state"] == "RUNNING")
    assert ms(changed["runAt"]) <= began < ms(changed["runAt"]) + 1500


def test_a_job_is_run_before_it_is_due(sickbay: Clients):
    job_id = sickbay.submit("later", {"n": 1}, delaySeconds=HOUR_S)
    answer = sickbay.plane.post(f"/scheduled-jobs/{job_id}/run", json={"by": "olga"})
    assert (answer.status_code, answer.json()["generation"]) == (200, 1)
    sickbay.wait(job_id, "SUCCEEDED")
    history = sickbay.job(job_id)["history"]
    assert [step["state"] for step in history] == ["SCHEDULED", "QUEUED", "RUNNING", "SUCCEEDED"]
    assert history[1]["actor"] == "olga"
    again = sickbay.plane.post(f"/scheduled-jobs/{job_id}/run", json={})
    assert (again.status_code, again.json()["reason"]) == (404, "JOB_NOT_FOUND")


def test_a_job_is_cancelled_before_it_is_due(sickbay: Clients):
    """By either service, and again without an error; after that it is gone from the list."""
    ids = [sickbay.submit("cancelled-later", {}, delaySeconds=HOUR_S) for _ in range(2)]
    for _ in range(2):
        answer = sickbay.plane.post(f"/scheduled-jobs/{ids[0]}/cancel", json={"by": "olga"})
        assert (answer.status_code, answer.json()["state"]) == (200, "CANCELLED")
        told = sickbay.jobs.CancelJob(CancelJobRequest(job_id=ids[1]))
        assert told.job.state == Job.STATE_CANCELLED
    assert [step["state"] for step in sickbay.job(ids[0])["history"]] == ["SCHEDULED", "CANCELLED"]
    assert sickbay.job(ids[0])["history"][1]["actor"] == "olga"
    assert sickbay.plane.get("/scheduled-jobs", params={"jobType": "cancelled-later"}).json()["jobs"] == []


def test_a_watch_tells_a_change_of_its_time(sickbay: Clients):
    job_id = sickbay.submit("later", {}, delaySeconds=HOUR_S)
    scheduled(sickbay, job_id)
    call = sickbay.jobs.WatchJob(WatchJobRequest(job_id=job_id), timeout=PATIENCE_S)
    first = next(call)
    assert first.job.state == Job.STATE_SCHEDULED
    request = UpdateScheduledJobRequest(job_id=job_id)
    request.run_time.FromJsonString("2099-01-01T00:00:00Z")
    sickbay.scheduled.UpdateScheduledJob(request)
    second = next(call)
    assert (second.job.state, second.job.run_time.ToJsonString()) == (Job.STATE_SCHEDULED, "2099-01-01T00:00:00Z")
    sickbay.scheduled.RunScheduledJob(RunScheduledJobRequest(job_id=job_id))
    assert [reply.job.state for reply in call][-1] == Job.STATE_SUCCEEDED


def test_it_is_explained_why_it_does_not_run(sickbay: Clients):
    job_id = sickbay.submit("later", {}, delaySeconds=HOUR_S)
    told = sickbay.jobs.ExplainJob(ExplainJobRequest(job_id=job_id)).explanation
    assert "to run later: it is due in" in " ".join(told.sentences)


def test_the_same_idempotency_key_gets_the_first_time(sickbay: Clients):
    """A repeat is the same job, due when the first was; another delay is another request."""
    headers = {"idempotency-key": f"later-{time.time_ns()}"}
    body = {"jobType": "later", "payload": {}, "delaySeconds": HOUR_S}
    first = sickbay.api.post("/jobs", json=body, headers=headers).json()
    again = sickbay.api.post("/jobs", json=body, headers=headers).json()
    assert again == first | {"duplicate": True}
    other = sickbay.api.post("/jobs", json=body | {"delaySeconds": 60}, headers=headers)
    assert (other.status_code, other.json()["reason"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_payload_is_kept_byte_for_byte(sickbay: Clients):
    """One of nearly 1 MiB, with spaces and digits that a JSON library would change."""
    payload = '{"n":1.00,"big":123456789012345678901234567890,"text":"' + "x" * (1024 * 1024 - 200) + '","e":"\\u00e9é"}'
    request = SubmitJobRequest(job_type="later", payload_json=payload)
    request.delay.FromSeconds(HOUR_S)
    job_id = sickbay.jobs.SubmitJob(request).job.job_id
    assert sickbay.scheduled.GetScheduledJob(GetScheduledJobRequest(job_id=job_id)).job.payload_json == payload


SOON: Final = (datetime.now(UTC) + timedelta(days=1)).isoformat()
BAD: Final = {
    "both": ({"delaySeconds": 5, "runAt": SOON}, "delay and run_time are two ways to say when the job is to run; send one of them"),
    "eleven years": ({"delaySeconds": 86_400 * 365 * 11}, "the delay must be 0 to 315619200 seconds"),
    "negative": ({"delaySeconds": -0.5}, "the delay must be 0 to 315619200 seconds, not -0.5"),
    "no zone": ({"runAt": "2099-01-01T00:00:00"}, "expected a time as RFC 3339"),
    "words": ({"runAt": "tomorrow"}, "expected a time as RFC 3339"),
    "before 1970": ({"runAt": "1969-12-31T23:59:59Z"}, "the run_time must be a time in the years 1970 to 9999"),
    "text": ({"delaySeconds": "5"}, "delaySeconds"),
    "rejected if open": ({"delaySeconds": 5, "onOpen": "REJECT"}, "on_open REJECT is for a job that is to run now"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_time_is_explained(sickbay: Clients, case: str):
    fields, message = BAD[case]
    answer = sickbay.api.post("/jobs", json={"jobType": "later", "payload": {}, **fields})
    assert answer.status_code == 400, answer.text
    assert message in json.dumps(answer.json())


def test_bad_changes_are_explained(sickbay: Clients):
    job_id = sickbay.submit("later", {}, delaySeconds=HOUR_S)
    path = f"/scheduled-jobs/{job_id}"
    scheduled(sickbay, job_id)
    for body, message in (
        ({}, "there is nothing to change; send delay or run_time, a payload or a priority"),
        ({"delaySeconds": 1, "runAt": SOON}, "two ways to say when"),
        ({"payload": []}, "payload"),
        ({"runAt": "1900-01-01T00:00:00Z"}, "the run_time must be a time in the years 1970 to 9999"),
        ({"priority": "URGENT"}, "priority"),
    ):
        answer = sickbay.plane.patch(path, json=body)
        assert answer.status_code == 400, (body, answer.text)
        assert message in json.dumps(answer.json()), (body, answer.text)
    request = UpdateScheduledJobRequest(job_id=job_id)
    request.run_time.nanos = -1
    with pytest.raises(grpc.RpcError) as refused:
        sickbay.scheduled.UpdateScheduledJob(request)
    assert refusal(refused.value)[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert sickbay.plane.patch("/scheduled-jobs/nobody", json={"delaySeconds": 1}).status_code == 404
    assert scheduled(sickbay, job_id)["payload"] == {}

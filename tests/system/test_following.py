"""Following, cancelling and listing jobs, and events as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import httpx

from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.job_service_pb2 import CancelJobRequest, ListJobsRequest, WatchJobRequest
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.system_under_test import Product


def events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a stream: name and data."""
    return ((name, data) for name, data, _ in events_with_ids(answer))


def events_with_ids(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The events of a stream: name, data, and the id that a browser would send to go on after it."""
    name = last = ""
    for line in answer.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            last = value
        elif field == "data":
            yield name, json.loads(value), last


def test_a_jobs_events_come_as_they_happen_and_end_with_it(sickbay: Clients, clinic: Clinic):
    """GET /jobs/{id}/events: the job as it is, then each change in order."""
    job_id = sickbay.submit("watched", {"do": [clinic.make_gate("watched-job"), "ok"]})
    with sickbay.api.stream("GET", f"/jobs/{job_id}/events") as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        stream = events(answer)
        while next(stream)[1]["state"] != "RUNNING":
            pass
        clinic.open_gate("watched-job")
        told = list(stream)
    assert [(name, data["state"], data["change"]["state"]) for name, data in told] == [("job", "SUCCEEDED", "SUCCEEDED")]


def test_a_watch_tells_every_change_in_order(sickbay: Clients):
    """WatchJob over a whole life with two retries."""
    job_id = sickbay.submit("watched", {"do": ["BAD_REQUEST", "BAD_REQUEST", "ok"]})
    changes = [reply.change for reply in sickbay.jobs.WatchJob(WatchJobRequest(job_id=job_id), timeout=30) if reply.HasField("change")]
    orders = [(change.attempt, change.time.ToMilliseconds()) for change in changes]
    assert all(earlier <= later for earlier, later in pairwise(orders))
    states = [Job.State.Name(change.state).removeprefix("STATE_") for change in changes]
    assert states[-5:] == ["RETRYING", "RUNNING", "RETRYING", "RUNNING", "SUCCEEDED"]


def test_a_stream_of_a_jobs_events_goes_on_after_the_last_one(own_clinic: Clinic, start: Callable[..., Product]):
    """By Last-Event-ID, also after a restart: what was missed comes from the history, and an ended job says that it is over."""
    gate = own_clinic.make_gate("resumed")
    product = start(own_clinic.folder).ready()
    with Clients(product) as sickbay:
        job_id = sickbay.submit("resumed", {"do": ["BAD_REQUEST", gate, "ok"]})
        with sickbay.api.stream("GET", f"/jobs/{job_id}/events") as answer:
            first, last = next((data, last) for _, data, last in events_with_ids(answer) if data["state"] == "RETRYING")
        assert (first["attempt"], bool(last)) == (1, True)
        own_clinic.open_gate("resumed")
        sickbay.wait(job_id, "SUCCEEDED")
        product.stop()
    with Clients(start(own_clinic.folder).ready()) as sickbay:
        sickbay.wait_until_known(job_id)
        with sickbay.api.stream("GET", f"/jobs/{job_id}/events", headers={"Last-Event-ID": last}) as answer:
            told = list(events_with_ids(answer))
        assert [data["state"] for _, data, _ in told][-2:] == ["RUNNING", "SUCCEEDED"]
        assert all(data["change"]["attempt"] >= 1 for _, data, _ in told)
        over = sickbay.api.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": told[-1][2]})
        assert (over.status_code, over.content) == (204, b"")
        anew = sickbay.api.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": "of another service"})
        assert [data["state"] for _, data in events(anew)] == ["SUCCEEDED"]


def test_a_watch_over_grpc_goes_on_after_its_token(sickbay: Clients):
    """Each token gives just what came after it, and the last one gives nothing."""
    job_id = sickbay.submit("watched", {"do": ["BAD_REQUEST", "ok"]})
    sickbay.wait(job_id, "SUCCEEDED")
    whole = list(sickbay.jobs.WatchJob(WatchJobRequest(job_id=job_id, resume_token="0.0.QUEUED"), timeout=30))
    states = [Job.State.Name(reply.job.state).removeprefix("STATE_") for reply in whole]
    assert states == ["RUNNING", "RETRYING", "RUNNING", "SUCCEEDED"]
    for place, reply in enumerate(whole):
        rest = list(sickbay.jobs.WatchJob(WatchJobRequest(job_id=job_id, resume_token=reply.resume_token), timeout=30))
        assert rest == whole[place + 1 :]


def test_a_stream_of_circuits_goes_on_without_what_is_known(sickbay: Clients):
    """By Last-Event-ID: nothing again if nothing was missed, every circuit as it is now if something was."""
    sickbay.wait(sickbay.submit("resumed-circuit"), "SUCCEEDED")
    query = {"jobType": "resumed-circuit"}
    with sickbay.plane.stream("GET", "/breakers/events", params=query) as answer:
        _, _, last = next(events_with_ids(answer))
    with sickbay.plane.stream("GET", "/breakers/events", params=query, headers={"Last-Event-ID": last}) as answer:
        stream = events_with_ids(answer)
        sickbay.plane.post("/breakers/resumed-circuit/force-open", json={"seconds": 60})
        _, data, later = next(stream)
        assert (data["state"], later == last) == ("FORCED_OPEN", False)
    sickbay.plane.post("/breakers/resumed-circuit/reset")
    with sickbay.plane.stream("GET", "/breakers/events", params=query, headers={"Last-Event-ID": later}) as answer:
        assert next(events(answer))[1]["state"] == "CLOSED"


def test_the_circuit_of_a_type_named_events_can_be_seen(sickbay: Clients):
    """Its path is that of the stream; whoever asks for JSON gets the circuit."""
    sickbay.wait(sickbay.submit("events"), "SUCCEEDED")
    answer = sickbay.plane.get("/breakers/events", headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["jobType"], answer.json()["state"]) == (200, "events", "CLOSED")
    assert sickbay.plane.post("/breakers/events/reset").status_code == 200
    for accept in ("*/*", "text/event-stream", "text/event-stream, application/json;q=0.5"):
        with sickbay.plane.stream("GET", "/breakers/events", headers={"accept": accept}) as stream:
            assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_circuits_changes_come_as_events(sickbay: Clients):
    """GET /breakers/events: each circuit as it is, then each change."""
    sickbay.wait(sickbay.submit("watched"), "SUCCEEDED")
    with sickbay.plane.stream("GET", "/breakers/events", params={"jobType": "watched"}) as answer:
        stream = events(answer)
        assert next(stream)[1]["state"] == "CLOSED"
        sickbay.plane.post("/breakers/watched/force-open", json={"seconds": 60})
        name, data = next(stream)
        assert (name, data["jobType"], data["state"]) == ("breaker", "watched", "FORCED_OPEN")
        sickbay.plane.post("/breakers/watched/reset")
        assert next(stream)[1]["state"] == "CLOSED"


def test_a_running_job_is_asked_to_end_and_a_retrying_one_is_cancelled(sickbay: Clients, clinic: Clinic):
    """What completes all the same has succeeded; FAILED_PRECONDITION after it ended; cancelling twice is fine."""
    running = sickbay.submit("cancel", {"do": clinic.make_gate("cancel-me-not")})
    sickbay.wait(running, "RUNNING")
    asked = sickbay.jobs.CancelJob(CancelJobRequest(job_id=running)).job
    assert (asked.state, asked.HasField("cancel_request_time")) == (Job.STATE_RUNNING, True)
    clinic.open_gate("cancel-me-not")
    sickbay.wait(running, "SUCCEEDED")
    ended = sickbay.api.post(f"/jobs/{running}/cancel")
    assert (ended.status_code, ended.json()["reason"]) == (409, "WRONG_STATE")

    retrying = sickbay.submit("cancel", {"do": "BAD_REQUEST"})
    sickbay.wait(retrying, "RETRYING")
    for _ in range(2):
        assert sickbay.jobs.CancelJob(CancelJobRequest(job_id=retrying)).job.state == Job.STATE_CANCELLED
    after = sickbay.submit("cancel", {"do": ["BAD_REQUEST", "ok"]})
    sickbay.wait(after, "SUCCEEDED")
    assert clinic.count("cancel")[retrying] == 1, "its retry would have come before that of the later job"


def test_a_parked_and_a_quarantined_job_can_be_cancelled(sickbay: Clients, clinic: Clinic):
    """A cancelled job stays cancelled when its circuit closes."""
    sickbay.plane.post("/breakers/cancel-parked/force-open")
    parked = sickbay.submit("cancel-parked")
    quarantined = sickbay.submit("never-handled")
    sickbay.wait(quarantined, "QUARANTINED")
    sickbay.wait(parked, "PARKED")
    for job_id in (parked, quarantined):
        answer = sickbay.api.post(f"/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "CANCELLED")
        assert sickbay.states(job_id)[-1] == "CANCELLED"
        assert sickbay.plane.get(f"/quarantine/{job_id}").status_code == 404
    sickbay.plane.post("/breakers/cancel-parked/reset")
    sickbay.wait(sickbay.submit("cancel-parked"), "SUCCEEDED")
    assert clinic.runs(job_id=parked) == []


def test_jobs_are_listed_in_pages_newest_first(sickbay: Clients):
    """Every job once, whatever the size of a page; states filter; lists have no history unless asked."""
    ids = sickbay.submit_all("paged", *({"number": number} for number in range(7)))
    sickbay.wait_all(ids, "SUCCEEDED")
    found: list[str] = []
    request = ListJobsRequest(job_type="paged", page_size=3, states=[Job.STATE_SUCCEEDED])
    while True:
        page = sickbay.jobs.ListJobs(request)
        assert len(page.jobs) <= 3
        found += [job.job_id for job in page.jobs]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sorted(found) == sorted(ids)
    assert found == sorted(ids, reverse=True)
    listed = sickbay.jobs_of("paged", pageSize=2)["jobs"]
    assert all("history" not in job for job in listed)
    assert all(job["history"] for job in sickbay.jobs_of("paged", pageSize=2, history=True)["jobs"])
    assert sickbay.jobs_of("paged", state="QUEUED")["jobs"] == []

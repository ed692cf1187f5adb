"""Schedules of the running product, over REST and gRPC: made, changed, paused, fired, and refused where they make no sense."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import grpc
import pytest

from sickbay.schedules.v1 import schedule_service_pb2 as pb
from sickbay.schedules.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from tests.support.clients import Clients
from tests.support.waiting import until
from tests.system.test_bad_input_rest import assert_refused

MIB = 1024 * 1024
NIGHTLY = {"jobType": "healthy", "cron": "0 3 * * *", "timezone": "Europe/Berlin", "payload": {"a": 9007199254740993}}


@pytest.fixture
def name(sickbay: Clients) -> Iterator[str]:
    """Of a schedule of the test's own, which is deleted at its end."""
    chosen = f"s-{uuid.uuid4().hex}"
    yield chosen
    sickbay.plane.delete(f"/schedules/{chosen}")


@pytest.fixture
def stub(sickbay: Clients) -> Iterator[Any]:
    """Of the service."""
    with grpc.insecure_channel(f"127.0.0.1:{sickbay.grpc_ports['Control plane']}") as channel:
        yield ScheduleServiceStub(channel)


def create(sickbay: Clients, name: str, spec: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The schedule as it was created."""
    answer = sickbay.plane.post("/schedules", json={"scheduleId": name, "spec": spec or NIGHTLY, **fields})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def runs(sickbay: Clients, name: str, **query: Any) -> list[dict[str, Any]]:
    """The runs of a schedule, newest first."""
    found: list[dict[str, Any]] = sickbay.plane.get(f"/schedules/{name}/runs", params=query).json()["runs"]
    return found


def test_a_schedule_is_created_with_its_next_times(sickbay: Clients, name: str):
    made = create(sickbay, name, {**NIGHTLY, "startAt": "2030-03-30T12:00:00+01:00"}, paused=False)
    assert made["nextTimes"] == [  # clocks go forward on the 31st
        "2030-03-31T01:00:00.000Z",
        *(f"2030-04-0{day}T01:00:00.000Z" for day in (1, 2, 3, 4)),
    ]
    assert made["descriptionOfTimes"].startswith("At 03:00 every day in Europe/Berlin; next: Sun 2030-03-31 03:00 CEST, ")
    assert made["spec"] == {
        **NIGHTLY,
        "priority": "NORMAL",
        "startAt": "2030-03-30T11:00:00.000Z",
        "overlap": "SKIP",
        "catchUpWindowSeconds": 86_400,
        "pauseOnFailure": False,
        "whileOpen": "RUN",
    }
    assert (made["scheduleId"], made["tenant"], made["state"], made["origin"]) == (name, "default", "ACTIVE", "API")
    answer = sickbay.plane.get(f"/schedules/{name}")
    assert answer.json() == made
    assert "9007199254740993" in answer.text, "integers beyond 2^53 are kept"
    (listed,) = [one for one in sickbay.plane.get("/schedules?pageSize=1000").json()["schedules"] if one["scheduleId"] == name]
    assert "payload" not in listed["spec"]
    assert listed["nextTimes"] == made["nextTimes"][:1]
    assert_refused(sickbay.plane.post("/schedules", json={"scheduleId": name, "spec": NIGHTLY}), 409, "SCHEDULE_EXISTS")


def test_what_is_only_validated_shows_its_times_and_is_not_there(sickbay: Clients, name: str):
    told = create(sickbay, name, {"jobType": "healthy", "cron": "0 0 29 2 *"}, validateOnly=True)
    assert [time[:10] for time in told["nextTimes"]] == ["2028-02-29", "2032-02-29", "2036-02-29", "2040-02-29", "2044-02-29"]
    assert_refused(sickbay.plane.get(f"/schedules/{name}"), 404, "SCHEDULE_NOT_FOUND")


def test_a_change_needs_the_etag_of_what_was_read(sickbay: Clients, name: str):
    made = create(sickbay, name)
    path = f"/schedules/{name}"
    spec = {"jobType": "healthy", "intervalSeconds": 3600, "description": "every hour", "catchUpWindowSeconds": 0, "overlap": "BUFFER_ONE"}
    body = {"etag": made["etag"], "spec": spec}
    tried = sickbay.plane.put(path, json={**body, "validateOnly": True}).json()
    assert (tried["etag"], tried["spec"]["intervalSeconds"]) == (made["etag"], 3600)
    assert sickbay.plane.get(path).json() == made
    changed = sickbay.plane.put(path, json=body).json()
    assert changed["etag"] != made["etag"]
    assert {**changed["spec"], **spec} == changed["spec"]
    assert "cron" not in changed["spec"]
    assert len(changed["nextTimes"]) == 5
    assert_refused(sickbay.plane.put(path, json=body), 409, "ETAG_MISMATCH")
    for change in ("pause", "resume"):
        assert_refused(sickbay.plane.post(f"{path}/{change}", json={"etag": made["etag"]}), 409, "ETAG_MISMATCH")
    assert_refused(sickbay.plane.delete(path, params={"etag": made["etag"]}), 409, "ETAG_MISMATCH")
    again = sickbay.plane.put(path, json={"etag": changed["etag"], "spec": changed["spec"]}).json()
    assert again == changed, "what was read may be sent back as it is"


def test_pause_and_resume(sickbay: Clients, name: str):
    create(sickbay, name)
    waiting = sickbay.plane.post(f"/schedules/{name}/pause", json={"note": "holiday", "by": "ada"}).json()
    assert (waiting["state"], waiting["pauseNote"], waiting["pausedBy"], waiting["nextTimes"]) == ("PAUSED", "holiday", "ada", [])
    going = sickbay.plane.post(f"/schedules/{name}/resume", json={}).json()
    assert (going["state"], len(going["nextTimes"])) == ("ACTIVE", 5)
    assert "pauseNote" not in going
    assert going["etag"] != waiting["etag"]


def test_a_job_is_triggered_once_for_each_key(sickbay: Clients, name: str):
    """Also of a schedule that is paused."""
    create(sickbay, name, paused=True)
    path, key = f"/schedules/{name}/trigger", {"idempotency-key": "one"}
    first = sickbay.plane.post(path, json={"by": "ada"}, headers=key).json()
    assert (first["trigger"], first["outcome"], first["actor"], first["count"]) == ("MANUAL", "SUBMITTED", "ada", 1)
    assert sickbay.plane.post(path, json={"by": "ada"}, headers=key).json()["jobId"] == first["jobId"]
    other = sickbay.plane.post(path, json={}, headers={"idempotency-key": "two"}).json()
    assert other["jobId"] != first["jobId"]
    sickbay.wait_all([first["jobId"], other["jobId"]], "SUCCEEDED")
    job = sickbay.job(first["jobId"])
    assert (job["scheduleId"], job["tickAt"]) == (name, first["tickAt"])
    until(lambda: [run.get("jobState") for run in runs(sickbay, name)] == ["SUCCEEDED", "SUCCEEDED"])
    found = runs(sickbay, name)
    assert {run["jobId"] for run in found} == {first["jobId"], other["jobId"]}
    assert all("endedAt" in run for run in found)
    assert runs(sickbay, name, outcome="MISSED") == []
    page = sickbay.plane.get(f"/schedules/{name}/runs?pageSize=1").json()
    rest = sickbay.plane.get(f"/schedules/{name}/runs", params={"pageSize": 1, "pageToken": page["nextPageToken"]}).json()
    assert page["runs"] + rest["runs"] == found
    assert_refused(sickbay.plane.post(path, json={}, headers={"idempotency-key": "x" * 129}), 400, "INVALID_FIELD")


def test_times_of_the_past_are_made_up_for_once(sickbay: Clients, name: str):
    create(sickbay, name)
    path, window = f"/schedules/{name}/backfill", {"startAt": "2026-01-01T00:00:00Z", "endAt": "2026-01-04T00:00:00Z"}
    planned = sickbay.plane.post(path, json={**window, "validateOnly": True}).json()
    ticks = [f"2026-01-0{day}T02:00:00.000Z" for day in (1, 2, 3)]
    assert planned == {"runs": [{"tickAt": tick, "trigger": "BACKFILL", "count": 1} for tick in ticks], "existing": 0}
    assert runs(sickbay, name) == []
    done = sickbay.plane.post(path, json=window).json()
    assert [run["tickAt"] for run in done["runs"]] == ticks
    sickbay.wait_all([run["jobId"] for run in done["runs"]], "SUCCEEDED")
    assert {sickbay.job(run["jobId"])["tickAt"] for run in done["runs"]} == set(ticks)
    for more in ({}, {"validateOnly": True}):
        assert sickbay.plane.post(path, json={**window, **more}).json() == {"runs": [], "existing": 3}
    assert len(runs(sickbay, name)) == 3
    told = assert_refused(sickbay.plane.post(path, json={**window, "startAt": "1990-01-01T00:00:00Z"}), 400, "INVALID_FIELD")
    assert "there are 13,152 times" in told
    assert "end_time 1992-09-27T02:00:00Z" in told
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for bad in ({"endAt": later}, {"endAt": window["startAt"]}, {"endAt": None}, {"startAt": 5}):
        assert_refused(sickbay.plane.post(path, json={**window, **bad}), 400, "INVALID_FIELD")


def test_an_interval_of_a_second_fires_every_second(sickbay: Clients, name: str):
    create(sickbay, name, {"jobType": "healthy", "intervalSeconds": 1, "overlap": "ALLOW"})
    until(lambda: len(runs(sickbay, name, outcome="SUBMITTED")) >= 3)
    assert sickbay.plane.post(f"/schedules/{name}/pause", json={}).status_code == 200
    fired = runs(sickbay, name, outcome="SUBMITTED")
    ticks = [datetime.fromisoformat(run["tickAt"]) for run in fired]
    assert {before - after for before, after in pairwise(ticks)} == {timedelta(seconds=1)}
    assert all(tick.microsecond == 0 for tick in ticks)
    assert {run["trigger"] for run in fired} == {"TICK"}
    assert len({run["jobId"] for run in fired}) == len(fired)
    for run in fired:
        sickbay.wait(run["jobId"], "SUCCEEDED")
        job = sickbay.job(run["jobId"])
        assert (job["scheduleId"], job["tickAt"], job["runAt"]) == (name, run["tickAt"], run["tickAt"])
    shown = sickbay.plane.get(f"/schedules/{name}").json()
    assert shown["lastRun"]["jobId"] == fired[0]["jobId"]


def test_a_deleted_one_is_gone_and_its_jobs_stay(sickbay: Clients, name: str):
    create(sickbay, name)
    run = sickbay.plane.post(f"/schedules/{name}/trigger", json={}).json()
    answer = sickbay.plane.delete(f"/schedules/{name}")
    assert (answer.status_code, answer.json()) == (200, {})
    for gone in (sickbay.plane.get, sickbay.plane.delete):
        assert_refused(gone(f"/schedules/{name}"), 404, "SCHEDULE_NOT_FOUND")
    assert_refused(sickbay.plane.get(f"/schedules/{name}/runs"), 404, "SCHEDULE_NOT_FOUND")
    sickbay.wait(run["jobId"], "SUCCEEDED")
    create(sickbay, name)
    assert runs(sickbay, name) == []


def test_the_audit_log_tells_each_action(sickbay: Clients, name: str):
    create(sickbay, name, by="ada")
    sickbay.plane.put(f"/schedules/{name}", json={"spec": {**NIGHTLY, "cron": "0 4 * * *"}, "by": "ada"})
    sickbay.plane.post(f"/schedules/{name}/pause", json={"note": "holiday"})
    sickbay.plane.delete(f"/schedules/{name}")
    sickbay.plane.delete(f"/schedules/{name}")

    def told() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = sickbay.plane.get("/audit", params={"target": name, "oldestFirst": True}).json()["entries"]
        return found

    until(lambda: [one["result"] for one in told()] == ["OK", "OK", "OK", "OK", "NOT_FOUND"])
    created, changed, paused, deleted, _ = told()
    assert {(one["targetKind"], one["tenant"]) for one in told()} == {("schedule", "default")}
    assert (changed["before"], changed["after"]) == ("ACTIVE, cron=0 3 * * *", "ACTIVE, cron=0 4 * * *")
    assert (paused["before"], paused["after"], paused["note"]) == ("ACTIVE", "PAUSED", "holiday")
    assert (created["claimedActor"], deleted["after"]) == ("ada", "deleted")
    assert "9007199254740993" not in json.dumps(told())


def test_grpc_says_the_same_as_rest(sickbay: Clients, stub: Any, name: str):
    made = create(sickbay, name)
    told = stub.GetSchedule(pb.GetScheduleRequest(schedule_id=name)).schedule
    assert (told.etag, told.description_of_times) == (made["etag"], made["descriptionOfTimes"])
    assert json.loads(told.spec.payload_json) == NIGHTLY["payload"]
    changed = pb.UpdateScheduleRequest(schedule_id=name, spec=told.spec, etag=told.etag)
    assert stub.UpdateSchedule(changed).schedule == told

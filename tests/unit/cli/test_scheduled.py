"""`submit --in` and `--at`, and `sickbay scheduled`, against a fake control plane."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import grpc
import pytest

from sickbay.contract.faults import Fault
from sickbay.jobs.v1 import job_service_pb2
from sickbay.jobs.v1 import scheduled_job_service_pb2 as pb
from sickbay.jobs.v1.job_pb2 import PRIORITY_HIGH
from sickbay_cli.moments import parse_moment
from tests.support.cli_services import DUE_MS, JOB_ID, Fleet, job, scheduled

SENDING = Fault(grpc.StatusCode.FAILED_PRECONDITION, "the job is being sent to the workers", "WRONG_STATE")


@pytest.fixture
def fleet():
    with Fleet() as started:
        started.answers["ListScheduledJobs"] = pb.ListScheduledJobsResponse(jobs=[scheduled(one) for one in "abc"])
        started.answers["GetScheduledJob"] = pb.GetScheduledJobResponse(job=scheduled(payload_json='{"n":12345678901234567890}'))
        started.answers["UpdateScheduledJob"] = lambda request: pb.UpdateScheduledJobResponse(job=scheduled(request.job_id))
        started.answers["RunScheduledJob"] = lambda request: pb.RunScheduledJobResponse(job=job(request.job_id))
        started.answers["CancelScheduledJob"] = lambda request: pb.CancelScheduledJobResponse(job=job(request.job_id, "CANCELLED"))
        started.answers["SubmitJob"] = job_service_pb2.SubmitJobResponse(job=scheduled().job)
        started.answers["BatchSubmitJobs"] = lambda request: job_service_pb2.BatchSubmitJobsResponse(
            results=[job_service_pb2.BatchSubmitResult(job_id=str(at)) for at, _ in enumerate(request.requests)]
        )
        yield started


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def sent(fleet: Fleet, method: str) -> list[Any]:
    return [request for name, request in fleet.calls if name == method]


def test_a_job_for_later_says_when_it_runs(fleet: Fleet, in_berlin: None):
    result = fleet.run("submit", "email", "--in", "1h30m")
    assert result.stdout.startswith(f"accepted {JOB_ID} and runs at 2096-10-02 09:06:40 CEST, in ")
    assert fleet.requests[0].delay.seconds == 5400
    assert not fleet.requests[0].HasField("run_time")


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2027-01-01T08:00+01:00", "2027-01-01T07:00:00Z"),
        ("2027-01-01T08:00Z", "2027-01-01T08:00:00Z"),
        ("2027-01-01T08:00", "2027-01-01T07:00:00Z"),
        ("2027-07-01 08:00:00", "2027-07-01T06:00:00Z"),
        ("2027-07-01", "2027-06-30T22:00:00Z"),
    ],
)
def test_a_time_without_offset_is_of_this_machine(fleet: Fleet, in_berlin: None, text: str, utc: str):
    assert fleet.run("submit", "email", "--at", text).exit_code == 0
    assert fleet.requests[0].run_time.ToJsonString() == utc


@pytest.mark.parametrize("text", ["tomorrow", "08:00", "", "1969-12-31T23:59Z", "2027-13-01", "1", "9999-12-31T23:59-12:00", "nan"])
def test_what_is_no_time_is_a_usage_error(fleet: Fleet, text: str):
    result = fleet.run("submit", "email", "--at", text)
    assert result.exit_code == 2
    assert "write for example 2027-01-01T08:00" in result.stderr
    assert fleet.calls == []


def test_in_and_at_exclude_each_other(fleet: Fleet):
    result = fleet.run("submit", "email", "--in", "1h", "--at", "2027-01-01")
    assert (result.exit_code, "use either --in or --at, not both" in result.stderr) == (2, True)


def test_lines_of_a_file_have_times_of_their_own(fleet: Fleet):
    lines = [
        {"jobType": "email", "delaySeconds": 90.5},
        {"jobType": "email", "runAt": "2027-01-01T08:00:00+01:00"},
        {"jobType": "email"},
        {"jobType": "email", "runAt": "2027-01-01T08:00"},
        {"jobType": "email", "delaySeconds": -1},
    ]
    result = fleet.run("submit", "--from", "-", "--in", "5s", stdin="\n".join(map(json.dumps, lines)))
    assert result.exit_code == 1
    (batch,) = sent(fleet, "BatchSubmitJobs")
    first, second, third = batch.requests
    assert (first.delay.ToMilliseconds(), first.HasField("run_time")) == (90_500, False)
    assert (second.run_time.ToJsonString(), second.HasField("delay")) == ("2027-01-01T07:00:00Z", False)
    assert third.delay.seconds == 5
    assert "line 4: runAt: write a time with its offset, such as 2027-01-01T08:00:00+01:00, not '2027-01-01T08:00'" in result.stderr
    assert "line 5: delaySeconds must be 0 to 315619200, not -1" in result.stderr


def test_copies_and_rest_of_the_answer(fleet: Fleet):
    assert fleet.run("submit", "email", "--in", "5s", "--count", "3").exit_code == 0
    assert [one.delay.seconds for one in fleet.requests[0].requests] == [5, 5, 5]
    assert fleet.json("submit", "email", "--in", "5s")["runAt"] == "2096-10-02T07:06:40.000Z"


def test_jobs_have_a_column_of_times_if_one_is_scheduled(fleet: Fleet, in_berlin: None):
    fleet.answers["ListJobs"] = job_service_pb2.ListJobsResponse(jobs=[scheduled("a").job, job("b")])
    shown = fleet.run("jobs", "--state", "scheduled").stdout
    assert "RUNS AT" in shown
    assert "2096-10-02 09:06:40 CEST" in shown
    fleet.answers["ListJobs"] = job_service_pb2.ListJobsResponse(jobs=[job("b")])
    assert "RUNS AT" not in fleet.run("jobs").stdout
    fleet.answers["GetJob"] = job_service_pb2.GetJobResponse(job=scheduled("a").job)
    assert "runs at 2096-10-02 09:06:40 CEST, in " in " ".join(fleet.run("get", "a").stdout.split())


def test_list_with_all_filters(fleet: Fleet):
    filters = ["--type", "email", "--tenant", "acme", "--schedule", "nightly", "--before", "2027-01-01T08:00Z"]
    result = fleet.run("scheduled", "list", *filters)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 4)
    (request,) = fleet.requests
    assert (request.job_type, request.tenant, request.schedule_id) == ("email", "acme", "nightly")
    assert request.before_time.ToJsonString() == "2027-01-01T08:00:00Z"
    assert [one["job"]["jobId"] if "job" in one else one["jobId"] for one in fleet.json("scheduled", "list")["jobs"]] == [*"abc"]
    fleet.answers["ListScheduledJobs"] = pb.ListScheduledJobsResponse()
    assert fleet.run("scheduled", "list").stderr == "no jobs are scheduled\n"
    assert fleet.run("scheduled", "list", "--type", "x").stderr == "no scheduled jobs match\n"


def test_show_has_the_payload(fleet: Fleet):
    shown = fleet.run("scheduled", "show", JOB_ID).stdout
    assert '"n": 12345678901234567890' in shown
    assert "2096-10-02" in shown
    fleet.answers["GetScheduledJob"] = pb.GetScheduledJobResponse(job=scheduled(payload_hidden=True))
    assert "hidden (needs the right to read payloads)" in fleet.run("scheduled", "show", JOB_ID).stdout


def test_edit(fleet: Fleet):
    result = fleet.run(
        "scheduled", "edit", JOB_ID, "--at", "2027-01-01T08:00Z", "--priority", "high", "--payload", '{"a": 1}', "--actor", "ada"
    )
    assert result.stdout.startswith(f"changed {JOB_ID}\nit runs at 2096-10-02 ")
    (request,) = fleet.requests
    assert (request.priority, request.payload_json, request.actor, request.etag) == (PRIORITY_HIGH, '{"a": 1}', "ada", "")
    assert request.run_time.ToJsonString() == "2027-01-01T08:00:00Z"
    assert fleet.run("scheduled", "edit", JOB_ID).exit_code == 2
    assert fleet.run("scheduled", "edit", "a", "b", "--payload", "{}").exit_code == 2
    assert fleet.run("scheduled", "edit", "a", "--payload", "{}", "--edit").exit_code == 2


def test_an_edit_in_the_editor_sends_the_etag(fleet: Fleet, tmp_path):
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/12345678901234567890/7/ "$1"\n')
    editor.chmod(0o755)
    result = fleet.run("scheduled", "edit", JOB_ID, "--edit", "--in", "1h", EDITOR=str(editor))
    assert result.stdout.startswith(f"changed {JOB_ID}\nit runs at 2096-10-02 ")
    (request,) = sent(fleet, "UpdateScheduledJob")
    assert (request.etag, json.loads(request.payload_json), request.delay.seconds) == (f"etag-{JOB_ID}", {"n": 7}, 3600)
    fleet.answers["UpdateScheduledJob"] = SENDING
    failed = fleet.run("scheduled", "edit", JOB_ID, "--edit", EDITOR=str(editor))
    assert (failed.exit_code, "your edit is kept" in failed.stderr) == (1, True)


@pytest.mark.parametrize(
    ("command", "method", "words"),
    [
        (["cancel"], "CancelScheduledJob", "cancelled 3 jobs"),
        (["run"], "RunScheduledJob", "queued 3 jobs"),
        (["edit", "--in", "1h"], "UpdateScheduledJob", "changed 3 jobs"),
    ],
)
def test_many_by_filters(fleet: Fleet, command: list[str], method: str, words: str):
    """Each with the etag that was read; asked first."""
    assert fleet.run("scheduled", *command).exit_code == 2
    assert fleet.run("scheduled", *command, "--type", "email").exit_code == 2
    assert fleet.run("scheduled", *command, "a", "--type", "email").exit_code == 2
    asked = fleet.run("scheduled", *command, "--type", "email", "--all")
    assert (asked.exit_code, sent(fleet, method)) == (1, [])
    result = fleet.run("scheduled", *command, "--type", "email", "--all", "--yes")
    assert result.stdout == f"{words}\n"
    assert sorted((one.job_id, one.etag) for one in sent(fleet, method)) == [(one, f"etag-{one}") for one in "abc"]


def test_one_that_is_being_sent_is_refused(fleet: Fleet):
    fleet.answers["CancelScheduledJob"] = SENDING
    result = fleet.run("scheduled", "cancel", JOB_ID)
    assert (result.exit_code, result.stderr) == (1, "Error: the job is being sent to the workers\n")


def test_moments_are_of_a_zone_if_one_is_given():
    assert parse_moment("2096-10-02T07:06:40Z") == DUE_MS
    assert parse_moment(datetime.fromtimestamp(DUE_MS / 1000).isoformat()) == DUE_MS  # noqa: DTZ006 - what a person writes
